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

from mirrord.blobs.source import BlobSource
from mirrord.blobs.source_queue import QueuedSource, SourceQueue
from mirrord.errors import MirrordError, StorageError, TransportError
from mirrord.files import storage_errors

CHUNK = 1 << 18  # bytes handed to a reader at a time
RECENT = 8  # pieces kept in memory for readers that keep up: they need not read the file
WITHHELD = 1 << 16  # bytes kept back until the digest is verified
START_WITHIN = 30.0  # seconds: an upload starts when the source will be through by then


class DetachedError(MirrordError):
    """The reader was sent away to keep the spool within its budget; come back later."""

    code = "detached"


class RestartedError(TransportError):
    """The source sent wrong bytes and is read again from the start; send again from the start."""

    code = "restarted"


@dataclass(eq=False)
class Spool:
    """The state of one blob on its way; times are `loop.time()` seconds.

    Attributes:
        wanted: the blob; whoever reads it may have another source for it.
        path: the file.
        began: when the present source began.
        on_bytes: hears of each number of bytes that came.
        line: who can bring it.
        written: bytes in the file.
        base: those of them that were there when the present source began.
        verified: whether all of it is there, and right.
        ended: when that was.
        error: why nobody will bring it: our own disk, a bug, nobody who waits. What is wrong with a source is told to
            its own readers only.
        generation: how often all bytes were dropped.
    """

    wanted: BlobSource
    path: Path
    began: float
    on_bytes: Callable[[int], None] = lambda _count: None
    line: SourceQueue = field(default_factory=SourceQueue)
    written: int = 0
    base: int = 0
    verified: bool = False
    ended: float = math.inf
    error: MirrordError | None = None
    generation: int = 0
    readers: set[SpoolReader] = field(default_factory=set)
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

    def remaining(self, now: float) -> float:
        """Return how many seconds the present source needs for the rest at its pace; infinite when it has none."""
        fresh = self.written - self.base
        return (self.wanted.size - self.written) * (now - self.began) / fresh if fresh > 0 else math.inf

    def begin(self) -> None:
        """Say that from now on another source brings the rest."""
        self.began, self.base = asyncio.get_running_loop().time(), self.written

    def grown(self, count: int) -> None:
        """Say that `count` more bytes are there."""
        self.written += count
        self.on_bytes(count)
        self.announce()

    def restart(self) -> None:
        """Say that all that was there was dropped."""
        self.written = self.base = 0
        self.recent.clear()
        self.generation += 1
        self.announce()


@dataclass(eq=False)
class SpoolReader:
    """One tailing reader of a spool, on behalf of one consumer (a target)."""

    spool: Spool
    source: QueuedSource
    consumer: str
    began: float
    position: int = 0
    taken: int = 0
    detached: bool = False
    on_bytes: Callable[[int], None] = lambda _count: None
    watch: asyncio.Timeout | None = None

    @property
    def error(self) -> MirrordError | None:
        """Why this reader gets no more: its own source failed, or our disk."""
        return self.source.error or self.spool.error

    async def worth_sending(self) -> None:
        """Wait until a PUT may start: the source will be through soon at the pace it has shown.

        So no target holds a connection open, and times out, because the source is slow.

        Raises:
            MirrordError: the source failed.
        """
        spool, loop = self.spool, asyncio.get_running_loop()
        while not spool.verified:
            if self.error:
                raise self.error
            if spool.visible and spool.remaining(loop.time()) <= START_WITHIN:
                return
            await spool.changed()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the blob from its first byte, as far as it may be seen, then wait for more.

        Raises:
            DetachedError: sent away by the pool.
            RestartedError: what was yielded so far was wrong.
            StorageError: the spool's file cannot be read.
            MirrordError: this reader's source failed.
        """
        spool, generation = self.spool, self.spool.generation
        self.position = self.taken = 0
        with contextlib.ExitStack() as stack:
            handle = -1
            while self.position < spool.wanted.size or not spool.verified:
                if self.detached:
                    raise DetachedError("the spool is over its budget")
                if self.error:
                    raise self.error
                if generation != spool.generation and not self.position:
                    generation = spool.generation  # nothing was handed out: begin again unnoticed
                elif generation != spool.generation:
                    raise RestartedError(f"{spool.wanted.digest}: wrong bytes came, and it is read again")
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
                self.on_bytes(len(data))
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
            if self.error:
                raise self.error
            await self.spool.changed()
        self.position = self.taken = self.spool.wanted.size
        self.on_bytes(self.position)
        return self.spool.path
