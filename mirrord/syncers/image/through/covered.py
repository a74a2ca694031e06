"""Which repositories of `local` have what mirrors copy from a repository at a registry."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mirrord.errors import MirrordError
from mirrord.names.naming import below, named
from mirrord.syncer.serving import check_local
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


class LocalOwner(NamedTuple):
    """What a repository of `local` has.

    Attributes:
        mirrors: the names of those that write it.
        sources: the repositories at registries that they copy, in canonical form.
    """

    mirrors: Sequence[str] = ()
    sources: Sequence[str] = ()


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
        self._owners: Mapping[str, LocalOwner] = {}  # by name in `local`
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

        Raises:
            StorageError: `local` cannot be read, or is known to be away.
        """
        reference = asked.reference
        if asked.short and services.repositories:
            check_local(services)
            if await services.repositories.exists(asked.local):
                return None
        if reference is None or asked.local:
            return reference
        await self._refresh(services)
        for source in self._owners.get(asked.path.name, LocalOwner()).sources:
            path = below(source, reference.domain)
            if path and asked.path.name.endswith(f"/{path}"):
                return named(source)
        return reference

    async def owner(self, name: str, services: Services) -> LocalOwner:
        """Return whose a repository of `local` is, as far as the mirrors in use say."""
        await self._refresh(services)
        return self._owners.get(name, LocalOwner())

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
            self._names, self._owners = await asyncio.to_thread(_mapped, here, known)
        self._seen, self._until = seen, self._clock() + EVERY


def _stamp(mirror: Mirror) -> tuple[int, int] | None:
    if spec_of(mirror).source.listing is None:
        return None
    try:
        found = list_file(mirror).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _mapped(
    mirrors: Sequence[Mirror], listed: Mapping[str, Sequence[str]]
) -> tuple[Mapping[str, Sequence[CoveredName]], Mapping[str, LocalOwner]]:
    """Return the repositories of `local` by their sources, and whose each of them is."""
    found: defaultdict[str, list[CoveredName]] = defaultdict(list)
    owners: defaultdict[str, tuple[dict[str, None], dict[str, None]]] = defaultdict(lambda: ({}, {}))
    for mirror in mirrors:
        for one in _parts(mirror, listed):
            try:
                name = image_name(one)
                builds = spec_of(one).source.repository is None  # of this machine
                source = "" if builds else one.names.canonical(source_reference(one)).name
            except MirrordError:  # reported where the configuration is checked
                continue
            owners[name][0][mirror.name] = None
            covered = CoveredName(name, not spec_of(one).source.names)
            if source:
                owners[name][1][source] = None
            if source and covered not in found[source]:
                found[source].append(covered)
    return found, {name: LocalOwner([*whose], [*sources]) for name, (whose, sources) in owners.items()}


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
