"""The cache of a front: content of upstreams, least recently used first out, and the names that it was seen under."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirrord.blobs.bounded import BoundedStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.repositories import ManifestRef
from mirrord.model.digest import Digest

EVERY: Final = 60.0
"""Seconds between two turns in which last uses are written and what is too old goes."""


@dataclass(frozen=True, slots=True)
class CacheStanding:
    """What a cache holds: bytes, entries, and how many were evicted since the start with how many bytes."""

    size: int
    entries: int
    evictions: int
    evicted: int


class ContentCache:
    """Content by digest within a size, and repositories named by their references at the upstreams.

    Content is served under a name only when that repository links it: ask `repositories`.

    Attributes:
        store: the content.
        repositories: manifests that were seen under a name; publish with `link`.
    """

    def __init__(self, folder: Path, room: Callable[[], int], evicted: Callable[[int, int], None]) -> None:
        """Keep everything below `folder`; see `open_cache`."""
        self.store = BoundedStore(folder / "blobs", room, evicted=self._count)
        self.repositories = DiskRepositories(folder / "repositories")
        self._evicted, self._evictions, self._bytes = evicted, 0, 0
        self._pinned: Callable[[str], bool] = lambda _name: False

    async def limits(
        self, size: float = math.inf, unused: float = math.inf, pinned: Callable[[str], bool] = lambda _name: False
    ) -> None:
        """Set what may be kept; it applies at once. Until the first call nothing is evicted.

        Args:
            size: bytes of all content.
            unused: seconds after which content that nobody asked for goes.
            pinned: says of which repositories (by name) nothing that a tag reaches is evicted.
        """
        self._pinned = pinned
        await self.store.limits(size, unused)

    async def link(self, name: str, manifests: Mapping[Digest, ManifestRef], tags: Mapping[str, Digest]) -> None:
        """Note that manifests and tags were seen under a name, as `Repositories.publish` does."""
        await self.repositories.publish(name, manifests, tags)

    async def keep(self, reader: SpoolReader) -> None:
        """Store a blob when it is whole, unless there is no room for it: for `SpoolPool.reader(keep=…)`.

        Raises:
            MirrordError: it could not be read or stored.
        """
        size = await reader.answered()
        if size is not None and not await self.store.has_room(size):
            return
        await self.store.adopt(reader.digest, await reader.whole())

    def standing(self) -> CacheStanding:
        """Return the totals."""
        return CacheStanding(self.store.size, len(self.store), self._evictions, self._bytes)

    def _count(self, count: int, size: int) -> None:
        self._evictions, self._bytes = self._evictions + count, self._bytes + size
        self._evicted(count, size)


@asynccontextmanager
async def open_cache(
    folder: Path, room: Callable[[], int], evicted: Callable[[int, int], None] = lambda _count, _size: None
) -> AsyncIterator[ContentCache]:
    """Open the cache below `folder` (`<state>/cache/<kind>`), which the state's lock protects.

    Args:
        folder: created with the first content.
        room: returns how many bytes content may still take on the disk.
        evicted: is called with the number and the bytes of evicted entries.

    Raises:
        StorageError: the folder cannot be read.
    """
    cache = ContentCache(folder, room, evicted)
    await asyncio.to_thread(cache.repositories.sweep)
    await cache.store.open_()
    try:
        yield cache
    finally:
        await cache.store.aclose()
