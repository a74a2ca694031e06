"""Which repositories of `local` have what mirrors copy from a repository at a registry."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mirrord.errors import MirrordError
from mirrord.names.naming import below, named
from mirrord.syncer.values import LOCAL, Mirror, Services
from mirrord.syncers.image.names import image_name, is_many, list_file, source_reference, spec_of
from mirrord.syncers.image.plan.many import LISTED, chosen, derived
from mirrord.syncers.image.through.asked import Asked
from mirrord.syncers.image.upstream.many import parts_of
from mirrord.wire.oci.reference import Reference

EVERY: Final = 30.0
"""Least seconds between two looks at lists of images, and at what registries listed."""


class CoveredName(NamedTuple):
    """A repository of `local`."""

    name: str
    tags: bool  # whether its tags are those of the source


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the mapping was made from."""

    mirrors: Sequence[Mirror]
    lists: Sequence[tuple[int, int] | None]
    listed: Sequence[Sequence[str]]


class CoveredNames:
    """The mapping for the mirrors in use."""

    def __init__(self, kind: str, clock: Callable[[], float]) -> None:
        """Know nothing yet."""
        self._kind, self._clock = kind, clock
        self._seen: _Seen | None = None
        self._names: Mapping[str, Sequence[CoveredName]] = {}  # by source
        self._sources: Mapping[str, Sequence[str]] = {}  # by name in `local`
        self._until = 0.0
        self._looking = asyncio.Lock()

    async def names(self, asked: Asked, reference: Reference | None, services: Services) -> Collection[str]:
        """Return the repositories of `local` that may have what a request asks for; `reference` is what it `meant`."""
        found = [asked.local] if asked.local else []
        if reference is not None:
            await self._refresh(services)
            covered = self._names.get(reference.name, ())
            found += [one.name for one in covered if one.tags or asked.path.digest is not None]
        return dict.fromkeys(found)

    async def meant(self, asked: Asked, services: Services) -> Reference | None:
        """Return the repository at a registry that a request means; None where it can only be one of `local`.

        A client that puts a prefix before the names of a registry (containerd's `override_path`) means the source of
        the repository in `local` that is called so.
        """
        reference = asked.reference
        if asked.short and services.repositories and await services.repositories.exists(asked.local):
            return None
        if reference is None or asked.local:
            return reference
        await self._refresh(services)
        for source in self._sources.get(asked.path.name, ()):
            path = below(source, reference.domain)
            if path and asked.path.name.endswith(f"/{path}"):
                return named(source)
        return reference

    async def _refresh(self, services: Services) -> None:
        mirrors = services.mirrors.get(self._kind, ())
        if self._seen is None or self._seen.mirrors is not mirrors or self._clock() >= self._until:
            async with self._looking:
                await self._look(mirrors, services)

    async def _look(self, mirrors: Sequence[Mirror], services: Services) -> None:
        if self._seen is not None and self._seen.mirrors is mirrors and self._clock() < self._until:
            return
        here = [one for one in mirrors if any(target.name == LOCAL for target in one.targets)]
        many = [one for one in here if is_many(one)]
        listed = [[*(await services.facts.recall(one.name, LISTED))] if services.facts else [] for one in many]
        lists = await asyncio.to_thread(lambda: [_stamp(one) for one in many])
        seen = _Seen(mirrors, lists, listed)
        if self._seen is None or self._seen.mirrors is not mirrors or self._seen != seen:
            known = dict(zip((one.name for one in many), listed, strict=True))
            self._names = await asyncio.to_thread(_names, here, known)
            self._sources = _by_name(self._names)
        self._seen, self._until = seen, self._clock() + EVERY


def _stamp(mirror: Mirror) -> tuple[int, int] | None:
    if spec_of(mirror).source.listing is None:
        return None
    try:
        found = list_file(mirror).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _names(mirrors: Sequence[Mirror], listed: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[CoveredName]]:
    found: defaultdict[str, list[CoveredName]] = defaultdict(list)
    for mirror in mirrors:
        for one in _parts(mirror, listed):
            if spec_of(one).source.repository is None:
                continue  # builds of this machine
            try:
                source = one.names.canonical(source_reference(one))
                covered = CoveredName(image_name(one), not spec_of(one).source.names)
            except MirrordError:  # reported where the configuration is checked
                continue
            if covered not in found[source.name]:
                found[source.name].append(covered)
    return found


def _by_name(names: Mapping[str, Sequence[CoveredName]]) -> Mapping[str, Sequence[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for source, covered in names.items():
        for one in covered:
            found[one.name].append(source)
    return found


def _parts(mirror: Mirror, listed: Mapping[str, Sequence[str]]) -> Iterator[Mirror]:
    if not is_many(mirror):
        yield mirror
        return
    yield from parts_of(mirror).mirrors
    if spec_of(mirror).source.registry is not None:
        for source, origin in chosen(mirror, listed.get(mirror.name, ())):
            try:
                yield derived(mirror, source, origin).mirror
            except MirrordError:
                continue
