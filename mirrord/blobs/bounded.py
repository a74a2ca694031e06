"""Content within a size: a store on disk that removes what was not used for longest."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mirrord.blobs.disk import DiskStore
from mirrord.errors import ContentError
from mirrord.files import LocalFile, storage_errors
from mirrord.keyedlock import KeyedLock
from mirrord.model.digest import Digest

JUST: Final = 10.0
"""Seconds in which content that was found is not evicted, so that whoever found it can open it."""

Evicted = Callable[[int, int], None]
"""Called with the number of evicted entries and their bytes."""


@dataclass(slots=True)
class _Held:
    """An entry: its bytes, and its last use in seconds of the clock."""

    size: int
    used: float


class BoundedStore:
    """A `DiskStore` with an index in memory; implements `BlobStore`.

    The time of the last use is the modification time of the file, so no second record can differ from the files.
    Removing a file does not hurt who reads it: an open file stays whole until it is closed.

    Attributes:
        size: bytes of all entries.
        pinned: says which content is never evicted.
    """

    def __init__(
        self,
        folder: Path,
        room: Callable[[], int],
        *,
        evicted: Evicted = lambda _count, _size: None,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - it is compared with modification times
    ) -> None:
        """Keep content below `folder`, which belongs to this store alone.

        Args:
            folder: of the files.
            room: returns how many bytes content may still take on the disk.
            evicted: is called after evictions.
            clock: returns the time in seconds; it is compared with modification times.
        """
        self._folder, self._room, self._evicted, self._clock = folder, room, evicted, clock
        self._disk = DiskStore(folder)
        self._index: OrderedDict[Digest, _Held] = OrderedDict()  # least recently used first
        self._stuck: dict[Digest, _Held] = {}  # entries that were found to be pinned when they were to be evicted
        self._limit, self._unused = math.inf, math.inf
        self._locks, self._turn = KeyedLock(), asyncio.Lock()
        self._work: set[asyncio.Task[None]] = set()
        self._dirty: set[Digest] = set()  # used, and the file does not show it yet
        self.pinned: Callable[[Digest], bool] = lambda _digest: False
        self.size = 0

    async def open_(self) -> None:
        """Read sizes and last uses from the disk, and remove leftovers of a crash; call it before the first use.

        Raises:
            StorageError: the folder cannot be read.
        """
        found = await asyncio.to_thread(lambda: sorted(self._scan(), key=lambda entry: entry[1].used))
        self._index = OrderedDict(found)
        self.size = sum(held.size for held in self._index.values())

    async def aclose(self) -> None:
        """Finish what is under way, and write the last uses."""
        await asyncio.gather(*self._work, return_exceptions=True)
        await self.write_uses()

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._index) + len(self._stuck)

    async def limits(self, size: float, unused: float) -> None:
        """Set the largest size in bytes, and the seconds after which unused content goes; both apply at once."""
        self._limit, self._unused = size, unused
        self.unpin()
        await self.evict()

    def unpin(self) -> None:
        """Ask `pinned` again for all entries, because its answers have changed."""
        for digest, held in self._stuck.items():
            self._index[digest] = held
            self._index.move_to_end(digest, last=False)
        self._stuck.clear()

    async def find(self, digest: Digest) -> LocalFile | None:
        """Look in the index, then at the file; what is found counts as used now."""
        if self._held(digest) is None:
            return None
        found = await self._disk.find(digest)
        if self._held(digest) is None:  # evicted meanwhile
            return None
        if found is None:  # somebody else removed the file
            self._forget(digest)
            return None
        self._use(digest)
        return found

    async def missing(self, digests: Collection[Digest]) -> frozenset[Digest]:
        """Look at the files of those in the index."""
        lost = await self._disk.missing([digest for digest in digests if self._held(digest)])
        for digest in lost:
            self._forget(digest)
        return frozenset(digest for digest in digests if self._held(digest) is None)

    async def adopt(self, digest: Digest, file: Path) -> None:
        """Keep the content of a file, then evict what is too much."""
        await self._finish(self._store(digest, self._disk.adopt(digest, file)))

    async def put(self, digest: Digest, data: bytes) -> None:
        """Keep a small piece of content, then evict what is too much."""
        await self._finish(self._store(digest, self._disk.put(digest, data)))

    async def remove(self, digest: Digest) -> None:
        """Remove an entry; `find` misses it from now on."""
        await self._finish(self._remove(digest))

    async def has_room(self, size: int) -> bool:
        """Evict until another `size` bytes fit the disk; return whether they can be kept."""
        if size > self._limit - sum(held.size for held in self._stuck.values()):
            return False
        await self.evict(size)
        return await asyncio.to_thread(self._room) >= size

    async def evict(self, need: int = 0) -> None:
        """Remove least recently used entries until size, age and disk, which has `need` bytes free then, are right."""
        count = total = 0
        async with self._turn:
            while (digest := await self._next(need)) is not None:
                held = self._index[digest]
                await self.remove(digest)
                count, total = count + 1, total + held.size
        if count:
            self._evicted(count, total)

    async def write_uses(self) -> None:
        """Write the last uses to the files; what a crash loses since the last call are times, never content."""
        used = [(digest, held.used) for digest in self._dirty if (held := self._held(digest)) is not None]
        self._dirty.clear()
        await asyncio.to_thread(self._touch, used)

    async def _next(self, need: int) -> Digest | None:
        """Return the entry to evict next."""
        while self._index:
            digest, held = next(iter(self._index.items()))
            now = self._clock()
            if held.used > now - JUST:
                return None
            if self.pinned(digest):
                self._stuck[digest] = self._index.pop(digest)
                continue
            unneeded = self.size > self._limit or held.used < now - self._unused
            return digest if unneeded or (need and await asyncio.to_thread(self._room) < need) else None
        return None

    async def _store(self, digest: Digest, storing: Coroutine[Any, Any, None]) -> None:
        async with self._locks.hold(digest):
            await storing
            if self._held(digest) is None and (found := await self._disk.find(digest)) is not None:
                self._index[digest] = _Held(found.size, 0.0)
                self.size += found.size
            self._use(digest)
        if self.size > self._limit:
            await self.evict()

    async def _remove(self, digest: Digest) -> None:
        async with self._locks.hold(digest):
            held = self._held(digest)
            self._forget(digest)
            try:
                await self._disk.remove(digest)
            except BaseException:
                if held is not None:
                    self._index[digest] = held
                    self.size += held.size
                raise

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it to the end even if the caller is cancelled: a thread cannot be, and sizes have to be right."""
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        await asyncio.shield(task)

    def _held(self, digest: Digest) -> _Held | None:
        return self._index.get(digest) or self._stuck.get(digest)

    def _use(self, digest: Digest) -> None:
        held = self._held(digest)
        if held is not None:
            held.used = self._clock()
            self._dirty.add(digest)
            if digest in self._index:
                self._index.move_to_end(digest)

    def _forget(self, digest: Digest) -> None:
        held = self._index.pop(digest, None) or self._stuck.pop(digest, None)
        if held is not None:
            self.size -= held.size

    def _scan(self) -> Iterator[tuple[Digest, _Held]]:
        """Yield all files with their size and modification time; remove those that are no content."""
        now = self._clock()
        with storage_errors(self._folder):
            for folder in self._folder.glob("*/*/"):
                for file in os.scandir(folder):
                    try:
                        digest = Digest.parse(f"{folder.parent.name}:{file.name}")
                    except ContentError:
                        Path(file).unlink()
                        continue
                    stat = file.stat()
                    yield digest, _Held(stat.st_size, min(stat.st_mtime, now))

    def _touch(self, used: Collection[tuple[Digest, float]]) -> None:
        for digest, at in used:
            with contextlib.suppress(OSError):  # evicted meanwhile, or a disk that takes no times
                os.utime(self._folder / digest.algorithm / digest.hex[:2] / digest.hex, (at, at))
