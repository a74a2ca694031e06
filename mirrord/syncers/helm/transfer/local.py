"""mirrord's own store as a chart repository, served below `/helm/`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from mirrord.blobs.named import NamedFiles
from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.repositories import ManifestRef
from mirrord.errors import ContentError, ImmutableError, StorageError
from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import CHARTS, INDEX, PROVENANCE, ChartVersion
from mirrord.syncers.helm.transfer.target import GZIP, TEXT, IndexFile, Reading


class LocalTarget:
    """A repository of mirrord's own store: files by digest, whose names flip together."""

    provenance = True
    oldest_first = False

    def __init__(
        self,
        files: NamedFiles,
        place: str,
        reading: Reading | None = None,
        earlier: Callable[[Mapping[str, Digest]], Awaitable[None]] | None = None,
    ) -> None:
        """Keep `files` of the mirror that is called `place`.

        `reading` gets to see the index that is there whenever it is asked what is held; `earlier` gets to know all
        names that will be shown, before that is done.
        """
        self._earlier = earlier
        self._files = files
        self._reading = reading
        self.close = files.close
        self.place = f"local {place}"

    async def held(self, charts: Collection[ChartVersion] = ()) -> Mapping[str, Digest]:
        """Look at what is shown, and for those of `charts` that are not, at what waits for its index.

        What is named but lost on disk, or its provenance, counts as not there.
        """
        index = await self._files.read(INDEX) if self._reading else None
        if index is not None and self._reading is not None:
            with contextlib.suppress(ContentError):  # one that is damaged will be replaced
                await asyncio.to_thread(self._reading, index)
        waiting, shown = await self._files.waiting(), await self._files.shown()
        gone = [await self._files.lost(names) for names in (waiting, shown)]

        def found() -> Mapping[str, Digest]:
            left = _whole(waiting, gone[0])
            pairs = ((chart, left.get(chart.item)) for chart in charts)
            held = {chart.item: digest for chart, digest in pairs if digest and chart.digest in (None, digest)}
            return held | _whole(shown, gone[1])

        return await asyncio.to_thread(found)

    async def put(self, chart: ChartVersion, reader: SpoolReader, prov: bytes | None, *, replace: bool = False) -> None:
        """Link the spool's file into the store; it gets its name in `finish`."""
        name = f"{CHARTS}/{chart.file}"
        there = None if replace else await self._files.find(name)
        if there and there.digest != reader.digest and not await self._files.lost({name: there.digest}):
            raise ImmutableError(f"{self.place}: {chart.item} is {there.digest} there, not {reader.digest}")
        file = await reader.whole()
        self._files.leave_out(f"{name}{PROVENANCE}")
        if prov is not None:  # before the archive: others may save all names meanwhile
            await self._files.put(f"{name}{PROVENANCE}", prov, TEXT)
        await self._files.adopt(name, reader.digest, file, ManifestRef(GZIP, reader.size))

    async def finish(self, index: IndexFile) -> None:
        """Name the index and all that it lists in one atomic step; what it does not list loses its name."""
        await self._files.put(INDEX, index.data, index.media_type)
        await self._files.put(f"{INDEX}.gz", await asyncio.to_thread(index.packed), GZIP)
        for name, data in (index.extras or {}).items():
            await self._files.put(name, data, TEXT)
        known = await self._files.there()
        beside = {name: known[0][name] for name in (INDEX, f"{INDEX}.gz", *(index.extras or ())) if name in known[0]}
        if index.extras is None:
            kept = {name: digest for name, digest in known[1].items() if not name.startswith(f"{CHARTS}/")}
            beside = {**kept, **beside}
        if INDEX not in beside:
            raise StorageError(f"{self.place}: a file reads back other than it was written; check the disk")
        shown = await asyncio.to_thread(self._listed, index, known) | beside
        if self._earlier:
            await self._earlier(shown)
        await self._files.show(shown)

    def _listed(self, index: IndexFile, known: Sequence[Mapping[str, Digest]]) -> dict[str, Digest]:
        """Return the files that an index lists, as they are known to be there."""
        files = {}
        for chart in index.charts:
            name = f"{CHARTS}/{chart.file}"
            names = next((names for names in known if name in names and chart.digest in (None, names[name])), None)
            if names is None:
                raise ContentError(f"{self.place}: the new index lists {chart.item}, whose archive is not there")
            files[name] = names[name]
            prov = names.get(f"{name}{PROVENANCE}")
            if prov is not None:
                files[f"{name}{PROVENANCE}"] = prov
        return files


def _whole(names: Mapping[str, Digest], gone: Collection[str]) -> dict[str, Digest]:
    """Return the archives among some files by item, without those of which the file or its provenance is gone."""
    lost = {name.removesuffix(PROVENANCE) for name in gone}
    begin, end = f"{CHARTS}/", ".tgz"
    return {
        name[len(begin) : -len(end)]: digest
        for name, digest in names.items()
        if name.startswith(begin) and name.endswith(end) and name not in lost
    }
