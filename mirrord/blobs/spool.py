"""One blob on its way: a growing file with one writer and many tailing readers.

The last chunk is withheld from every reader until size and digest are verified, so that a bad
source can never complete an upload or a client's download.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from mirrord import failpoints
from mirrord.blobs.files import storage_errors
from mirrord.blobs.gathered import Gathered
from mirrord.blobs.wanted import Wanted
from mirrord.errors import BrokenError, DigestError, MirrordError, StorageError, TransportError

CHUNK = 1 << 18  # bytes handed to a reader at a time
SOON = 0.1  # seconds: what has come is handed on by then
RECENT = 8  # pieces kept in memory for readers that keep up: they need not read the file
WITHHELD = 1 << 16  # bytes kept back until the digest is verified
TRIES = 5  # reads of a source that break without bringing PROGRESS bytes
PROGRESS = 1 << 20
START_WITHIN = 30.0  # seconds: an upload starts when the source will be through by then


class DetachedError(MirrordError):
    """The reader was sent away to keep the spool within its budget; come back later."""

    code = "detached"


class RestartedError(TransportError):
    """The source sent wrong bytes and is read again from the start; send again from the start."""

    code = "restarted"


@dataclass(eq=False)
class Spool:
    """The state of one blob on its way; times are `loop.time()` seconds."""

    wanted: Wanted
    path: Path
    began: float
    tell: Callable[[int], None] = lambda _count: None
    written: int = 0
    verified: bool = False
    ended: float = math.inf
    error: MirrordError | None = None
    generation: int = 0
    readers: set[Reader] = field(default_factory=set)
    recent: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=RECENT))
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def visible(self) -> int:
        """How many bytes readers may see."""
        size = self.wanted.size
        return size if self.verified else max(0, min(self.written, size - min(WITHHELD, max(1, size // 2))))

    def piece(self, at: int) -> bytes | None:
        """Return the piece that begins at `at`, if it is still in memory and may be seen."""
        return next((data for begin, data in self.recent if begin == at and at + len(data) <= self.visible), None)

    async def changed(self) -> None:
        """Wait for the next change of anything above."""
        await self._news.wait()

    def announce(self) -> None:
        """Wake everybody who waits for a change."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def worth_sending(self) -> None:
        """Wait until a PUT may start: the source will be through soon at the pace it has shown.

        So no target holds a connection open, and times out, because the source is slow.

        Raises:
            MirrordError: the source failed.
        """
        loop = asyncio.get_running_loop()
        while not self.verified:
            if self.error:
                raise self.error
            elapsed = loop.time() - self.began
            if self.visible and (self.wanted.size - self.written) * elapsed <= START_WITHIN * self.written:
                return
            await self.changed()

    async def fill(self) -> None:
        """Read the source to the end and verify; ends with `verified` or `error`, and raises only when cancelled."""
        try:
            await self._fill()
        except MirrordError as error:
            self.error = error
        except OSError as error:
            self.error = StorageError(f"{self.path}: {error.strerror or error}")
        except asyncio.CancelledError:
            self.error = BrokenError("nobody waits for this blob any more")
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, readers must hear of it: they would wait for ever
            self.error = MirrordError(f"a bug: {type(error).__name__} while {self.wanted.digest} was read")
            self.error.__cause__ = error
        finally:
            self.announce()

    async def _fill(self) -> None:
        try:
            await self._attempt()
        except DigestError:
            if self.wanted.file is not None:
                raise
            self._restart()  # once: the source may have healed (a proxy's bad copy, a torn write)
            await self._attempt()
        failpoints.hit("spool.verified")
        self.verified, self.ended = True, asyncio.get_running_loop().time()

    async def _attempt(self) -> None:
        hasher = self.wanted.digest.hasher()
        await (self._scan(hasher.update) if self.wanted.file else self._download(hasher.update))
        if self.written != self.wanted.size or hasher.hexdigest() != self.wanted.digest.hex:
            raise DigestError(f"{self.wanted.digest}: got {self.written} bytes of other content")

    def _restart(self) -> None:
        self.path.unlink(missing_ok=True)
        self.written = 0
        self.recent.clear()
        self.generation += 1
        self.announce()

    async def _scan(self, update: Callable[[bytes], None]) -> None:
        """Verify a file in place; nothing is copied."""
        assert self.wanted.file is not None
        with storage_errors(str(self.wanted.file)):
            handle = os.open(self.wanted.file, os.O_RDONLY)
            try:
                while self.written < self.wanted.size:
                    at = self.wanted.start + self.written
                    data = await asyncio.to_thread(os.pread, handle, min(CHUNK, self.wanted.size - self.written), at)
                    if not data:
                        return
                    update(data)
                    self._grown(len(data))
            finally:
                os.close(handle)

    async def _download(self, update: Callable[[bytes], None]) -> None:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            await self._take_up(handle, update)
            tries = 0
            while self.written < self.wanted.size:
                before = self.written
                try:
                    await self._read_on(handle, update)
                    if self.written < self.wanted.size:
                        raise BrokenError(f"{self.wanted.digest}: the source ended after {self.written} bytes")
                except TransportError:
                    tries = 1 if self.written - before >= PROGRESS else tries + 1
                    if tries >= TRIES:
                        raise
        finally:
            os.close(handle)

    async def _take_up(self, handle: int, update: Callable[[bytes], None]) -> None:
        """Hash what an earlier attempt or process left, so that the source is asked for the rest only."""
        left, at = os.fstat(handle).st_size, 0
        if left > self.wanted.size:
            os.ftruncate(handle, 0)
            left = 0
        while at < left and (data := await asyncio.to_thread(os.pread, handle, CHUNK, at)):
            update(data)
            at += len(data)
        self.written = at  # not before: nobody is handed old bytes that may still turn out to be wrong

    async def _read_on(self, handle: int, update: Callable[[bytes], None]) -> None:
        assert self.wanted.open is not None

        def take(data: bytes) -> None:
            if self.written + len(data) > self.wanted.size:
                raise DigestError(f"{self.wanted.digest}: the source sends more than {self.wanted.size} bytes")
            update(data)
            _write_at(handle, data, self.written)
            self.recent.append((self.written, data))
            failpoints.hit("spool.chunk")
            self._grown(len(data))

        async with self.wanted.open(self.written) as chunks, Gathered(take, CHUNK, SOON) as gathered:
            async for data in chunks:
                gathered.add(data)

    def _grown(self, count: int) -> None:
        self.written += count
        self.wanted.tell(count)
        self.tell(count)
        self.announce()


