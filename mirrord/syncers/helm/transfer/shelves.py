"""Which target is spoken to how, and what the targets hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from mirrord.errors import MirrordError, StorageError
from mirrord.model import Digest
from mirrord.syncer import LOCAL, Mirror, Services, Target
from mirrord.syncers.helm.names import OCI, ChartVersion, api_of, place_of, repository_of
from mirrord.syncers.helm.plan import Shelf
from mirrord.syncers.helm.transfer.chartmuseum import ChartMuseumTarget
from mirrord.syncers.helm.transfer.coding import CodingTarget
from mirrord.syncers.helm.transfer.directory import DirectoryTarget
from mirrord.syncers.helm.transfer.local import LocalTarget
from mirrord.syncers.helm.transfer.oci import OciTarget
from mirrord.syncers.helm.transfer.target import ChartTarget, Reading
from mirrord.wire.oci.reference import Reference

Entries = Callable[[bytes], Collection[ChartVersion]]
"""Reads the entries of an index; raises ContentError when it is none."""


class Reader:
    """Reads an index, and remembers its entries when they are wanted whole."""

    def __init__(self, entries: Entries) -> None:
        """Read by `entries`."""
        self._entries = entries
        self.own: Mapping[str, ChartVersion] = {}

    def __call__(self, data: bytes) -> Mapping[str, Digest]:
        """Return digests by item."""
        self.own = {chart.item: chart for chart in self._entries(data)}
        return {item: chart.digest for item, chart in self.own.items() if chart.digest}


def open_target(mirror: Mirror, target: Target, services: Services, reading: Reading) -> ChartTarget:
    """Make the adapter for a target.

    Raises:
        StorageError: the local one, and there is no state.
    """
    api, place = api_of(mirror, target), place_of(mirror, target)
    if api == LOCAL:
        if services.blobs is None or services.links is None:
            raise StorageError("the local target needs a state directory; give --state")
        return LocalTarget(services.blobs, services.links, repository_of(mirror), reading)
    if api == "directory":
        return DirectoryTarget(Path(place), reading)
    if api == "oci":
        reference = Reference.parse(place[len(OCI) :])
        return OciTarget(services.http, reference.domain, reference.path)
    if api == "coding":
        return CodingTarget(services.http, place, reading)
    return ChartMuseumTarget(services.http, place, reading)


async def look(
    mirror: Mirror, services: Services, charts: Collection[ChartVersion], entries: Entries
) -> tuple[Mapping[str, Shelf], Mapping[str, MirrordError]]:
    """Ask every target what it holds; return what they said, and why some did not.

    Patience is that of `Http`, request by request: a registry far away is asked for thousands of manifests.
    """
    answers = await asyncio.gather(*(_shelf(mirror, target, services, charts, entries) for target in mirror.targets))
    pairs = list(zip((target.name for target in mirror.targets), answers, strict=True))
    shelves = {name: answer for name, answer in pairs if isinstance(answer, Shelf)}
    return shelves, {name: answer for name, answer in pairs if isinstance(answer, MirrordError)}


async def _shelf(
    mirror: Mirror, target: Target, services: Services, charts: Collection[ChartVersion], entries: Entries
) -> Shelf | MirrordError:
    reader = Reader(entries)
    try:
        held = await open_target(mirror, target, services, reader).held(charts)
    except MirrordError as error:
        return error
    return Shelf(held, reader.own if api_of(mirror, target) in (LOCAL, "directory") else None)
