"""Fills a spool: from one source after the other, or by looking at a file that lies there already."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mirrord import failpoints
from mirrord.blobs.coalescer import Coalescer
from mirrord.blobs.source import BlobSource
from mirrord.blobs.source_queue import LIES, Patience, QueuedSource
from mirrord.blobs.spool import CHUNK, Spool
from mirrord.errors import BrokenError, DigestError, MirrordError, StorageError, TransportError
from mirrord.files import storage_errors

SOON = 0.1  # seconds: what has come is handed on by then


async def fill(spool: Spool, patience: Patience) -> None:
    """Bring the blob and verify it; ends with `verified` or `error`, and raises only when cancelled."""
    try:
        with storage_errors(str(spool.path)):
            await (_scan(spool) if spool.wanted.file else _Download(spool, patience).run())
            failpoints.hit("spool.verified")
        spool.verified, spool.ended = True, asyncio.get_running_loop().time()
    except MirrordError as error:
        spool.error = error
    except asyncio.CancelledError:
        spool.error = BrokenError("nobody waits for this blob any more")
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, readers must hear of it: they would wait for ever
        spool.error = _bug(spool.wanted, error)
    finally:
        spool.announce()


async def _scan(spool: Spool) -> None:
    """Verify a file in place; nothing is copied."""
    wanted, hasher = spool.wanted, spool.wanted.digest.hasher()
    assert wanted.file is not None
    with storage_errors(str(wanted.file)):
        handle = os.open(wanted.file, os.O_RDONLY)
        try:
            while spool.written < wanted.size:
                count, at = min(CHUNK, wanted.size - spool.written), wanted.start + spool.written
                data = await asyncio.to_thread(os.pread, handle, count, at)
                if not data:
                    break
                hasher.update(data)
                wanted.on_bytes(len(data))
                spool.grown(len(data))
        finally:
            os.close(handle)
    if spool.written != wanted.size or hasher.hexdigest() != wanted.digest.hex:
        raise DigestError(f"{wanted}: {spool.written} bytes of other content")


class _Download:
    """One blob on its way into its spool.

    Bytes of several sources follow one another and are hashed as one: the digest is the same for all of them. When it
    is not right nobody knows whose bytes were wrong; from then on each source has to bring the blob alone.
    """

    def __init__(self, spool: Spool, patience: Patience) -> None:
        self._spool, self._patience = spool, patience
        self._hasher = spool.wanted.digest.hasher()
        self._handle = -1
        self._givers: set[QueuedSource | None] = set()  # of what is there; None for what an earlier attempt left
        self._alone = False

    async def run(self) -> None:
        """Ask one source after the other until the blob is whole and right.

        Raises:
            MirrordError: none brought it; each reader has the error of its own source.
            OSError: our disk says no.
        """
        spool, source = self._spool, None
        self._open()
        try:
            await self._take_up()
            while not self._right(source):
                asked, source = source, spool.line.next()
                if source is None:
                    raise BrokenError(f"{spool.wanted.digest}: no source is left that can bring it")
                if self._alone and self._givers - {source}:
                    self._restart()
                if source is not asked:
                    spool.begin()
                await self._ask(source)
                spool.announce()
        finally:
            os.close(self._handle)

    def _right(self, source: QueuedSource | None) -> bool:
        """Whether all is there and right; what is wrong is dropped."""
        wanted = self._spool.wanted
        if self._spool.written < wanted.size:
            return False
        if self._hasher.hexdigest() == wanted.digest.hex:
            return True
        if not wanted.size:
            raise DigestError(f"{wanted.digest} is not the digest of nothing")
        if source is not None and self._givers == {source}:
            self._lied(source, DigestError(f"{source.name}: {wanted.size} bytes of other content"))
        else:
            self._alone = True
        self._restart()
        return False

    async def _ask(self, source: QueuedSource) -> None:
        """Let a source bring what it can; what goes wrong with it counts for it alone."""
        line, before, clock = self._spool.line, self._spool.written, asyncio.get_running_loop().time
        began = clock()
        wanted = source.wants[-1]
        try:
            await self._read_on(source, wanted)
        except TransportError as error:
            line.back(source)
            if source.broke(self._spool.written - before, clock() - began, self._patience):
                line.fail(source, error)
        except DigestError as error:
            self._lied(source, error)
            if source in self._givers:
                self._restart()
        except StorageError:
            raise
        except MirrordError as error:
            line.fail(source, error)
        except Exception as error:  # noqa: BLE001 - a bug in one source is none of the others'
            line.fail(source, _bug(wanted, error))

    def _lied(self, source: QueuedSource, error: DigestError) -> None:
        source.lies += 1
        self._spool.line.back(source)
        if source.lies >= LIES:
            self._spool.line.fail(source, error)

    async def _read_on(self, source: QueuedSource, wanted: BlobSource) -> None:
        spool, size = self._spool, self._spool.wanted.size

        def take(data: bytes) -> None:
            if spool.written + len(data) > size:
                raise DigestError(f"{wanted}: more than {size} bytes")
            self._givers.add(source)
            self._hasher.update(data)
            with storage_errors(str(spool.path)):
                _write_at(self._handle, data, spool.written)
                failpoints.hit("spool.chunk")
            spool.recent.append((spool.written, data))
            wanted.on_bytes(len(data))
            spool.grown(len(data))

        assert wanted.open is not None
        async with self._while_fast(source):
            async with wanted.open(spool.written) as chunks, Coalescer(take, CHUNK, SOON) as gathered:
                async for data in chunks:
                    gathered.add(data)
            if spool.written < size:
                raise BrokenError(f"{wanted}: ended after {spool.written} of {size} bytes")

    @asynccontextmanager
    async def _while_fast(self, source: QueuedSource) -> AsyncIterator[None]:
        """Leave off when the source is slow and a better one waits; that one is next then."""
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
                rest = spool.wanted.size - spool.written
                other = spool.line.better(source, rest, now, patience, once=self._alone)
                if other is not None:
                    spool.line.swap(source, other, now, patience)
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

    def _open(self) -> None:
        self._handle = os.open(self._spool.path, os.O_RDWR | os.O_CREAT, 0o600)

    async def _take_up(self) -> None:
        """Hash what an earlier attempt or process left, so that the source is asked for the rest only."""
        size = self._spool.wanted.size
        left, at = os.fstat(self._handle).st_size, 0
        if left > size:
            os.ftruncate(self._handle, 0)
            left = 0
        while at < left and (data := await asyncio.to_thread(os.pread, self._handle, CHUNK, at)):
            self._hasher.update(data)
            at += len(data)
        if at:
            self._givers.add(None)
        self._spool.written = at  # not before: nobody is handed old bytes that may still turn out to be wrong

    def _restart(self) -> None:
        """Drop all that is there. Readers that have the old file open keep it, and read no mixture."""
        old = self._handle
        self._spool.path.unlink(missing_ok=True)
        self._open()
        os.close(old)
        self._hasher = self._spool.wanted.digest.hasher()
        self._givers.clear()
        self._spool.restart()


def _bug(wanted: BlobSource, error: Exception) -> MirrordError:
    bug = MirrordError(f"a bug: {type(error).__name__} while {wanted} was read")
    bug.__cause__ = error
    return bug


def _write_at(handle: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(handle, view, at)
        view, at = view[count:], at + count