@dataclass(eq=False)
class Reader:
    """One tailing reader of a spool, on behalf of one party (a target)."""

    spool: Spool
    party: str
    began: float
    position: int = 0
    taken: int = 0
    detached: bool = False
    tell: Callable[[int], None] = lambda _count: None
    watch: asyncio.Timeout | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the blob from its first byte, as far as it may be seen, then wait for more.

        Raises:
            DetachedError: sent away by the pool.
            RestartedError: what was yielded so far was wrong.
            StorageError: the spool's file cannot be read.
            MirrordError: the source failed.
        """
        spool, generation = self.spool, self.spool.generation
        self.position = self.taken = 0
        with contextlib.ExitStack() as stack:
            handle = -1
            while self.position < spool.wanted.size or not spool.verified:
                if self.detached:
                    raise DetachedError("the spool is over its budget")
                if spool.error:
                    raise spool.error
                if generation != spool.generation and not self.position:
                    generation = spool.generation  # nothing was handed out: begin again unnoticed
                elif generation != spool.generation:
                    raise RestartedError(f"{spool.wanted.digest}: the source sent wrong bytes")
                count = min(CHUNK, spool.visible - self.position)
                if count <= 0:
                    await spool.changed()
                    continue
                data = spool.piece(self.position)
                if data is None:
                    with storage_errors(str(spool.path)):
                        if handle < 0:
                            handle = os.open(spool.path, os.O_RDONLY)
                            stack.callback(os.close, handle)
                        data = os.pread(handle, count, spool.wanted.start + self.position)
                if not data:
                    raise StorageError(f"{spool.path}: shorter than it was")
                self.position += len(data)
                self.tell(len(data))
                yield data
                self.taken = self.position  # not before: a stuck target has its chunk in hand and asks for no other

    def detach(self) -> None:
        """Send this reader away, also from a target that takes nothing and so never asks for a next chunk."""
        if self.watch and not self.detached:
            self.watch.reschedule(asyncio.get_running_loop().time())
        self.detached = True
        self.spool.announce()

    @property
    def finished(self) -> bool:
        """Whether all bytes were taken."""
        return self.spool.verified and self.position >= self.spool.wanted.size

    def remaining(self, now: float) -> float:
        """Return how many seconds it needs for the rest at the pace it has shown; infinite when it has none."""
        if self.taken <= 0:
            return math.inf
        return (self.spool.wanted.size - self.taken) * (now - self.began) / self.taken

    async def whole(self) -> Path:
        """Wait until the blob is verified and return the spool's own file.

        Raises:
            MirrordError: as `chunks`.
        """
        while not self.spool.verified:
            if self.detached:
                raise DetachedError("the spool is over its budget")
            if self.spool.error:
                raise self.spool.error
            await self.spool.changed()
        self.position = self.taken = self.spool.wanted.size
        self.tell(self.position)
        return self.spool.path


def _write_at(handle: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(handle, view, at)
        view, at = view[count:], at + count
