"""mirrord's own store as a chart repository, served below `/helm/`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from mirrord.blobs.files import storage_errors
from mirrord.blobs.links import Link, Linked, Links
from mirrord.blobs.spool import Reader
from mirrord.blobs.store import BlobStore
from mirrord.errors import ContentError, ImmutableError, StorageError
from mirrord.model import Digest
from mirrord.syncers.helm.names import CHARTS, INDEX, PROVENANCE, ChartVersion
from mirrord.syncers.helm.transfer.target import GZIP, TEXT, IndexFile, Reading

NOWHERE: Final = Digest("sha256:" + "0" * 64)


class LocalTarget:
    """A repository of mirrord's own store: files by digest, all names in one file that flips them together."""

    provenance = True
    oldest_first = False

    def __init__(self, store: BlobStore, links: Links, repository: str, reading: Reading | None = None) -> None:
        """Keep content in `store`, and the names of `repository` (`_helm/<mirror>`) in `links`.

        `reading` gets to see the index that is there whenever it is asked what is held.
        """
        self._reading = reading
        self._store = store
        self._links = links
        self._repository = repository
        self._tags: dict[str, Digest] = {}
        self._made: dict[Digest, Link] = {}
        self.place = f"local {repository}"

    @property
    def _linked(self) -> Linked:
        return self._links.get(self._repository) or Linked()

    async def held(self, charts: Collection[ChartVersion] = ()) -> Mapping[str, Digest]:  # noqa: ARG002 - the port's signature
        """Look into the repository's file; what is named but lost on disk, or its provenance, counts as not there."""
        index = self._store.path(self._linked.tags.get(INDEX, NOWHERE))
        if index is not None and self._reading is not None:
            await asyncio.to_thread(self._read, index, self._reading)
        tags = self._linked.tags
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

    async def put(self, chart: ChartVersion, reader: Reader, prov: bytes | None, *, replace: bool = False) -> None:
        """Link the spool's file into the store; it gets its name in `finish`."""
        wanted = reader.spool.wanted
        name = f"{CHARTS}/{chart.file}"
        there = self._linked.tags.get(name)
        if there not in (None, wanted.digest) and self._store.path(there) and not replace:
            raise ImmutableError(f"{self.place}: {chart.item} is {there} there, not {wanted.digest}")
        await self._store.adopt(wanted.digest, await reader.whole())  # linked, not copied: nobody writes to it any more
        self._made[wanted.digest] = Link(GZIP, wanted.size)
        self._tags[name] = wanted.digest
        self._tags.pop(f"{name}{PROVENANCE}", None)
        if prov is not None:
            await self._keep_small(f"{name}{PROVENANCE}", prov, TEXT)

    async def finish(self, index: IndexFile) -> None:
        """Name the index and all that it lists in one atomic step; what it does not list loses its name."""
        await self._keep_small(INDEX, index.data, index.media_type)
        await self._keep_small(f"{INDEX}.gz", await asyncio.to_thread(index.packed), GZIP)
        for name, data in index.extras.items():
            await self._keep_small(name, data, TEXT)
        beside = {name: self._tags[name] for name in (INDEX, f"{INDEX}.gz", *index.extras)}
        old = self._linked
        tags = {**self._listed(index, old), **beside}
        links = {**old.manifests, **self._made}
        await self._links.publish(self._repository, {one: links[one] for one in tags.values()}, tags, exactly=True)
        if self._linked.tags != tags or self._store.path(tags[INDEX]) is None:
            raise StorageError(f"{self.place}: what was written is not what is read back; look at the disk")
        self._tags.clear()
        self._made.clear()

    def _listed(self, index: IndexFile, old: Linked) -> Mapping[str, Digest]:
        """Return the names of all files that the index lists, or refuse it."""
        tags = {}
        for chart in index.charts:
            name = f"{CHARTS}/{chart.file}"
            names = self._tags if name in self._tags else old.tags
            digest = names.get(name)
            if digest is None or chart.digest not in (None, digest) or self._store.path(digest) is None:
                raise ContentError(f"{self.place}: the new index lists {chart.item}, whose archive is not there")
            tags[name] = digest
            prov = names.get(f"{name}{PROVENANCE}")
            if prov is not None:
                tags[f"{name}{PROVENANCE}"] = prov
        return tags

    async def _keep_small(self, name: str, data: bytes, media_type: str) -> None:
        digest = Digest.of(data)
        await self._store.put(digest, data)
        self._made[digest] = Link(media_type, len(data))
        self._tags[name] = digest
