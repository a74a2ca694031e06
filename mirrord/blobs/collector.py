"""Removes content of `local` that no repository links, while others publish and clients read.

A collection has two steps. The caller drops names, and then all content that no repository links is removed, one folder
of the store after the other. See ADR 32 for why that is safe.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from mirrord import failpoints
from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.uses import ContentUses
from mirrord.model.digest import Digest


class Collector:
    """Over one store and its repositories.

    Attributes:
        store: the content.
        repositories: the names.
        uses: when clients asked for content.
    """

    def __init__(
        self,
        store: DiskStore,
        repositories: DiskRepositories,
        uses: ContentUses,
        removed: Callable[[Digest], None] = lambda _: None,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - compared with the times of names
    ) -> None:
        """Call `removed` before each removal: other names of a file would keep its bytes on the disk."""
        self.store, self.repositories, self.uses, self.clock = store, repositories, uses, clock
        self._removed = removed

    @asynccontextmanager
    async def collection(self) -> AsyncIterator[RunningCollection]:
        """Begin a collection, after the one under way if there is one."""
        async with self.repositories.leases.collecting():
            await self.uses.write()
            yield RunningCollection(self, self.clock())

    def remove(self, digest: Digest) -> None:
        """Tell who has other names of the file."""
        self._removed(digest)


class RunningCollection:
    """A collection under way.

    Attributes:
        began: when, in seconds since 1970.
    """

    def __init__(self, collector: Collector, began: float) -> None:
        """Begin to remember what is needed."""
        self._collector, self.began = collector, began

    async def unlinked(self, linked: Collection[str]) -> AsyncIterator[dict[Digest, int]]:
        """Yield what is in the store and not in `linked`, with its bytes, folder by folder.

        `linked` MUST have been read since the collection began.
        """
        store = self._collector.store
        for shard in await asyncio.to_thread(store.shards):
            found = await asyncio.to_thread(store.listed, shard)
            if loose := {digest: size for digest, size in found.items() if digest not in linked}:
                yield loose

    async def remove(self, digests: Collection[Digest]) -> frozenset[Digest]:
        """Remove those of these that nobody needs since the collection began; return them."""
        return await asyncio.shield(self._remove(digests))

    async def _remove(self, digests: Collection[Digest]) -> frozenset[Digest]:
        collector = self._collector
        unread = [digest for digest in digests if not collector.uses.since(digest, self.began)]
        with collector.repositories.leases.removing(unread) as free:
            for digest in free:
                collector.remove(digest)
            await collector.store.remove_all(free)
        failpoints.hit("gc.swept")
        return free
