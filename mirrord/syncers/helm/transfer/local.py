"""mirrord's own store as a chart repository, served below `/helm/`.

Archives of a run that does not come to its index are named beside the repository, where nobody is served from, so that
neither a sweep removes nor the next run fetches them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from mirrord.blobs.repositories import ManifestRef, Repositories, RepositoryState
from mirrord.blobs.spool import SpoolReader
from mirrord.blobs.store import BlobStore
from mirrord.errors import ContentError, ImmutableError, StorageError
from mirrord.files import storage_errors
from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import CHARTS, INDEX, PROVENANCE, ChartVersion
from mirrord.syncers.helm.transfer.target import GZIP, TEXT, IndexFile, Reading

UNFINISHED: Final = "unfinished"
"""Names, below that of a repository, what a run has put and no index lists yet."""
FEW: Final = 16  # archives that a crash may cost, and an eighth of what is there: all names are written each time
NOWHERE: Final = Digest("sha256:" + "0" * 64)


class LocalTarget:
    """A repository of mirrord's own store: files by digest, all names in one file that flips them together."""

    provenance = True
    oldest_first = False

    def __init__(self, store: BlobStore, links: Repositories, repository: str, reading: Reading | None = None) -> None:
        """Keep content in `store`, and the names of `repository` (`_helm/<mirror>`) in `links`.

        `reading` gets to see the index that is there whenever it is asked what is held.
        """
        self._reading = reading
        self._store = store
        self._links = links
        self._repository = repository
        self._unfinished = f"{repository}/{UNFINISHED}"
        self._unsaved = 0
        self._tags: dict[str, Digest] = {}
        self._made: dict[Digest, ManifestRef] = {}
        self.place = f"local {repository}"

    @property
    def _linked(self) -> RepositoryState:
        return self._links.get(self._repository) or RepositoryState()

    @property
    def _waiting(self) -> RepositoryState:
        return self._links.get(self._unfinished) or RepositoryState()

    async def held(self, charts: Collection[ChartVersion] = ()) -> Mapping[str, Digest]:
        """Look into the repository's file, and for those of `charts` that are not in it, at what waits for its index.

        What is named but lost on disk, or its provenance, counts as not there.
        """
        index = self._store.path(self._linked.tags.get(INDEX, NOWHERE))
        if index is not None and self._reading is not None:
            await asyncio.to_thread(self._read, index, self._reading)
        waiting = self._whole(self._waiting.tags)
        found = ((chart, waiting.get(chart.item)) for chart in charts)
        held = {chart.item: digest for chart, digest in found if digest and chart.digest in (None, digest)}
        return held | self._whole(self._linked.tags)

    def _whole(self, tags: Mapping[str, Digest]) -> dict[str, Digest]:
        lost = {name.removesuffix(PROVENANCE) for name, digest in tags.items() if not self._store.path(digest)}
        begin, end = f"{CHARTS}/", ".tgz"
        return {
            name[len(begin) : -len(end)]: digest
            for name, digest in tags.items()
            if name.startswith(begin) and name.endswith(end) and name not in lost
        }

    def _read(self, index: Path, reading: Reading) -> None:
        with contextlib.suppress(ContentError), storage_errors(str(index)):  # one that is damaged will be replaced
            reading(index.read_bytes())

    async def put(self, chart: ChartVersion, reader: SpoolReader, prov: bytes | None, *, replace: bool = False) -> None:
        """Link the spool's file into the store; it gets its name in `finish`."""
        name = f"{CHARTS}/{chart.file}"
        there = self._linked.tags.get(name)
        if there not in (None, reader.digest) and self._store.path(there) and not replace:
            raise ImmutableError(f"{self.place}: {chart.item} is {there} there, not {reader.digest}")
        await self._store.adopt(reader.digest, await reader.whole())  # linked, not copied: nobody writes to it any more
        beside = f"{name}{PROVENANCE}"
        self._tags.pop(beside, None)
        if prov is not None:
            await self._keep_small(beside, prov, TEXT)
        self._made[reader.digest] = ManifestRef(GZIP, reader.size)
        self._tags[name] = reader.digest  # once its provenance is there: others may save all names meanwhile
        self._unsaved += 1
        if self._unsaved >= max(FEW, len(self._waiting.tags) // 8):
            await self.save()

    async def save(self) -> None:
        """Name what was put and no index lists yet, so that another run goes on from there.

        Raises:
            StorageError: the disk said no.
        """
        if self._unsaved:
            self._unsaved = 0
            tags = {name: digest for name, digest in self._tags.items() if name.startswith(f"{CHARTS}/")}
            links = {digest: self._made[digest] for digest in tags.values()}
            await self._links.publish(self._unfinished, links, tags)

    async def finish(self, index: IndexFile) -> None:
        """Name the index and all that it lists in one atomic step; what it does not list loses its name."""
        await self._keep_small(INDEX, index.data, index.media_type)
        await self._keep_small(f"{INDEX}.gz", await asyncio.to_thread(index.packed), GZIP)
        for name, data in index.extras.items():
            await self._keep_small(name, data, TEXT)
        beside = {name: self._tags[name] for name in (INDEX, f"{INDEX}.gz", *index.extras)}
        old, waiting = self._linked, self._waiting
        tags = {**self._listed(index, (self._tags, old.tags, waiting.tags)), **beside}
        links = {**waiting.manifests, **old.manifests, **self._made}
        await self._links.publish(self._repository, {one: links[one] for one in tags.values()}, tags, exactly=True)
        if self._linked.tags != tags or self._store.path(tags[INDEX]) is None:
            raise StorageError(f"{self.place}: what was written is not what is read back; look at the disk")
        self._tags.clear()
        self._made.clear()
        self._unsaved = 0
        if waiting.tags:
            await self._links.publish(self._unfinished, {}, {}, exactly=True)

    def _listed(self, index: IndexFile, known: Sequence[Mapping[str, Digest]]) -> Mapping[str, Digest]:
        """Return the names of all files that the index lists, or refuse it."""
        tags = {}
        for chart in index.charts:
            name = f"{CHARTS}/{chart.file}"
            names = next((names for names in known if self._has(names.get(name), chart.digest)), None)
            if names is None:
                raise ContentError(f"{self.place}: the new index lists {chart.item}, whose archive is not there")
            tags[name] = names[name]
            prov = names.get(f"{name}{PROVENANCE}")
            if prov is not None:
                tags[f"{name}{PROVENANCE}"] = prov
        return tags

    def _has(self, digest: Digest | None, wanted: Digest | None) -> bool:
        return digest is not None and wanted in (None, digest) and self._store.path(digest) is not None

    async def _keep_small(self, name: str, data: bytes, media_type: str) -> None:
        digest = Digest.of(data)
        await self._store.put(digest, data)
        self._made[digest] = ManifestRef(media_type, len(data))
        self._tags[name] = digest
