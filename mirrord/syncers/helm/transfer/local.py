"""mirrord's own store as a chart repository, served below `/helm/`.

Archives of a run that does not come to its index are named beside the repository, where nobody is served from, so that
neither a sweep removes nor the next run fetches them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from mirrord.blobs.repositories import ManifestRef, Repositories, RepositoryState
from mirrord.blobs.spool import SpoolReader
from mirrord.blobs.store import BlobStore, read_stored
from mirrord.errors import ContentError, ImmutableError, StorageError
from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import CHARTS, INDEX, PROVENANCE, ChartVersion
from mirrord.syncers.helm.transfer.target import GZIP, TEXT, IndexFile, Reading

UNFINISHED: Final = "unfinished"
"""Names, below that of a repository, what a run has put and no index lists yet."""
FEW: Final = 16  # archives that a crash may cost


class LocalTarget:
    """A repository of mirrord's own store: files by digest, all names in one file that flips them together."""

    provenance = True
    oldest_first = False

    def __init__(
        self, store: BlobStore, repositories: Repositories, repository: str, reading: Reading | None = None
    ) -> None:
        """Keep content in `store`, and the names of `repository` (`_helm/<mirror>`) in `repositories`.

        `reading` gets to see the index that is there whenever it is asked what is held.
        """
        self._reading = reading
        self._store = store
        self._repositories = repositories
        self._repository = repository
        self._unfinished = f"{repository}/{UNFINISHED}"
        self._unsaved: set[str] = set()
        self._tags: dict[str, Digest] = {}
        self._made: dict[Digest, ManifestRef] = {}
        self.place = f"local {repository}"

    async def _state(self, repository: str) -> RepositoryState:
        return await self._repositories.state(repository) or RepositoryState()

    async def held(self, charts: Collection[ChartVersion] = ()) -> Mapping[str, Digest]:
        """Look into the repository's file, and for those of `charts` that are not in it, at what waits for its index.

        What is named but lost on disk, or its provenance, counts as not there.
        """
        linked, unfinished = await self._state(self._repository), await self._state(self._unfinished)
        index = await self._store.find(linked.tags[INDEX]) if INDEX in linked.tags else None
        if index is not None and self._reading is not None:
            data = await read_stored(index, index.size)
            with contextlib.suppress(ContentError):  # one that is damaged will be replaced
                await asyncio.to_thread(self._reading, data)
        waiting = await self._whole(unfinished.tags)
        found = ((chart, waiting.get(chart.item)) for chart in charts)
        held = {chart.item: digest for chart, digest in found if digest and chart.digest in (None, digest)}
        return held | await self._whole(linked.tags)

    async def _whole(self, tags: Mapping[str, Digest]) -> dict[str, Digest]:
        gone = await self._store.missing(tags.values())
        lost = {name.removesuffix(PROVENANCE) for name, digest in tags.items() if digest in gone}
        begin, end = f"{CHARTS}/", ".tgz"
        return {
            name[len(begin) : -len(end)]: digest
            for name, digest in tags.items()
            if name.startswith(begin) and name.endswith(end) and name not in lost
        }

    async def put(self, chart: ChartVersion, reader: SpoolReader, prov: bytes | None, *, replace: bool = False) -> None:
        """Link the spool's file into the store; it gets its name in `finish`."""
        name = f"{CHARTS}/{chart.file}"
        there = await self._repositories.tag(self._repository, name)
        if there not in (None, reader.digest) and not replace and not await self._store.missing([there]):
            raise ImmutableError(f"{self.place}: {chart.item} is {there} there, not {reader.digest}")
        await self._store.adopt(reader.digest, await reader.whole())  # linked, not copied: nobody writes to it any more
        beside = f"{name}{PROVENANCE}"
        self._tags.pop(beside, None)
        if prov is not None:
            await self._keep_small(beside, prov, TEXT)
        self._made[reader.digest] = ManifestRef(GZIP, reader.size)
        self._tags[name] = reader.digest  # once its provenance is there: others may save all names meanwhile
        self._unsaved |= {name, beside}
        if len(self._unsaved) >= 2 * FEW:
            await self.save()

    async def save(self) -> None:
        """Name what was put and no index lists yet, so that another run goes on from there.

        Raises:
            StorageError: the disk said no.
        """
        names, self._unsaved = self._unsaved, set()
        tags = {name: self._tags[name] for name in names if name in self._tags}
        try:
            await self._repositories.publish(self._unfinished, {one: self._made[one] for one in tags.values()}, tags)
        except BaseException:
            self._unsaved |= names
            raise

    async def finish(self, index: IndexFile) -> None:
        """Name the index and all that it lists in one atomic step; what it does not list loses its name."""
        await self._keep_small(INDEX, index.data, index.media_type)
        await self._keep_small(f"{INDEX}.gz", await asyncio.to_thread(index.packed), GZIP)
        for name, data in index.extras.items():
            await self._keep_small(name, data, TEXT)
        beside = {name: self._tags[name] for name in (INDEX, f"{INDEX}.gz", *index.extras)}
        old, waiting = await self._state(self._repository), await self._state(self._unfinished)
        names = (self._tags, old.tags, waiting.tags)
        lost = await self._store.missing({digest for tags in names for digest in tags.values()})
        known = [{name: digest for name, digest in tags.items() if digest not in lost} for tags in names]
        tags = {**self._listed(index, known), **beside}
        links = {**waiting.manifests, **old.manifests, **self._made}
        new = {digest: links[digest] for digest in tags.values()}
        await self._repositories.publish(self._repository, new, tags, exactly=True, expect=old.revision)
        if await self._store.missing([tags[INDEX]]):
            raise StorageError(f"{self.place}: what was written is not what is read back; look at the disk")
        self._tags.clear()
        self._made.clear()
        self._unsaved.clear()
        if waiting.tags:
            await self._repositories.publish(self._unfinished, {}, {}, exactly=True)

    def _listed(self, index: IndexFile, known: Sequence[Mapping[str, Digest]]) -> Mapping[str, Digest]:
        """Return the names of all files that the index lists, or refuse it."""
        tags = {}
        for chart in index.charts:
            name = f"{CHARTS}/{chart.file}"
            names = next((names for names in known if name in names and chart.digest in (None, names[name])), None)
            if names is None:
                raise ContentError(f"{self.place}: the new index lists {chart.item}, whose archive is not there")
            tags[name] = names[name]
            prov = names.get(f"{name}{PROVENANCE}")
            if prov is not None:
                tags[f"{name}{PROVENANCE}"] = prov
        return tags

    async def _keep_small(self, name: str, data: bytes, media_type: str) -> None:
        digest = Digest.of(data)
        await self._store.put(digest, data)
        self._made[digest] = ManifestRef(media_type, len(data))
        self._tags[name] = digest
