"""Where images can be read by digest now: what a deletion would lose for good, and what a restore can start from."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mirrord.errors import MirrordError
from mirrord.model.digest import Digest
from mirrord.syncer.values import LOCAL, Mirror, Services
from mirrord.syncers.image.kept import LocalRepository, open_target
from mirrord.syncers.image.names import source_reference, spec_of
from mirrord.syncers.image.upstream.survey import LOOKS, PATIENCE
from mirrord.transfer.fanout import Workers, together
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.layout_writer import LayoutWriter

SOURCE: Final = "the source"
"""Stands for the source among the names of targets; no target can have this name."""

Place = Repository | LayoutWriter | LocalRepository


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Which places have which images.

    Attributes:
        found: digest → names of the places that have it, `local` first and the source last; () for none.
        unknown: name of a place → why it could not be asked; it may have any of them.
    """

    found: Mapping[Digest, Sequence[str]] = field(default_factory=dict)
    unknown: Mapping[str, MirrordError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Doubts:
    """Places that may have lost an image.

    Attributes:
        never: digest → names of places that are not asked for it.
        late: digest → names of places that are asked for it after all others.
    """

    never: Mapping[str, Collection[str]] = field(default_factory=dict)
    late: Mapping[str, Collection[str]] = field(default_factory=dict)

    def order(self, digest: str, places: Iterable[str]) -> Sequence[str]:
        """Return which places are asked for an image, the best one first."""
        never, late = self.never.get(digest, ()), self.late.get(digest, ())
        return sorted((one for one in places if one not in never), key=late.__contains__)


NO_DOUBTS: Final = Doubts()


def places_to_read(mirror: Mirror, services: Services, without: Collection[str] = ()) -> Mapping[str, Place]:
    """Open where images of a mirror of one repository may be: its targets, and its source if that is a registry.

    `local` is first, since it costs no request, and the source last: its quotas are the tightest. Without a state
    directory there is no `local`. `without` names places to be left out. Raises as `open_target`.
    """
    targets = sorted(mirror.targets, key=lambda target: target.name != LOCAL)
    kept = services.blobs is not None and services.repositories is not None
    there = (target for target in targets if target.name not in without and (kept or target.name != LOCAL))
    found: dict[str, Place] = {target.name: open_target(mirror, target, services) for target in there}
    if spec_of(mirror).source.repository and SOURCE not in without:
        found[SOURCE] = Repository(services.http, source_reference(mirror))
    return found


async def whereabouts(
    mirror: Mirror,
    services: Services,
    digests: Collection[Digest],
    *,
    without: Collection[str] = (),
    doubts: Doubts = NO_DOUBTS,
) -> Whereabouts:
    """Ask the source and every target of a mirror of one repository for manifests by digest: one HEAD each.

    A registry takes no manifest whose content it lacks, so that one stands for all that it refers to; `local` is
    checked whole. A place that fails once is not asked again. `without` names places that are not asked, such as the
    one where it is to be deleted. Raises as `open_target`.
    """
    places = places_to_read(mirror, services, without)
    ordered = await asyncio.to_thread(lambda: {one: doubts.order(str(one), places) for one in sorted(set(digests))})
    there: dict[str, frozenset[Digest]] = {}
    unknown: dict[str, MirrordError] = {}

    async def ask(name: str) -> None:
        held = set[Digest]()

        async def look(digest: Digest) -> None:
            if await places[name].head_manifest(digest, PATIENCE) is not None:
                held.add(digest)

        try:
            await Workers(LOOKS).each([one for one, names in ordered.items() if name in names], look)
        except MirrordError as error:
            unknown[name] = error
        there[name] = frozenset(held)

    await together(*map(ask, places))

    def found() -> Mapping[Digest, Sequence[str]]:
        return {digest: tuple(name for name in names if digest in there[name]) for digest, names in ordered.items()}

    return Whereabouts(await asyncio.to_thread(found), unknown)
