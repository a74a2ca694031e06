"""A reader of a blob in transfer."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mirrord.blobs.hashed_file import CHUNK
from mirrord.blobs.recent import WHOLE
from mirrord.blobs.source_queue import QueuedSource
from mirrord.blobs.spool import Spool
from mirrord.errors import DetachedError, MirrordError, RestartedError, StorageError
from mirrord.files import nothing, storage_errors
from mirrord.model.digest import Digest

START_WITHIN = 30.0  # seconds: an upload starts when the source will finish by then


@dataclass(eq=False)
class SpoolReader:
    """One tailing reader of a spool, for one consumer (a target or a client).

    Attributes:
        offset: where `chunks` begins.
        client: whether it is for a client, which cannot retry: it is never detached.
        position: bytes that were yielded or skipped.
        taken: those of them that the consumer has processed.
        detached: whether it was detached.
        hold: keeps the blob for this reader; returns whether that succeeded.
        let_go: releases it.
        leave: ends this reader.
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
    hold: Callable[[], bool] = lambda: True
    let_go: Callable[[], None] = nothing
    leave: Callable[[], None] = nothing
    watch: asyncio.Timeout | None = None

    def __post_init__(self) -> None:
        """Start at the offset."""
        self.position = self.taken = self.offset

    @property
    def error(self) -> MirrordError | None:
        """Why this reader gets no more: its own source or our disk failed."""
        return self.source.error or self.spool.error

    @property
    def digest(self) -> Digest:
        """Of the blob; known at its end if the source does not report it."""
        assert self.spool.digest, "not known yet"
        return self.spool.digest

    @property
    def size(self) -> int:
        """Of the blob; known at its end if the source does not report it."""
        assert self.spool.size is not None, "not known yet"
        return self.spool.size

    @property
    def in_place(self) -> bool:
        """Whether it is read from an external file instead of the spool's own."""
        return self.spool.source.file is not None

    async def answered(self) -> int | None:
        """Wait until a source has answered, and return the blob's size, or None if it is unknown.

        Raises:
            MirrordError: as `chunks`.
        """
        while not (self.spool.answered or self.spool.verified):
            self._check()
            await self.spool.changed()
        return self.spool.size

    async def worth_sending(self) -> None:
        """Wait until a PUT may start: the source will finish soon at its present pace.

        So no target times out on an open connection because the source is slow.

        Raises:
            MirrordError: as `chunks`.
        """
        spool, loop = self.spool, asyncio.get_running_loop()
        while not spool.verified:
            self._check()
            if spool.visible and spool.remaining(loop.time()) <= START_WITHIN:
                return
            await spool.changed()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the blob from the reader's offset on, as far as it is visible, then wait for more.

        A reader that has all of it needs no space any more, however long the answer to an upload takes.

        Raises:
            DetachedError: detached by the pool, or called again after the space was given to others.
            RestartedError: the bytes yielded so far were wrong.
            StorageError: the spool's file cannot be read.
            MirrordError: this reader's source failed.
        """
        spool, generation = self.spool, self.spool.generation
        self.position = self.taken = self.offset
        if not self.hold():
            self.detach()
        memory = spool.memory
        with contextlib.closing(_SpoolFile(spool)) as file:
            while not spool.verified or self.position < spool.written:
                self._check()
                if generation != spool.generation and self.position == self.offset:
                    generation = spool.generation  # nothing was yielded: restart unnoticed
                elif generation != spool.generation:
                    raise RestartedError(f"{spool.source}: received wrong bytes; reading it again")
                part = memory.part
                end = min(spool.visible, self.position + part - self.position % part)
                if end <= self.position:
                    await spool.changed()
                    continue
                if part < WHOLE or (data := spool.recent.find(self.position, spool.visible)) is None:
                    data = memory.share(spool, self.position, partial(self._cut, end, file))
                if not data:
                    raise StorageError(f"{spool.path}: truncated while it was read")
                self.position += len(data)
                self.on_bytes(len(data))
                yield data
                self.taken = self.position  # not before: a stuck target holds its chunk and requests no other
                if spool.streamed:
                    spool.announce()
        self.let_go()

    def _cut(self, end: int, file: _SpoolFile) -> bytes:
        """Return bytes from the position to `end`, or fewer, from memory or from the file."""
        at = self.position
        data = self.spool.recent.find(at, end)
        return data if data is not None else file.read(min(end - at, CHUNK - at % CHUNK), self.spool.source.start + at)

    def detach(self) -> None:
        """Detach this reader, also from a stuck target that never requests the next chunk."""
        if self.watch and not self.detached:
            self.watch.reschedule(asyncio.get_running_loop().time())
        self.detached = True
        self.spool.announce()

    @property
    def finished(self) -> bool:
        """Whether all bytes were taken."""
        return self.spool.verified and self.position >= self.spool.written

    def remaining(self, now: float) -> float:
        """Return how many seconds it needs for the rest at its present pace; infinite without one."""
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
        """Return the blob as a file, as `verified` does."""
        file = await self.verified()
        self.on_bytes(self.spool.written)
        return file

    def _check(self) -> None:
        if self.detached:
            raise DetachedError("the spool is over its budget")
        if self.error:
            raise self.error


class _SpoolFile:
    """The file of a spool, opened when something is read from it; that it gets another name later does not matter."""

    def __init__(self, spool: Spool) -> None:
        self._spool, self._handle = spool, -1

    def read(self, count: int, at: int) -> bytes:
        with storage_errors(str(self._spool.path)):
            if self._handle < 0:
                self._handle = os.open(self._spool.path, os.O_RDONLY)
            return os.pread(self._handle, count, at)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
