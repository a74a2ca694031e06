"""Content within a size: a store on disk that removes what was not used for longest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Collection, Coroutine, Iterator
from pathlib import Path
from typing import Any

from mirrord.blobs import eviction
from mirrord.blobs.disk import DiskStore
from mirrord.blobs.eviction import EvictionOrder, HeldContent
from mirrord.errors import ContentError, MirrordError, StorageError
from mirrord.files import LocalFile, storage_errors
from mirrord.keyedlock import KeyedLock
from mirrord.model.digest import Digest


class BoundedStore:
    """A `DiskStore` with an index in memory; implements `BlobStore` and `OtherContent`.

    The modification time of a file is its last use, so the files alone say all after a crash. Removing a file does not
    hurt who reads it: an open file stays whole until it is closed.

    Attributes:
        order: the entries and their limits; what changes there counts from the next `evict` on.
        error: why content could not be kept or evicted the last time, "" if it could.
    """

    def __init__(
        self,
        folder: Path,
        room: Callable[[], int],
        *,
        removing: Callable[[Digest], None] = lambda _: None,
        evicted: Callable[[int, int], None] = lambda _count, _size: None,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - it is compared with modification times
    ) -> None:
        """Keep content below `folder`, which belongs to this store alone.

        Args:
            folder: of the files.
            room: returns how many bytes content may still take on the disk.
            removing: is called with the digest of each entry to be removed, before its file goes.
            evicted: is called once for each `evict` that removed something, with the number of entries and their bytes.
            clock: returns the time in seconds.
        """
        self._folder, self._room, self._clock = folder, room, clock
        self._removing, self._evicted = removing, evicted
        self._disk = DiskStore(folder)
        self.order = EvictionOrder()
        self._locks, self._turn = KeyedLock(), asyncio.Lock()
        self._work: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None
        self._dirty: set[Digest] = set()  # used, and the file does not show it yet
        self.error = ""

    async def open_(self) -> None:
        """Read sizes and last uses from the disk, and remove leftovers of a crash; call it before the first use.

        Raises:
            StorageError: the folder cannot be read.
        """
        self.order = await asyncio.to_thread(self._read)

    async def aclose(self) -> None:
        """Finish what is under way, and write the last uses."""
        if self._again is not None:
            self._again.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self.write_uses()

    def __contains__(self, digest: Digest) -> bool:
        """Whether there is such an entry, without looking at the disk."""
        return digest in self.order

    @property
    def evictable(self) -> int:
        """Return the bytes of entries that are not known to be pinned."""
        return self.order.evictable

    async def find(self, digest: Digest) -> LocalFile | None:
        """Look in the index, then at the file; what is found counts as used now. Returns at once without an entry."""
        if digest not in self:
            return None
        found = await self._disk.find(digest)
        if found is None:
            await self._check([digest])
        elif (held := self._use(digest)) is not None:
            held.found = held.used
            return found
        return None  # also when it was evicted meanwhile

    def place(self, digest: Digest) -> Path:
        """Return where the file of an entry is; that is no use of it."""
        return self._disk.place(digest)

    def link(self, digest: Digest, size: int, to: Path) -> bool:
        """Give an entry a second name; it counts as used now."""
        if digest in self:
            with contextlib.suppress(OSError):
                if (file := self._disk.place(digest)).stat().st_size == size:
                    to.hardlink_to(file)
                    self._use(digest)
                    return True
        return False

    async def missing(self, digests: Collection[Digest], *, linked: bool = False) -> frozenset[Digest]:  # noqa: ARG002 - a disk is looked at each time
        """Look at the files of those in the index."""
        await self._check(await self._disk.missing([digest for digest in digests if digest in self]))
        return frozenset(digest for digest in digests if digest not in self)

    async def adopt(self, digest: Digest, file: Path) -> None:
        """Keep the content of a file, then evict what is too much."""
        await self._finish(self._store(digest, self._disk.adopt(digest, file)))

    async def put(self, digest: Digest, data: bytes) -> None:
        """Keep a small piece of content, then evict what is too much."""
        await self._finish(self._store(digest, self._disk.put(digest, data)))

    async def remove(self, digest: Digest) -> None:
        """Remove an entry; `find` misses it from now on."""
        self._removing(digest)
        await self._finish(self._remove(digest))

    async def has_room(self, size: int) -> bool:
        """Evict until the disk has `size` bytes for an entry; return whether it has them and the limit allows it."""
        try:
            if self.order.takes(size) and (lack := size - await asyncio.to_thread(self._room)) > 0:
                await self.evict(lack)
            return self.order.takes(size) and await asyncio.to_thread(self._room) >= size
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
            count = size = 0
            try:
                while (digest := self.order.next(self._clock(), lack)) and (held := self.order.get(digest)):
                    count, size, lack = count + 1, size + held.size, lack - held.size
                    await self.remove(digest)  # goes on when this is cancelled, so it counts already
            finally:
                if count:
                    self._evicted(count, size)
        if self.order.waits() and self._again is None:
            self._again = asyncio.get_running_loop().call_later(eviction.JUST, self._evict_again)

    async def write_uses(self) -> None:
        """Write the last uses to the files: a crash loses those since the last call, never content."""
        used = [(digest, held.used) for digest in self._dirty if (held := self.order.get(digest)) is not None]
        self._dirty.clear()
        await asyncio.to_thread(self._touch, used)

    def _evict_again(self) -> None:
        self._again = None
        self._start(self.evict())

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
                    self.order.add(digest, HeldContent(found.size, 0.0))
                self._use(digest)
        try:
            await self.evict()
        except StorageError as error:  # the content is kept all the same
            self.error = str(error)

    async def _remove(self, digest: Digest) -> None:
        async with self._locks.hold(digest):
            held = self.order.pop(digest)
            try:
                await self._disk.remove(digest)
            except BaseException:
                if held is not None:
                    self.order.add(digest, held)
                raise

    async def _check(self, digests: Collection[Digest]) -> None:
        """Forget entries whose files somebody else removed."""
        for digest in digests:
            async with self._locks.hold(digest):  # what is evicted or kept at this moment is right then
                if await self._disk.missing([digest]):
                    self.order.pop(digest)

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it to the end even if the caller is cancelled: a thread cannot be, and sizes have to be right."""
        await asyncio.shield(self._start(work))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled():
            task.exception()  # a cancelled caller does not read it

    def _use(self, digest: Digest) -> HeldContent | None:
        self._dirty.add(digest)
        return self.order.use(digest, self._clock())

    def _read(self) -> EvictionOrder:
        return EvictionOrder(sorted(self._scan(), key=lambda entry: entry[1].used))

    def _scan(self) -> Iterator[tuple[Digest, HeldContent]]:
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
                        yield digest, HeldContent(stat.st_size, min(stat.st_mtime, now))

    def _touch(self, used: Collection[tuple[Digest, float]]) -> None:
        for digest, at in used:
            with contextlib.suppress(OSError):  # evicted meanwhile, or a disk that takes no times
                os.utime(self._disk.place(digest), (at, at))
