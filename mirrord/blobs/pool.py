"""All blobs in transfer: each digest once, within a budget of bytes on disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from mirrord.blobs.cache import SpoolCache
from mirrord.blobs.filling import fill
from mirrord.blobs.idle import CacheEntry
from mirrord.blobs.laggards import Laggards
from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.reserve import free
from mirrord.blobs.source import BlobSource
from mirrord.blobs.source_queue import PATIENCE, Patience
from mirrord.errors import BrokenError, DetachedError, MirrordError, StorageError
from mirrord.events import BytesRead, BytesSent, Events

Keep = Callable[[SpoolReader], Awaitable[bool]]
"""Stores a blob: waits until it is `verified`, links its file, and returns True; returns False if it wants none."""

_Got = TypeVar("_Got")

GRACE = 2.0  # seconds a slow reader may still need before it is detached


class SpoolPool:
    """Single-flight reading, a bounded cache of complete blobs, and the budget.

    Readers of one digest share a read, whatever their sources (see `blobs/source_queue.py`), unless they expect
    different sizes (a wrong size fails its own reader only), or one demands that all are of its registry (see
    `BlobSource`). A file that is read in place is shared only by readers of it, since its owner may remove it.

    Attributes:
        cache: the files and the space for them.
    """

    def __init__(
        self,
        folder: Path,
        budget: int,
        events: Events,
        grace: float = GRACE,
        *,
        patience: Patience = PATIENCE,
        room: Callable[[], int] | None = None,
    ) -> None:
        """Use `folder`, which exists and belongs to this pool alone.

        Args:
            folder: where the files are.
            budget: bytes that they may use.
            events: the listeners for bytes read.
            grace: seconds that a slow reader may still need before it is detached, or may stay away between two parts.
            patience: with sources.
            room: returns how many bytes the disk still has for us.
        """
        self.cache = SpoolCache(folder, budget, room or partial(free, folder))
        self._events = events
        self._grace, self._patience = grace, patience
        self._news = asyncio.Event()
        self._uploading: Counter[tuple[str, str]] = Counter()
        self._deferred: Counter[str] = Counter()
        self._keepers: set[asyncio.Task[None]] = set()
        self._short: dict[object, Collection[str]] = {}  # who waits for space and may detach others
        self._laggards = Laggards(grace, patience)

    @contextlib.contextmanager
    def uploading(self, consumer: str, group: str) -> Iterator[None]:
        """Note that `consumer` (a target) is working for `group` (a mirror): detached consumers of the group wait."""
        self._uploading[group, consumer] += 1
        try:
            yield
        finally:
            self._uploading[group, consumer] -= 1
            self._announce()

    @contextlib.asynccontextmanager
    async def defer(self, consumer: str, group: str) -> AsyncIterator[None]:
        """Wait until only detached consumers of `group` are left, then continue without detaching others.

        Consumers of other groups are waited for only if they want space now. A mirror that is always busy must not
        starve this one.
        """
        ahead = set(self._short)
        self._deferred[consumer] += 1
        self._announce()
        try:
            while ahead & self._short.keys() or any(
                count > 0 and theirs == group and not self._deferred[name]
                for (theirs, name), count in self._uploading.items()
            ):
                await self._news.wait()
            yield
        finally:
            self._deferred[consumer] -= 1
            self._announce()

    @contextlib.asynccontextmanager
    async def reader(
        self, source: BlobSource, consumer: str, *, offset: int = 0, client: bool = False, keep: Keep | None = None
    ) -> AsyncIterator[SpoolReader]:
        """Give `consumer` a reader of a blob, and start reading the source unless it is being read.

        Args:
            source: of the blob.
            consumer: `<mirror>/<target>`, or a client.
            offset: where to begin.
            client: whether it is a client, which cannot retry: it is never detached. Without space the blob is
                streamed through memory at the client's pace, and not kept. After wrong bytes `SpoolReader.chunks`
                raises RestartedError, and the client must be cut off.
            keep: stores a blob that is not streamed, once for all readers. When all readers have left, the blob is
                read on for it for `grace`, and to its end if more than half is there then.

        Raises:
            StorageError: the blob is larger than the budget, or does not fit the disk, or the disk failed.
            DigestError: the blob is known with a different size.
            DetachedError: detached to keep the budget; retry after `defer`.
        """
        entry = await self._entry(source, consumer, client=client)
        reader = self._join(entry, source, consumer, offset, client=client)
        if keep is not None and entry.keeper is None and not entry.spool.streamed:
            entry.keeper = self._join(entry, source, consumer)
            keeper = asyncio.create_task(self._keep(entry, entry.keeper, keep))
            self._keepers.add(keeper)
            keeper.add_done_callback(self._keepers.discard)
        try:
            with entry.spool.memory.reader(entry.spool):
                async with asyncio.timeout(None) as reader.watch:
                    yield reader
        except TimeoutError as error:
            if not reader.detached:
                raise
            raise DetachedError("the spool is over its budget") from error
        finally:
            reader.leave()

    async def _keep(self, entry: CacheEntry, reader: SpoolReader, keep: Keep) -> None:
        try:
            entry.kept = await keep(reader)
        except MirrordError:  # its readers get the error, and the next request retries it
            entry.keeper = None
        finally:
            reader.leave()

    def _join(
        self, entry: CacheEntry, source: BlobSource, consumer: str, offset: int = 0, *, client: bool = False
    ) -> SpoolReader:
        spool, now = entry.spool, asyncio.get_running_loop().time()

        def on_bytes(count: int) -> None:
            if not client:
                self._events.emit(BytesSent(consumer, count))

        reader = SpoolReader(spool, spool.queue.join(source), consumer, now, offset, client, on_bytes=on_bytes)
        reader.hold, reader.let_go = partial(self._hold, entry, reader), partial(self._let_go, entry, reader)
        reader.leave = partial(self._leave, entry, source, reader)
        reader.hold()
        spool.readers.add(reader)
        self._announce()
        return reader

    def _leave(self, entry: CacheEntry, source: BlobSource, reader: SpoolReader) -> None:
        spool = entry.spool
        if reader not in spool.readers:
            return
        if reader.finished and not reader.client:
            entry.fastest = min(entry.fastest, asyncio.get_running_loop().time() - reader.began)
        spool.readers.discard(reader)
        spool.announce()
        spool.queue.leave(reader.source, source)
        if not spool.readers:
            self._abandon(entry)
        elif spool.readers == {entry.keeper}:  # a client that reads parts may come for the next one, if none was wrong
            soon = 0.0 if spool.generation else self._grace
            asyncio.get_running_loop().call_later(soon, self._unwanted, entry)
        self._let_go(entry, reader)

    def _unwanted(self, entry: CacheEntry) -> None:
        """Stop reading a blob that nobody came for again, unless more than half is there."""
        if entry.keeper is not None and entry.spool.readers == {entry.keeper} and not entry.spool.mostly:
            entry.keeper.leave()

    def _hold(self, entry: CacheEntry, reader: SpoolReader) -> bool:
        """Keep a blob for a reader; return whether its space was still reserved."""
        if entry in self.cache:
            entry.holders.add(reader)
            self.cache.settle(entry)
        return reader in entry.holders

    def _let_go(self, entry: CacheEntry, reader: SpoolReader) -> None:
        entry.holders.discard(reader)
        if not entry.holders:
            entry.spool.forget()
        self.cache.settle(entry)
        self._announce()

    async def aclose(self) -> None:
        """Stop all reading."""
        for task in (tasks := [*self._keepers, *(entry.task for entry in self.cache.busy if entry.task)]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _entry(self, source: BlobSource, consumer: str, *, client: bool) -> CacheEntry:
        def begun() -> CacheEntry | None:
            if (entry := self.cache.find(source)) is not None:
                self.cache.claim(entry, source)
                return entry
            try:
                if self.cache.has_room(source):
                    return self._begin(source, consumer)
            except StorageError:
                if not client:
                    raise
            return self._begin(source, consumer, streamed=True) if client else None

        return await self._roomed(begun, lambda: {consumer}, lambda: 0 if self.cache.find(source) else source.size or 0)

    async def _roomed(
        self, get: Callable[[], _Got | None], consumers: Callable[[], set[str]], need: Callable[[], int]
    ) -> _Got:
        """Return what `get` returns once there is space; consumers that were not detached may detach others."""
        me = object()
        try:
            await self.cache.make_way(need())
            while (got := get()) is None:
                if self.cache.dropping:
                    await asyncio.sleep(0)
                    continue
                if not all(self._deferred[consumer] for consumer in consumers()):
                    self._short[me] = consumers()
                    self._laggards.send_away(self.cache.busy, self._short.values(), asyncio.get_running_loop().time())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._grace / 4):  # `wait_for` may lose a cancellation (CPython 86296)
                        await self._news.wait()
                await self.cache.make_way(need())
            return got
        finally:
            if me in self._short:
                del self._short[me]
                self._announce()

    def _begin(self, source: BlobSource, consumer: str, *, streamed: bool = False) -> CacheEntry:
        def on_bytes(count: int) -> None:
            self._events.emit(BytesRead(consumer, count))

        entry = self.cache.begin(source, on_bytes, streamed=streamed)
        entry.task = asyncio.create_task(self._fill(entry), name=f"read {source}")
        entry.task.add_done_callback(lambda _: self._filled(entry))
        return entry

    async def _fill(self, entry: CacheEntry) -> None:
        async def room(size: int) -> None:
            readers, size = entry.spool.readers, self.cache.release(entry, size)
            self._announce()
            await self._roomed(
                lambda: self._grow(entry, size) or None, lambda: {one.consumer for one in readers}, lambda: size
            )

        await fill(entry.spool, self._patience, partial(self._grow, entry), room)
        if entry.spool.verified:
            self.cache.finish(entry)  # no await since it was verified: nobody used its old name

    def _filled(self, entry: CacheEntry) -> None:
        self.cache.settle(entry)
        self._announce()

    def _grow(self, entry: CacheEntry, size: int) -> bool:
        """Reserve space for a blob of unknown size; without space it is streamed when clients read it."""
        readers = entry.spool.readers
        clients = any(reader.client for reader in readers)
        try:
            if entry.spool.streamed or self.cache.grow(entry, size):
                return True
        except StorageError:
            if not clients:
                raise
        if clients:
            self.cache.stream(entry)
            for reader in readers:
                if not reader.client:
                    reader.detach()
        return clients

    def _abandon(self, entry: CacheEntry) -> None:
        """Stop the transfer of a blob without readers, and drop it unless it can be reused."""
        if entry.task and not entry.task.done():
            entry.spool.error = BrokenError("cancelled: no reader is left for this blob")
            entry.task.cancel()
        if entry in self.cache and not self.cache.stays(entry):
            self.cache.drop(entry)

    def _announce(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
