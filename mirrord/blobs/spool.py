"""One blob on its way: a growing file with one writer and many tailing readers.

The last chunk is withheld from every reader until size and digest are verified (where nobody knows them, until the
source has come to its end), so that a bad source can never complete an upload or a client's download.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from mirrord.blobs.hashed_file import CHUNK
from mirrord.blobs.recent import RecentPieces
from mirrord.blobs.source import BlobSource
from mirrord.blobs.source_queue import QueuedSource, SourceQueue
from mirrord.errors import DetachedError, MirrordError, RestartedError, StorageError
from mirrord.files import storage_errors
from mirrord.model.digest import Digest

RECENT = 4 * CHUNK  # bytes kept in memory for readers that keep up: they need not read the file
BUFFER = 8 * CHUNK  # bytes that are in memory and nowhere else before a streamed source has to wait
WITHHELD = 1 << 16  # bytes kept back until the digest is verified
START_WITHIN = 30.0  # seconds: an upload starts when the source will be through by then


@dataclass(eq=False)
class Spool:
    """The state of one blob on its way; times are seconds of `loop.time()`.

    Attributes:
        source: what was asked for; whoever reads it may have another source for the same.
        path: the file.
        began: when the present source began.
        on_bytes: hears of each number of bytes that came.
        queue: who can bring it.
        digest: of it; where the source does not say, known at the end.
        size: of it; where the source does not say, known when a source answers that does, or at the end.
        answered: whether a source has answered.
        written: bytes that came.
        base: those of them that had come when the present source began.
        streamed: what comes now is handed on from memory and not written to the file: there was no room for it.
        verified: whether all of it came, and is right.
        ended: when that was.
        error: why nobody will bring it: our own disk, a bug, nobody who waits. What is wrong with a source is told to
            its own readers only.
        generation: how often all bytes were dropped.
        recent: what came last.
    """

    source: BlobSource
    path: Path
    began: float
    on_bytes: Callable[[int], None] = lambda _count: None
    queue: SourceQueue = field(default_factory=SourceQueue)
    digest: Digest | None = field(init=False)
    size: int | None = field(init=False)
    answered: bool = False
    written: int = 0
    base: int = 0
    streamed: bool = False
    verified: bool = False
    ended: float = math.inf
    error: MirrordError | None = None
    generation: int = 0
    readers: set[SpoolReader] = field(default_factory=set)
    recent: RecentPieces = field(default_factory=RecentPieces)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Know what the source says."""
        self.digest, self.size = self.source.digest, self.source.size

    @property
    def visible(self) -> int:
        """How many bytes readers may see."""
        if self.verified:
            return self.written
        if self.size is None:
            return max(0, self.written - WITHHELD)
        return max(0, min(self.written, self.size - min(WITHHELD, max(1, self.size // 2))))

    async def changed(self) -> None:
        """Wait for the next change of anything above."""
        await self._news.wait()

    def announce(self) -> None:
        """Wake everybody who waits for a change."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def remaining(self, now: float) -> float:
        """Return how many seconds the present source needs for the rest at its pace; infinite when it has none."""
        fresh, size = self.written - self.base, self.source.limit if self.size is None else self.size
        return (size - self.written) * (now - self.began) / fresh if fresh > 0 and size is not None else math.inf

    def begin(self) -> None:
        """Say that from now on another source brings the rest."""
        self.began, self.base = asyncio.get_running_loop().time(), self.written

    def grown(self, count: int) -> None:
        """Say that `count` more bytes are there."""
        self.written += count
        self.on_bytes(count)
        self.announce()

    def came(self, data: bytes) -> None:
        """Take what came; it stays in memory for readers that keep up, unless what is streamed has no other place."""
        self.recent.add(self.written, data)
        if not self.streamed:
            self.recent.forget(max(self._taken(), self.written + len(data) - RECENT))
        self.grown(len(data))

    def _taken(self) -> int:
        return min((reader.taken for reader in self.readers), default=self.written)

    def restart(self) -> None:
        """Say that all that was there was dropped."""
        self.written = self.base = 0
        self.size = self.source.size
        self.recent.clear()
        self.generation += 1
        self.announce()

    def stream(self) -> None:
        """Say that there is no room for what comes from now on."""
        self.streamed = True
        self.announce()

    async def drained(self) -> None:
        """Wait until the readers have taken so much of what is streamed that memory has room for more."""
        while self.streamed:
            taken = self._taken()
            self.recent.forget(taken)
            if self.written - taken < BUFFER:
                return
            await self.changed()


@dataclass(eq=False)
class SpoolReader:
    """One tailing reader of a spool, on behalf of one consumer (a target, or a client of ours).

    Attributes:
        offset: where `chunks` begins.
        client: whether it is for a client, who cannot come back: it is never sent away.
        position: bytes that were handed out, or passed over.
        taken: those of them that the consumer is through with.
        detached: whether it was sent away.
    """

    spool: Spool
    source: QueuedSource
    consumer: str
    began: float
    offset: int = 0
    client: bool = False
    position: int = field(init=False)
    taken: int = field(init=False)
    detached: bool = False
    on_bytes: Callable[[int], None] = lambda _count: None
    watch: asyncio.Timeout | None = None

    def __post_init__(self) -> None:
        """Start where it shall begin."""
        self.position = self.taken = self.offset

    @property
    def error(self) -> MirrordError | None:
        """Why this reader gets no more: its own source failed, or our disk."""
        return self.source.error or self.spool.error

    @property
    def digest(self) -> Digest:
        """Of the blob; where the source does not say, known at its end."""
        assert self.spool.digest, "nobody knows it yet"
        return self.spool.digest

    @property
    def size(self) -> int:
        """Of the blob; where the source does not say, known at its end."""
        assert self.spool.size is not None, "nobody knows it yet"
        return self.spool.size

    @property
    def in_place(self) -> bool:
        """Whether it is read from somebody's file, and not from the spool's own."""
        return self.spool.source.file is not None

    async def answered(self) -> int | None:
        """Wait until a source has answered, and return how long the blob is, or None when it does not say.

        Raises:
            MirrordError: as `chunks`.
        """
        while not (self.spool.answered or self.spool.verified):
            self._check()
            await self.spool.changed()
        return self.spool.size

    async def worth_sending(self) -> None:
        """Wait until a PUT may start: the source will be through soon at the pace it has shown.

        So no target holds a connection open, and times out, because the source is slow.

        Raises:
            MirrordError: as `chunks`.
        """
        spool, loop = self.spool, asyncio.get_running_loop()
        while not spool.verified:
            self._check()
            if spool.visible and spool.remaining(loop.time()) <= START_WITHIN:
                return
            await spool.changed()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the blob from the reader's offset on, as far as it may be seen, then wait for more.

        Raises:
            DetachedError: sent away by the pool.
            RestartedError: what was yielded so far was wrong.
            StorageError: the spool's file cannot be read.
            MirrordError: this reader's source failed.
        """
        spool, generation = self.spool, self.spool.generation
        self.position = self.taken = self.offset
        with contextlib.ExitStack() as stack:
            handle = -1
            while not spool.verified or self.position < spool.written:
                self._check()
                if generation != spool.generation and self.position == self.offset:
                    generation = spool.generation  # nothing was handed out: begin again unnoticed
                elif generation != spool.generation:
                    raise RestartedError(f"{spool.source}: wrong bytes came, and it is read again")
                count = min(CHUNK, spool.visible - self.position)
                if count <= 0:
                    await spool.changed()
                    continue
                data = spool.recent.find(self.position, spool.visible)
                if data is None:
                    with storage_errors(str(spool.path)):
                        if handle < 0:
                            handle = os.open(spool.path, os.O_RDONLY)
                            stack.callback(os.close, handle)
                        data = os.pread(handle, count, spool.source.start + self.position)
                if not data:
                    raise StorageError(f"{spool.path}: shorter than it was")
                self.position += len(data)
                self.on_bytes(len(data))
                yield data
                self.taken = self.position  # not before: a stuck target has its chunk in hand and asks for no other
                if spool.streamed:
                    spool.announce()

    def detach(self) -> None:
        """Send this reader away, also from a target that takes nothing and so never asks for a next chunk."""
        if self.watch and not self.detached:
            self.watch.reschedule(asyncio.get_running_loop().time())
        self.detached = True
        self.spool.announce()

    @property
    def finished(self) -> bool:
        """Whether all bytes were taken."""
        return self.spool.verified and self.position >= self.spool.written

    def remaining(self, now: float) -> float:
        """Return how many seconds it needs for the rest at the pace it has shown; infinite when it has none."""
        if self.taken <= self.offset or self.spool.size is None:
            return math.inf
        return (self.spool.size - self.taken) * (now - self.began) / (self.taken - self.offset)

    async def verified(self) -> Path:
        """Wait until the blob is verified and return the spool's own file.

        Raises:
            MirrordError: as `chunks`.
        """
        while not self.spool.verified:
            self._check()
            await self.spool.changed()
        self.position = self.taken = self.spool.written
        return self.spool.path

    async def whole(self) -> Path:
        """Take the blob as a file, as `verified` gives it."""
        file = await self.verified()
        self.on_bytes(self.spool.written)
        return file

    def _check(self) -> None:
        if self.detached:
            raise DetachedError("the spool is over its budget")
        if self.error:
            raise self.error
