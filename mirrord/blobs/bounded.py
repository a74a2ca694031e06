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
from mirrord.errors import ContentError, MirrordError, StorageError
from mirrord.files import LocalFile, storage_errors
from mirrord.keyedlock import KeyedLock
from mirrord.model.digest import Digest

JUST: Final = 10.0
"""Seconds in which content that was found is not evicted, so that whoever found it can open it."""


@dataclass(slots=True)
class _Held:
    """An entry: its bytes, and when it was last used and found, in seconds of the clock."""

    size: int
    used: float
    found: float = -math.inf


class BoundedStore:
    """A `DiskStore` with an index in memory; implements `BlobStore` and `OtherContent`.

    The modification time of a file is its last use, so the files alone say all after a crash. Removing a file does not
    hurt who reads it: an open file stays whole until it is closed.

    Attributes:
        size: bytes of all entries.
        pinned: says which content is never evicted; call `unpin` when its answers change.
        error: why content could not be kept or evicted the last time, "" if it could.
    """

    def __init__(
        self,
        folder: Path,
        room: Callable[[], int],
        *,
        evicting: Callable[[Digest, int], None] = lambda _digest, _size: None,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - it is compared with modification times
    ) -> None:
        """Keep content below `folder`, which belongs to this store alone.

        Args:
            folder: of the files.
            room: returns how many bytes content may still take on the disk.
            evicting: is called with each entry to be evicted and its bytes, before its file goes.
            clock: returns the time in seconds.
        """
        self._folder, self._room, self._evicting, self._clock = folder, room, evicting, clock
        self._disk = DiskStore(folder)
        self._index: OrderedDict[Digest, _Held] = OrderedDict()  # least recently used first
        self._stuck: dict[Digest, _Held] = {}  # found to be pinned when they were to be evicted
        self._stuck_size = 0
        self._limit, self._unused = math.inf, math.inf
        self._locks, self._turn = KeyedLock(), asyncio.Lock()
        self._work: set[asyncio.Task[None]] = set()
        self._dirty: set[Digest] = set()  # used, and the file does not show it yet
        self.pinned: Callable[[Digest], bool] = lambda _digest: False
        self.size = 0
        self.error = ""

    async def open_(self) -> None:
        """Read sizes and last uses from the disk, and remove leftovers of a crash; call it before the first use.

        Raises:
            StorageError: the folder cannot be read.
        """
        self._index, self.size = await asyncio.to_thread(self._read)

    async def aclose(self) -> None:
        """Finish what is under way, and write the last uses."""
        await asyncio.gather(*self._work, return_exceptions=True)
        await self.write_uses()

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._index) + len(self._stuck)

    def __contains__(self, digest: Digest) -> bool:
        """Whether there is such an entry, without looking at the disk."""
        return digest in self._index or digest in self._stuck

    @property
    def evictable(self) -> int:
        """Return the bytes of entries that are not known to be pinned."""
        return self.size - self._stuck_size

    def limits(self, size: float, unused: float) -> None:
        """Set the largest size in bytes, and the seconds after which unused content goes, for the next `evict`."""
        self._limit, self._unused = size, unused
        self.unpin()

    def unpin(self) -> None:
        """Ask `pinned` again about all entries."""
        for digest, held in self._stuck.items():
            self._index[digest] = held
            self._index.move_to_end(digest, last=False)
        self._stuck.clear()
        self._stuck_size = 0

    async def find(self, digest: Digest) -> LocalFile | None:
        """Look in the index, then at the file; what is found counts as used now. Returns at once without an entry."""
        if digest not in self:
            return None
        found = await self._disk.find(digest)
        if found is None:  # somebody else removed the file
            self._forget(digest)
        elif (held := self._use(digest)) is not None:
            held.found = held.used
            return found
        return None  # also when it was evicted meanwhile

    async def missing(self, digests: Collection[Digest]) -> frozenset[Digest]:
        """Look at the files of those in the index."""
        for digest in await self._disk.missing([digest for digest in digests if digest in self]):
            self._forget(digest)
        return frozenset(digest for digest in digests if digest not in self)

    async def adopt(self, digest: Digest, file: Path) -> None:
        """Keep the content of a file, then evict what is too much."""
        await self._finish(self._store(digest, self._disk.adopt(digest, file)))

    async def put(self, digest: Digest, data: bytes) -> None:
        """Keep a small piece of content, then evict what is too much."""
        await self._finish(self._store(digest, self._disk.put(digest, data)))

    async def remove(self, digest: Digest) -> None:
        """Remove an entry; `find` misses it from now on."""
        await self._finish(self._remove(digest))

    def takes(self, size: int) -> bool:
        """Whether an entry of `size` bytes is within the limit, once others are evicted."""
        return size <= self._limit - self._stuck_size

    async def has_room(self, size: int) -> bool:
        """Evict until the disk has `size` bytes for an entry; return whether it has them and the limit allows it."""
        try:
            if self.takes(size) and (lack := size - await asyncio.to_thread(self._room)) > 0:
                await self.evict(lack)
            return self.takes(size) and await asyncio.to_thread(self._room) >= size
        except StorageError as error:
            self.error = str(error)
            return False

    async def evict(self, lack: int = 0) -> None:
        """Remove least recently used entries until size and age are right, and `lack` more bytes of the disk are free.

        What another name keeps on the disk is not freed, and space that open files take only when they are closed.

        Raises:
            StorageError: the disk failed.
        """
        async with self._turn:
            while (digest := self._next(lack)) is not None:
                size = self._index[digest].size
                self._evicting(digest, size)
                await self.remove(digest)
                lack -= size

    async def write_uses(self) -> None:
        """Write the last uses to the files: a crash loses those since the last call, never content."""
        used = [(digest, held.used) for digest in self._dirty if (held := self._held(digest)) is not None]
        self._dirty.clear()
        await asyncio.to_thread(self._touch, used)

    def _next(self, lack: int) -> Digest | None:
        """Return the entry to evict next."""
        while self._index:
            digest, held = next(iter(self._index.items()))
            now = self._clock()
            if self.size <= self._limit and held.used >= now - self._unused and lack <= 0:
                return None
            if self.pinned(digest):
                self._stuck[digest] = self._index.pop(digest)
                self._stuck_size += held.size
                continue
            return None if held.found > now - JUST else digest
        return None

    async def _store(self, digest: Digest, storing: Coroutine[Any, Any, None]) -> None:
        async with self._locks.hold(digest):
            try:
                await storing
                self.error = ""
            except MirrordError as error:
                self.error = str(error)
                raise
            finally:  # a file may have its name although the disk failed after that
                if digest not in self and (found := await self._disk.find(digest)) is not None:
                    self._index[digest] = _Held(found.size, 0.0)
                    self.size += found.size
                self._use(digest)
        if self.size > self._limit:
            try:
                await self.evict()
            except StorageError as error:  # the content is kept all the same
                self.error = str(error)

    async def _remove(self, digest: Digest) -> None:
        async with self._locks.hold(digest):
            held = self._forget(digest)
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
        task.add_done_callback(self._done)
        await asyncio.shield(task)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled():
            task.exception()  # a cancelled caller does not read it

    def _held(self, digest: Digest) -> _Held | None:
        return self._index.get(digest) or self._stuck.get(digest)

    def _use(self, digest: Digest) -> _Held | None:
        held = self._held(digest)
        if held is not None:
            held.used = self._clock()
            self._dirty.add(digest)
            if digest in self._index:
                self._index.move_to_end(digest)
        return held

    def _forget(self, digest: Digest) -> _Held | None:
        held = self._index.pop(digest, None)
        if held is None and (held := self._stuck.pop(digest, None)) is not None:
            self._stuck_size -= held.size
        self.size -= held.size if held else 0
        return held

    def _read(self) -> tuple[OrderedDict[Digest, _Held], int]:
        index = OrderedDict(sorted(self._scan(), key=lambda entry: entry[1].used))
        return index, sum(held.size for held in index.values())

    def _scan(self) -> Iterator[tuple[Digest, _Held]]:
        """Yield all files with their size and modification time; remove those that are no content."""
        now = self._clock()
        with storage_errors(self._folder):
            for folder in self._folder.glob("*/*/"):
                with os.scandir(folder) as files:
                    for file in files:
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
