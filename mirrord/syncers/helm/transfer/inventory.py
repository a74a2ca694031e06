"""Which target is spoken to how, what the targets hold, and what is noted of them from run to run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, cast

from mirrord.errors import MirrordError, StorageError
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.helm import kept
from mirrord.syncers.helm.names import OCI, ChartVersion, api_of, place_of, repository_of, spec_of
from mirrord.syncers.helm.plan.survey import TargetContent
from mirrord.syncers.helm.spec import HelmTarget
from mirrord.syncers.helm.transfer.chartmuseum import ChartMuseumTarget, Museum
from mirrord.syncers.helm.transfer.coding import CodingTarget
from mirrord.syncers.helm.transfer.directory import DirectoryTarget
from mirrord.syncers.helm.transfer.local import LocalTarget
from mirrord.syncers.helm.transfer.oci import OciTarget
from mirrord.syncers.helm.transfer.target import ChartTarget, Listing, Reading
from mirrord.transfer.fanout import deliberate
from mirrord.wire.oci.reference import Reference

PLACE: Final = ".place"
"""Names, among the facts about a target, where it was: what was seen elsewhere says nothing."""


@dataclass(slots=True)
class Visit:
    """What a target is opened with.

    Attributes:
        reading: reads its index.
        now: Unix time of the run.
        wanted: the versions that shall be there, the oldest first.
        upstream: all that upstream lists.
        facts: what earlier runs noted of it; the target keeps them up to date.
    """

    reading: Reading
    now: float
    wanted: Sequence[ChartVersion] = ()
    upstream: Sequence[ChartVersion] = ()
    facts: dict[str, str] = field(default_factory=dict)


class IndexReader:
    """Reads an index, and remembers its entries when they are wanted whole."""

    def __init__(self, reading: Reading) -> None:
        """Read by `reading`."""
        self._reading = reading
        self.own: Mapping[str, ChartVersion] = {}

    def __call__(self, data: bytes) -> Listing:
        """Return what the index says."""
        listing = self._reading(data)
        self.own = listing.charts
        return listing


def open_target(mirror: Mirror, target: Target, services: Services, visit: Visit) -> ChartTarget:
    """Make the adapter for a target.

    Raises:
        StorageError: the local one, and there is no state.
    """
    api, place = api_of(mirror, target), place_of(mirror, target)
    if api == LOCAL:
        if services.blobs is None or services.repositories is None:
            raise StorageError("the local target needs a state directory; give --state")
        return LocalTarget(services.blobs, services.repositories, repository_of(mirror), visit.reading)
    if api == "directory":
        return DirectoryTarget(Path(place), visit.reading)
    if api == "oci":
        reference = Reference.parse(place[len(OCI) :])
        return OciTarget(
            services.http, reference.domain, reference.path, visit.facts, now=visit.now, trust=mirror.trust
        )
    if api == "coding":
        return CodingTarget(services.http, place, visit.reading, visit.facts)
    context = cast("HelmTarget", target.options).context_path
    museum = Museum(context, visit.wanted, visit.upstream, spec_of(mirror).newest, bold=mirror.allow)
    return ChartMuseumTarget(services.http, place, visit.reading, visit.facts, museum)


async def look(
    mirror: Mirror, services: Services, visit: Visit
) -> tuple[Mapping[str, TargetContent], Mapping[str, MirrordError]]:
    """Ask every target what it holds; return what they said, and why some did not.

    Patience is that of `Http`, request by request: a registry far away is asked for thousands of manifests.
    """
    visits = [replace(visit, facts=await known(mirror, target, services)) for target in mirror.targets]
    looks = [_shelf(mirror, *one, services) for one in zip(mirror.targets, visits, strict=True)]
    answers = await asyncio.gather(*looks)
    pairs = list(zip((target.name for target in mirror.targets), answers, strict=True))
    shelves = {name: answer for name, answer in pairs if isinstance(answer, TargetContent)}
    return shelves, {name: answer for name, answer in pairs if isinstance(answer, MirrordError)}


async def _shelf(mirror: Mirror, target: Target, visit: Visit, services: Services) -> TargetContent | MirrordError:
    reader = IndexReader(visit.reading)
    try:
        opened = open_target(mirror, target, services, replace(visit, reading=reader))
        held = await opened.held(visit.wanted)
    except Exception as error:  # noqa: BLE001 - a bug that one target brings out is that target's failure
        return deliberate(error)
    refused = opened.refused(visit.wanted) if isinstance(opened, ChartMuseumTarget) else {}
    own = reader.own if api_of(mirror, target) in (LOCAL, "directory") else None
    return TargetContent(held, own, refused, visit.facts)


async def known(mirror: Mirror, target: Target, services: Services) -> dict[str, str]:
    """Return what was noted of a target, as far as it is still the same place."""
    facts = dict(await kept.recall(mirror, services, f".at.{target.name}"))
    return facts if facts.pop(PLACE, None) == place_of(mirror, target) else {}


async def note(mirror: Mirror, target: Target, services: Services, facts: Mapping[str, str]) -> None:
    """Note what the next run should know of a target.

    Raises:
        StorageError: the disk said no.
    """
    if facts or await known(mirror, target, services):
        await kept.note(mirror, services, f".at.{target.name}", {**facts, PLACE: place_of(mirror, target)})
