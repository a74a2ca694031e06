"""All blobs on their way: each digest once, within a budget of bytes on disk."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

from mirrord.blobs.cache import CacheEntry, SpoolCache
from mirrord.blobs.filling import fill
from mirrord.blobs.reserve import free
from mirrord.blobs.source import BlobSource
from mirrord.blobs.source_queue import PATIENCE, Patience
from mirrord.blobs.spool import DetachedError, Spool, SpoolReader
from mirrord.errors import BrokenError, StorageError
from mirrord.events import BytesRead, BytesSent, Events

GRACE = 2.0  # seconds a lagging reader may still need before it is sent away


class SpoolPool:
    """Single-flight reading, a bounded cache of whole blobs, and the budget.

    Readers of one digest share a read, whatever their sources (see `blobs/source_queue.py`), unless they were told
    another size of it: who was told a wrong one fails alone. A file that is read in place is shared only by those who
    named that file: it is somebody's, and may be gone when its owner is through.
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
        """Use `folder`, which exists and is ours alone.

        Args:
            folder: where the files are.
            budget: bytes that they may have.
            events: tell what comes and goes.
            grace: seconds that a lagging reader may still need before it is sent away.
            patience: with sources.
            room: says how many bytes the disk still has for us.
        """
        self._cache = SpoolCache(folder, budget, room or partial(free, folder))
        self._events = events
        self._grace = grace
        self._patience = patience
        self._news = asyncio.Event()
        self._uploading: Counter[tuple[str, str]] = Counter()
        self._deferred: Counter[str] = Counter()
        self._short: set[object] = set()  # those who wait for room, and may send others away for it

    def sweep(self) -> None:
        """See `SpoolCache.sweep`."""
        self._cache.sweep()

    def trim(self) -> None:
        """See `SpoolCache.trim`."""
        self._cache.trim()

    @property
    def spare(self) -> int:
        """See `SpoolCache.spare`."""
        return self._cache.spare

    @contextlib.contextmanager
    def uploading(self, consumer: str, group: str) -> Iterator[None]:
        """Say that `consumer` (a target) is at work for `group` (a mirror): those of it who were sent away wait."""
        self._uploading[group, consumer] += 1
        try:
            yield
        finally:
            self._uploading[group, consumer] -= 1
            self._announce()

    @contextlib.asynccontextmanager
    async def defer(self, consumer: str, group: str) -> AsyncIterator[None]:
        """Wait until nobody of `group` is at work who was not sent away too, then go on without pushing others.

        Of other groups those are waited for who want room now, which they were sent away for; no others: a mirror that
        is always busy would starve this one.
        """
        ahead = set(self._short)
        self._deferred[consumer] += 1
        self._announce()
        try:
            while ahead & self._short or any(
                count > 0 and theirs == group and not self._deferred[name]
                for (theirs, name), count in self._uploading.items()
            ):
                await self._news.wait()
            yield
        finally:
            self._deferred[consumer] -= 1
            self._announce()

    @contextlib.asynccontextmanager
    async def reader(self, wanted: BlobSource, consumer: str) -> AsyncIterator[SpoolReader]:
        """Lend a reader of the blob to `consumer`, starting to read the source if nobody does yet.

        Raises:
            StorageError: the blob is larger than the budget, or does not fit the disk, or the disk said no.
            DigestError: the blob is known, and has another size than is wanted.
            DetachedError: sent away to keep the budget; come back in `defer`.
        """
        entry = await self._entry(wanted, consumer)
        entry.pins += 1
        loop = asyncio.get_running_loop()

        def on_bytes(count: int) -> None:
            self._events.emit(BytesSent(consumer, wanted.digest, count, wanted.size))

        spool = entry.spool
        reader = SpoolReader(spool, spool.line.join(wanted), consumer, loop.time(), on_bytes=on_bytes)
        spool.readers.add(reader)
        try:
            async with asyncio.timeout(None) as reader.watch:
                yield reader
        except TimeoutError as error:
            if not reader.detached:
                raise
            raise DetachedError("the spool is over its budget") from error
        finally:
            if reader.finished:
                entry.fastest = min(entry.fastest, loop.time() - reader.began)
            spool.readers.discard(reader)
            spool.line.leave(reader.source, wanted)
            entry.pins -= 1
            self._unpinned(entry)

    async def aclose(self) -> None:
        """Stop all reading."""
        tasks = [entry.task for entry in self._cache if entry.task and not entry.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _entry(self, wanted: BlobSource, consumer: str) -> CacheEntry:
        me = object()
        try:
            while True:
                entry = self._cache.find(wanted)
                if entry is None and self._cache.has_room(wanted):
                    entry = self._begin(wanted)
                if entry is not None:
                    return entry
                if not self._deferred[consumer]:
                    self._short.add(me)
                    self._detach_laggards(consumer)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._grace / 4):  # `wait_for` may lose a cancellation (CPython 86296)
                        await self._news.wait()
        finally:
            if me in self._short:
                self._short.remove(me)
                self._announce()

    def _begin(self, wanted: BlobSource) -> CacheEntry:
        def on_bytes(count: int) -> None:
            self._events.emit(BytesRead(wanted.digest, count, wanted.size))

        entry = self._cache.begin(wanted, on_bytes)
        entry.task = asyncio.create_task(self._fill(entry), name=f"read {wanted.digest}")
        return entry

    async def _fill(self, entry: CacheEntry) -> None:
        await fill(entry.spool, self._patience)
        if entry.spool.verified:
            self._cache.whole(entry)  # no await since it was verified: nobody saw its old name
        self._announce()

    def _detach_laggards(self, consumer: str) -> None:
        """Send away readers of whole blobs who need far longer than the first of their blob did.

        Where none is through yet, those who need longer still than they had since the blob was whole: a slow
        target that alone lacks a blob must not hold up all others. Everybody has the grace to show its pace.

        So are all readers of a blob whose source will take hours at its pace: it may promise to be as large as the
        whole budget.
        """
        now = asyncio.get_running_loop().time()
        for entry in self._cache:
            others = [reader for reader in entry.spool.readers if reader.consumer != consumer] if entry.charged else []
            for reader in others:
                if self._laggard(entry, reader, now) if entry.spool.verified else self._hopeless(entry.spool, now):
                    reader.detach()

    def _laggard(self, entry: CacheEntry, reader: SpoolReader, now: float) -> bool:
        had = now - max(entry.spool.ended, reader.began)
        patience = max(self._grace, entry.fastest if entry.fastest < math.inf else had)
        return had > self._grace and reader.remaining(now) > patience

    def _hopeless(self, spool: Spool, now: float) -> bool:
        return now - spool.began > self._patience.first and spool.remaining(now) > self._patience.longest

    def _unpinned(self, entry: CacheEntry) -> None:
        spool = entry.spool
        if not entry.pins:
            spool.recent.clear()
        if not entry.pins and entry.task and not entry.task.done():
            spool.error = BrokenError("nobody waits for this blob any more")
            entry.task.cancel()
        useless = spool.wanted.file is not None or (
            spool.error is not None and (isinstance(spool.error, StorageError) or not spool.written)
        )
        if not entry.pins and useless and entry in self._cache:
            self._cache.drop(entry)
        self._announce()

    def _announce(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
