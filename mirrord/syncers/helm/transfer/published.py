"""Indexes of ours, kept beside what was published in a form that is read in a small part of the time.

It counts only for an index of the very bytes that it was kept with. Where it is missing, damaged or of another version
of mirrord, the index itself is read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any, Final

from mirrord.blobs.named import NamedFiles
from mirrord.errors import StorageError
from mirrord.model.digest import Digest
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.helm.kept import files_of
from mirrord.syncers.helm.names import ChartVersion, repository_of
from mirrord.syncers.helm.plan.survey import published
from mirrord.syncers.helm.transfer.target import TEXT, IndexFile, Listing, Reading

FORM: Final = 1
"""Raised when something else is kept of an entry."""
_HEAD: Final = f"{FORM}\n".encode()
_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class PublishedIndexes:
    """What was kept of the indexes of one mirror, by target and digest of the index."""

    def __init__(self, mirror: Mirror, services: Services, reading: Reading, wanted: Iterable[ChartVersion]) -> None:
        """Know nothing yet; `reading` reads an index of which nothing is kept; `wanted` is what is likely in it."""
        self._likely, self._wanted = wanted, dict[str, ChartVersion]()
        self._files: NamedFiles | None = files_of(services, f"{repository_of(mirror)}/published")
        self._targets = {target.name for target in mirror.targets}
        self._reading = reading
        self._kept: dict[Digest, tuple[Digest, bytes]] = {}  # by the digest of the index

    async def load(self) -> None:
        """Read what is kept; what cannot be read is as good as not there."""
        if self._files is None:
            return
        try:
            for name, digest in (await self._files.shown()).items():
                data = await self._files.read(name)
                if data is not None:
                    self._kept[Digest(name.rpartition(" ")[2])] = digest, data
            if self._kept:
                self._wanted = await asyncio.to_thread(lambda: {chart.item: chart for chart in self._likely})
        except StorageError:
            self._kept.clear()

    def listing(self, index: bytes) -> Listing:
        """Return what an index says. Raises as the `reading`; blocks."""
        digest, data = self._kept.get(Digest.of(index), (None, b""))
        if digest == Digest.of(data):
            try:
                return Listing(_read(data, self._wanted))
            except (ValueError, KeyError, TypeError, AttributeError):
                pass
        return self._reading(index)

    async def keep(self, written: Mapping[str, IndexFile]) -> None:
        """Keep what was published at these targets, by name; of others stays what there is.

        Raises:
            StorageError: the disk said no.
        """
        if self._files is None or not written:
            return
        others = self._targets - written.keys()
        shown = await self._files.shown()
        names = {name: one for name, one in shown.items() if name.rpartition(" ")[0] in others}
        for target, index in written.items():
            name = f"{target} {await asyncio.to_thread(Digest.of, index.data)}"
            data = await asyncio.to_thread(_written, index)
            names[name] = await self._files.put(name, data, TEXT)
        lost = await self._files.lost({**shown, **names})  # a collection under way leaves what this replaces
        await self._files.show({name: digest for name, digest in names.items() if name not in lost})


def _written(index: IndexFile) -> bytes:
    """Write a line for each entry, behind one that says how."""
    out = BytesIO()
    out.write(_HEAD)
    for chart in index.charts:
        out.write(_line(chart))
    return out.getvalue()


def _line(chart: ChartVersion) -> bytes:
    return f"{chart.item}\t{_dump([chart.keys, published(chart)])}\n".encode()


def _read(data: bytes, wanted: Mapping[str, ChartVersion]) -> Mapping[str, ChartVersion]:
    """Read the lines; what an entry has in common with the wanted one is in memory once, and not read at all."""
    lines = BytesIO(data)
    if (head := lines.readline()) != _HEAD:
        raise ValueError(head)
    charts = {}
    for line in lines:
        item, _, text = line.partition(b"\t")
        chart = wanted.get(item.decode())
        if chart is not None and _line(chart) == line:
            keys, entry = chart.keys, published(chart)
        else:
            keys, entry = json.loads(text)
        ours = _chart(tuple(keys), entry)
        charts[ours.item] = ours
    return charts


def _chart(keys: tuple[str, ...], entry: Mapping[str, Any]) -> ChartVersion:
    digest, deprecated = entry.get("digest"), entry.get("deprecated") is True
    return ChartVersion(
        entry["name"],
        entry["version"],
        Digest(f"sha256:{digest}") if digest else None,
        tuple(entry["urls"]),
        entry.get("created"),
        deprecated,
        entry,
        keys,
    )
