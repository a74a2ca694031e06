"""A plain folder as a chart repository, for a web server or an air gap: `index.yaml` and `charts/`."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from mirrord import failpoints
from mirrord.blobs.reader import SpoolReader
from mirrord.errors import BusyError, ContentError, GuardError, ImmutableError, MirrordError, MissingError, StorageError
from mirrord.files import beside, storage_errors, sync, write_durably
from mirrord.model.digest import Digest
from mirrord.model.ledger import Settled
from mirrord.syncer.values import Ledger, Mirror
from mirrord.syncers.helm.names import CHARTS, INDEX, PROVENANCE, ChartVersion, valid_name
from mirrord.syncers.helm.plan.survey import as_theirs
from mirrord.syncers.helm.transfer.keeping import index_without
from mirrord.syncers.helm.transfer.target import IndexFile, Listing, Reading, Report

GONE: Final = ".gone"
"""Names what no index lists any more and what is still to be removed."""


class DirectoryTarget:
    """A folder that is ours to write; files get the permissions that the umask gives, so that others may serve them.

    A new version is in place before any index lists it. Where a version is replaced, its new archive waits
    beside the old one until the index is written: only between two renames could a crash leave the one without
    the other, and the next run puts that right.
    """

    provenance = True
    oldest_first = False

    def __init__(self, folder: Path, reading: Reading) -> None:
        """Write to `folder`, which is made when the first chart comes; `reading` reads its index."""
        self._folder = folder
        self._charts = folder / CHARTS
        self._reading = reading
        self._waiting: dict[Path, Path] = {}
        self._unsigned: set[Path] = set()  # replaced archives whose provenance was of the old one
        self._put: dict[str, Digest] = {}
        self.place = str(folder)

    async def held(self, charts: Collection[ChartVersion] = ()) -> Mapping[str, Digest]:
        """Read the index; a listed file that is gone is not there, one of `charts` that is not listed is hashed."""
        return await asyncio.to_thread(self._held, charts)

    async def listing(self) -> Listing:
        """Return what the index says that is there; one that cannot be read, or is none, says nothing."""
        return await asyncio.to_thread(self._listing)

    async def unlisted(self) -> Mapping[str, Digest]:
        """Return the archives that no index lists, by item: runs that were killed left them, or others put them."""
        return await asyncio.to_thread(self._unlisted)

    async def drop(self, mirror: Mirror, goes: Callable[[ChartVersion], object], items: Collection[str]) -> None:
        """Show the index without some versions, and remove their files, and those of `items`, listed or not.

        What it lists and is not there is listed no more, either; the next run brings what is wanted.
        """

        def without() -> IndexFile | None:
            data, held = self._index(), self._held(())
            try:
                lost = lambda chart: not (chart.item in held or as_theirs(chart).elsewhere) or goes(chart)  # noqa: E731 - as short as a name
                return None if data is None else index_without(data, mirror, self._reading, lost)
            except ContentError:  # one that cannot be read shows nothing; the next run replaces it
                return None

        def files() -> None:
            with storage_errors(self.place):
                for item in filter(lambda one: valid_name(one.replace("+", "-")), items):
                    self._unlink(item)

        if index := await asyncio.to_thread(without):
            await self.finish(index)
        await asyncio.to_thread(files)

    async def remove(self, target: str, charts: Sequence[ChartVersion], ledger: Ledger, report: Report) -> None:
        """Remove archives that no index lists; one that is listed by now, or is another by now, stays.

        Raises:
            ContentError: the index cannot be read, so that nobody knows what it lists.
            StorageError: the disk said no.
        """
        moves = {chart.reference: (chart.digest, None) for chart in charts}
        async with ledger.moving(target, moves) as settled:
            stays = await asyncio.to_thread(self._remove, charts)
            settled.update(dict.fromkeys((chart.reference for chart in charts if chart.item in stays), Settled.UNDONE))
        for chart in charts:
            report(chart.item, stays.get(chart.item))

    async def put(self, chart: ChartVersion, reader: SpoolReader, prov: bytes | None, *, replace: bool = False) -> None:
        """Write the files beside their places, make them durable, then rename them, the archive last."""
        place, digest = self._charts / chart.file, reader.digest
        there = await asyncio.to_thread(self._digest, place)
        if there not in (None, digest) and not replace:
            raise ImmutableError(f"{self.place}: {chart.item} is {there} there, not {digest}")
        waits = there not in (None, digest)
        with storage_errors(self.place):
            self._charts.mkdir(parents=True, exist_ok=True)
            if prov is not None:
                await self._settle(_once(prov), self._charts / f"{chart.file}{PROVENANCE}", waits=waits)
            elif waits:
                self._unsigned.add(self._charts / f"{chart.file}{PROVENANCE}")
            if there != digest:
                await self._settle(reader.chunks(), place, waits=waits)
        self._put[chart.item] = digest

    async def finish(self, index: IndexFile) -> None:
        """Rename the index into place when all that it lists is there; then remove what only the old one listed."""
        await asyncio.to_thread(self._finish, index)

    async def _settle(self, chunks: AsyncIterator[bytes], place: Path, *, waits: bool) -> None:
        fresh = beside(place)
        try:
            with fresh.open("wb") as out:
                async for chunk in chunks:
                    out.write(chunk)
            await asyncio.to_thread(sync, fresh)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        if waits:
            self._waiting[place] = fresh
        else:
            fresh.replace(place)

    def _held(self, charts: Collection[ChartVersion]) -> Mapping[str, Digest]:
        with storage_errors(self.place):
            files = {file.name for file in self._charts.iterdir()} if self._charts.is_dir() else set()
            held = {item: digest for item, digest in self._listed().items() if f"{item}.tgz" in files}
            for chart in charts:  # a run that was killed before its index leaves archives that need not come again
                digest = None if chart.item in held else self._digest(self._charts / chart.file)
                if digest is not None:
                    held[chart.item] = digest
            return held

    def _unlisted(self) -> Mapping[str, Digest]:
        listed = self._listing().charts
        with storage_errors(self.place):
            there = self._charts.iterdir() if self._charts.is_dir() else ()
            files = [file.name for file in there if file.is_file()]
        items = (name.removesuffix(".tgz") for name in files if name.endswith(".tgz") and not name.startswith("."))
        hashed = ((item, self._digest(self._charts / f"{item}.tgz")) for item in items if item not in listed)
        return {item: digest for item, digest in hashed if digest}

    def _listed(self) -> Mapping[str, Digest]:
        return self._listing().digests

    def _listing(self) -> Listing:
        """Read the index that is there; one that cannot be read lists nothing, and will be replaced."""
        data = self._index()
        try:
            return Listing() if data is None else self._reading(data)
        except ContentError:
            return Listing()

    def _index(self) -> bytes | None:
        with storage_errors(self.place):
            return (self._folder / INDEX).read_bytes() if (self._folder / INDEX).is_file() else None

    def _digest(self, place: Path) -> Digest | None:
        try:
            with storage_errors(place, missing=True), place.open("rb") as file:
                return Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
        except MissingError:
            return None

    def _finish(self, index: IndexFile) -> None:
        with storage_errors(self.place), self._locked():
            old = self._listed()
            knew = old if index.knew is None else index.knew
            shown = {one.item for one in index.charts}
            others = [item for item, digest in old.items() if item not in shown and knew.get(item) != digest]
            if others:
                names = ", ".join(sorted(others)[:5])
                raise BusyError(f"{self.place}: another writer published {names} meanwhile; the next run lists both")
            known = {**old, **self._put}
            for chart in index.charts:
                if chart.elsewhere:  # its archive is where others put it
                    continue
                place = self._charts / chart.file
                there = (known.get(chart.item) if place.is_file() else None) or self._digest(place)
                if there is None or chart.digest not in (None, there):
                    raise ContentError(f"{self.place}: the new index lists {chart.item}, whose archive is not there")
            gone = self._gone(old.keys(), index)
            files = {**(index.extras or {}), f"{INDEX}.gz": index.packed(), INDEX: index.data}  # the index is the last
            changed: dict[Path, Path] = {}
            for name, data in files.items():
                place = self._folder / name
                if not place.is_file() or place.read_bytes() != data:
                    changed[place] = beside(place)
                    changed[place].write_bytes(data)
                    sync(changed[place])
            self._flip(changed)
            if (self._folder / INDEX).read_bytes() != index.data:
                raise StorageError(f"{self.place}: a file reads back other than it was written; check the disk")
            for item in gone:
                self._unlink(item)
            (self._charts / GONE).unlink(missing_ok=True)
            for stray in (*self._folder.glob(".*.tmp"), *self._charts.glob(".*.tmp")):  # what a crash left half written
                stray.unlink(missing_ok=True)

    def _unlink(self, item: str) -> None:
        """Remove an archive, and its provenance before: what a crash leaves is found by the archive."""
        for end in (f".tgz{PROVENANCE}", ".tgz"):
            (self._charts / f"{item}{end}").unlink(missing_ok=True)

    def _remove(self, charts: Sequence[ChartVersion]) -> Mapping[str, MirrordError]:
        """Remove archives; return why some stay."""
        stays: dict[str, MirrordError] = {}
        with storage_errors(self.place), self._locked():
            data = self._index()
            listed = {} if data is None else self._reading(data).charts
            for chart in charts:
                there = self._digest(self._charts / chart.file)
                if chart.item in listed or there not in (None, chart.digest):
                    stays[chart.item] = GuardError(f"{self.place}: {chart.item} stays: somebody put it there meanwhile")
                else:
                    self._unlink(chart.item)
                    failpoints.hit("remove.tag")
            sync(self._charts)
        return stays

    def _flip(self, index: Mapping[Path, Path]) -> None:
        """Rename replaced archives into place, then the index: nothing else happens in between."""
        failpoints.hit("links.written")
        for place in self._unsigned:
            place.unlink(missing_ok=True)
        for place, fresh in self._waiting.items():
            fresh.replace(place)
        sync(self._charts)
        for place, fresh in index.items():
            fresh.replace(place)
        failpoints.hit("links.renamed")
        sync(self._folder)
        self._waiting.clear()
        self._unsigned.clear()
        self._put.clear()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other programs from publishing here between our look and our rename."""
        self._charts.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with contextlib.suppress(OSError):  # a file system that cannot lock: then only the look protects
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _gone(self, listed: Collection[str], index: IndexFile) -> Collection[str]:
        """Return what will have to go, also of a run that was killed before it came to that; write it down first."""
        journal = self._charts / GONE
        earlier = journal.read_text().split("\n") if journal.is_file() else []
        gone = {*listed, *earlier} - {chart.item for chart in index.charts}
        gone = {item for item in gone if valid_name(item.replace("+", "-"))}  # text from the old index
        if gone:
            write_durably(journal, "\n".join(sorted(gone)).encode())
        return gone


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
