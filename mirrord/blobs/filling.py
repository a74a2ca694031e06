"""Fills a spool from one source after the other, or verifies a local file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from mirrord import failpoints
from mirrord.blobs.coalescer import Coalescer
from mirrord.blobs.hashed_file import CHUNK, HashedFile
from mirrord.blobs.source import BlobSource
from mirrord.blobs.source_queue import MISMATCHES, Patience, QueuedSource
from mirrord.blobs.spool import Spool
from mirrord.errors import (
    BrokenError,
    DigestError,
    MirrordError,
    PreemptedError,
    RestartedError,
    StorageError,
    TooLargeError,
    TransportError,
)
from mirrord.files import storage_errors

Fits = Callable[[int], bool]

SOON = 0.1  # seconds after which received bytes are passed on


async def fill(spool: Spool, patience: Patience, fits: Fits, room: Callable[[int], Awaitable[None]]) -> None:
    """Read the blob and verify it; ends with `verified` or `error`, and raises only when cancelled.

    Args:
        spool: its destination.
        patience: with sources.
        fits: reserves this many bytes in all where the size was unknown, or lets the blob be streamed;
            returns whether it may continue.
        room: returns when it `fits`. Both raise StorageError when it can never fit.
    """
    try:
        with storage_errors(str(spool.path)):
            await (_scan(spool) if spool.source.file else _Download(spool, patience, fits, room).run())
            failpoints.hit("spool.verified")
        spool.complete()
    except MirrordError as error:
        spool.error = error
    except asyncio.CancelledError:
        spool.error = BrokenError("cancelled: no reader is left for this blob")
        raise
    except Exception as error:  # noqa: BLE001 - readers must get any error, else they wait forever
        spool.error = _bug(spool.source, error)
    finally:
        spool.announce()


async def _scan(spool: Spool) -> None:
    """Verify a file with a known digest and size in place; nothing is copied."""
    source, size = spool.source, spool.source.size
    assert source.file is not None
    assert source.digest is not None
    assert size is not None
    hasher = source.digest.hasher()
    with storage_errors(str(source.file)):
        handle = os.open(source.file, os.O_RDONLY)
        try:
            while spool.written < size:
                count, at = min(CHUNK, size - spool.written), source.start + spool.written
                data = await asyncio.to_thread(os.pread, handle, count, at)
                if not data:
                    break
                hasher.update(data)
                source.on_bytes(len(data))
                spool.grown(len(data))
        finally:
            os.close(handle)
    if spool.written != size or hasher.hexdigest() != source.digest.hex:
        raise DigestError(f"{source}: digest mismatch after {spool.written} bytes")


class _Download:
    """The transfer of one blob into its spool.

    Bytes of several sources are concatenated and hashed as one blob. After a mismatch it is unknown which source was
    wrong; from then on each source has to deliver the whole blob.
    """

    def __init__(self, spool: Spool, patience: Patience, fits: Fits, room: Callable[[int], Awaitable[None]]) -> None:
        self._spool, self._patience, self._fits, self._room = spool, patience, fits, room
        self._file = HashedFile(spool.path, spool.digest)
        self._contributors: set[QueuedSource | None] = set()  # None: a partial file of an earlier attempt
        self._alone = False
        self._lacks = 0  # bytes that do not fit now

    async def run(self) -> None:
        """Read from one source after the other until the blob is complete and verified.

        Raises:
            MirrordError: all failed; each reader has the error of its own source.
            OSError: our disk failed.
        """
        spool, source = self._spool, None
        try:
            await self._take_up()
            while not self._is_whole(source):
                if self._lacks:  # hold no connection meanwhile: the holders of the space may need it
                    await self._room(self._lacks)
                    self._lacks = 0
                await spool.drained(CHUNK)  # nor while the readers of a streamed blob have to take what is in memory
                before, source = source, spool.queue.next()
                if source is None:
                    raise BrokenError(f"{spool.source}: no source is left to read it from")
                if self._alone and self._contributors - {source}:
                    self._restart()
                if source is not before:
                    spool.begin()
                await self._ask(source)
                spool.announce()
        finally:
            self._file.close()

    def _is_whole(self, source: QueuedSource | None) -> bool:
        """Whether all of it is there and verified; wrong bytes are dropped."""
        spool = self._spool
        if spool.size is None or spool.written < spool.size:
            return False
        spool.digest = spool.digest or self._file.digest
        if spool.digest == self._file.digest:
            return True
        if not spool.size and source is None:
            raise DigestError(f"{spool.digest} is not the digest of empty content")
        if source is not None and self._contributors <= {source}:
            request = source.requests[-1]
            self._mismatched(source, DigestError(f"{request}: digest mismatch after {spool.size} bytes"))
        else:
            self._alone = True
            for one in filter(None, self._contributors):
                one.wrong()
        self._restart()
        return False

    async def _ask(self, source: QueuedSource) -> None:
        """Read from a source as far as possible; its errors affect only its own readers."""
        queue, before, clock = self._spool.queue, self._spool.written, asyncio.get_running_loop().time
        began = clock()
        request = source.requests[-1]
        try:
            await self._read_on(source, request)
        except PreemptedError:
            pass  # not a failure of the source: the rest is requested when the readers have taken what is in memory
        except TransportError as error:
            self._broke(source, error, self._spool.written - before, clock() - began)
        except DigestError as error:
            self._mismatched(source, error)
            if source in self._contributors:
                self._restart()
        except StorageError:
            raise
        except MirrordError as error:
            queue.fail(source, error)
        except Exception as error:  # noqa: BLE001 - a bug in one source must not fail the others
            queue.fail(source, _bug(request, error))

    def _broke(self, source: QueuedSource, error: TransportError, fresh: int, seconds: float) -> None:
        if isinstance(error, RestartedError) and self._spool.written:
            self._restart()
        if self._lacks:
            return
        self._spool.queue.back(source)
        if source.broke(fresh, seconds, self._patience) or not error.retry:
            self._spool.queue.fail(source, error)

    def _mismatched(self, source: QueuedSource, error: DigestError) -> None:
        source.mismatches += 1
        source.wrong()
        self._spool.queue.back(source)
        if source.mismatches >= MISMATCHES:
            self._spool.queue.fail(source, error)

    async def _read_on(self, source: QueuedSource, request: BlobSource) -> None:
        spool = self._spool

        def take(data: bytes) -> None:
            self._make_room(request, spool.written + len(data))
            self._contributors.add(source)
            with storage_errors(str(spool.path)):
                self._file.add(data, None if spool.streamed else spool.written)
                failpoints.hit("spool.chunk")
            request.on_bytes(len(data))
            spool.came(data)

        assert request.open is not None
        async with self._while_fast(source):
            async with request.open(spool.written) as (size, chunks):
                self._answered(request, size)
                async with Coalescer(take, CHUNK, SOON) as coalescer:
                    async for data in chunks:
                        coalescer.add(data)
                        if spool.streamed:
                            await spool.drained()
            if spool.size is None:
                spool.size = spool.written  # complete
            elif spool.written < spool.size:
                raise BrokenError(f"{request}: ended after {spool.written} of {spool.size} bytes")

    def _answered(self, request: BlobSource, size: int | None) -> None:
        """Set the blob's size if it was unknown."""
        spool = self._spool
        if spool.source.size is None and size is not None:
            if spool.size not in (None, size):
                raise RestartedError(f"{request}: had {spool.size} bytes, and has {size} now")
            if spool.size is None:
                self._make_room(request, size)
                spool.size = size
        spool.answered = True
        spool.announce()

    def _make_room(self, request: BlobSource, size: int) -> None:
        """Let the blob grow to `size` bytes."""
        spool, limit = self._spool, self._spool.source.limit
        if spool.size is not None:
            if size > spool.size:
                raise DigestError(f"{request}: more than {spool.size} bytes")
        elif limit is not None and size > limit:
            raise TooLargeError(f"{request}: more than {limit} bytes")
        elif not self._fits(size):  # two growing blobs would wait for each other forever: this one restarts
            self._lacks = size if not spool.written else min(2 * size, limit or 2 * size)
            raise RestartedError(f"{request}: no room in the spool now")

    @asynccontextmanager
    async def _while_fast(self, source: QueuedSource) -> AsyncIterator[None]:
        """Stop when the source is slow and a better one waits, which is next then."""
        spool, patience, loop = self._spool, self._patience, asyncio.get_running_loop()
        opened = since = loop.time()
        begun = mark = spool.written
        limit = asyncio.timeout(None)
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer, since, mark
            now = loop.time()
            if spool.written > begun or now - opened >= patience.first:
                source.pace = (spool.written - mark) / (now - since)
                rest = (spool.size or spool.source.limit or spool.written) - spool.written
                other = spool.queue.better(source, rest, now, patience, once=self._alone)
                if other is not None:
                    spool.queue.swap(source, other, now, patience)
                    limit.reschedule(now)
                    return
            since, mark = now, spool.written
            timer = loop.call_later(patience.window, look)

        timer = loop.call_later(patience.window, look)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
        finally:
            timer.cancel()

    async def _take_up(self) -> None:
        """Hash the partial file of an earlier attempt or process, so that only the rest is requested."""
        left = await self._file.take_up(self._spool.size)
        if left:
            self._contributors.add(None)
        if self._spool.size is None and left and self._spool.digest == self._file.digest:
            self._spool.size = left  # nothing is left to request
        self._spool.written = left  # not before: readers must not get old bytes that may be wrong

    def _restart(self) -> None:
        """Drop all bytes."""
        self._file.restart(self._spool.path)
        self._contributors.clear()
        self._spool.restart()


def _bug(source: BlobSource, error: Exception) -> MirrordError:
    bug = MirrordError(f"a bug: {type(error).__name__} while reading {source}")
    bug.__cause__ = error
    return bug
