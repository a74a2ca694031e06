"""A spooled answer: a program's output is kept until the client has read it, so that the program can end.

It is kept in memory, then on disk; both are bounded and shared by all answers. If both are full, a program waits for
its own client, a piece at a time.
"""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from mirrord.blobs.reserve import RESERVE

PIECE: Final = 256 << 10
"""Largest piece in bytes."""
_EACH: Final = 1 << 20  # bytes of one answer in memory


class CutOffError(Exception):
    """The output is incomplete."""


@dataclass(slots=True)
class AnswerRoom:
    """Space for the answers of a server: free bytes in memory and on disk.

    Output that does not fit into memory goes to unnamed files in `folder`; None: the default for temporary files.
    """

    folder: Path | None = None
    memory: int = 64 << 20
    disk: int = 1 << 30
    _waiting: set[asyncio.Event] = field(default_factory=set)

    def freed(self, *, memory: int = 0, disk: int = 0) -> None:
        """Return space."""
        self.memory += memory
        self.disk += disk
        for event in self._waiting:
            event.set()

    async def change(self) -> None:
        """Wait until space becomes free, or something is read."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            await event.wait()
        finally:
            self._waiting.discard(event)


class Spooled:
    """One answer: one writer, and one reader."""

    def __init__(self, room: AnswerRoom) -> None:
        """Begin empty."""
        self._room = room
        self._pieces: deque[tuple[bytes, int]] = deque()  # older than the file; each with its counted bytes
        self._counted = 0
        self._file: BinaryIO | None = None
        self._read = self._written = 0  # in the file, which restarts when all of it was read
        self._turn = asyncio.Lock()
        self._busy: set[asyncio.Future[Any]] = set()
        self._news = asyncio.Event()
        self._whole: bool | None = None
        self._closed = False

    async def put(self, piece: bytes) -> bool:
        """Append a piece if there is space, and return whether there was; CutOffError if the reader has left."""
        if self._closed:
            raise CutOffError
        count = len(piece)
        if self._written == self._read and self._counted + count <= _EACH and count <= self._room.memory:
            self._room.memory -= count
            self._counted += count
            self._pieces.append((piece, count))
        elif not await self._append(piece):
            if self._pieces or self._written > self._read:
                return False
            self._pieces.append((piece, 0))  # its client is waiting for it
        self._news.set()
        return True

    def end(self, *, whole: bool) -> None:
        """Note the end, and whether the output is complete."""
        self._whole = whole
        self._news.set()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the pieces; a piece counts until the next one is requested. CutOffError if the output is incomplete."""
        while True:
            if self._pieces:
                piece, counted = self._pieces[0]
                yield piece
                self._pieces.popleft()
                self._counted -= counted
                self._room.freed(memory=counted)
            elif self._read < self._written:
                yield await self._next()
            elif self._whole is None:
                self._news.clear()
                await self._news.wait()
            elif self._whole:
                return
            else:
                raise CutOffError("the program failed before its output was complete")

    def close(self) -> None:
        """Return all space; a writer gets CutOffError."""
        self._closed = True
        self._room.freed(memory=self._counted, disk=self._written)
        self._pieces.clear()
        self._counted = self._read = self._written = 0
        for task in self._busy:  # of a cancelled caller
            task.add_done_callback(self._shut)
        self._shut()

    def _shut(self, _: object = None) -> None:
        if self._file is not None and not self._busy:
            file, self._file = self._file, None
            asyncio.get_running_loop().run_in_executor(None, file.close)  # deleting gigabytes takes time

    async def _append(self, piece: bytes) -> bool:
        count = len(piece)
        async with self._turn:
            if count > self._room.disk:
                return False
            self._room.disk -= count
            try:
                await self._in_thread(self._write, piece)
            except OSError:  # a full or broken disk is no failure: the program waits for its client
                self._room.freed(disk=count)
                return False
            except asyncio.CancelledError:
                self._room.freed(disk=count)
                raise
            if self._closed:
                self._room.freed(disk=count)
                raise CutOffError
            self._written += count
        return True

    async def _next(self) -> bytes:
        async with self._turn:
            piece: bytes = await self._in_thread(self._read_piece)
            self._read += len(piece)
            if self._read == self._written:
                assert self._file is not None
                await self._in_thread(self._file.truncate, 0)
                count, self._read, self._written = self._written, 0, 0
                self._room.freed(disk=count)
        return piece

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)
        return await asyncio.shield(task)

    def _write(self, piece: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._room.folder, buffering=0)  # noqa: SIM115 - until `close`
        stat = os.fstatvfs(self._file.fileno())
        if stat.f_bavail * stat.f_frsize < RESERVE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._file.seek(self._written)
        rest = memoryview(piece)
        while rest:
            rest = rest[self._file.write(rest) :]

    def _read_piece(self) -> bytes:
        assert self._file is not None
        self._file.seek(self._read)
        piece = self._file.read(min(PIECE, self._written - self._read))
        if not piece:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return piece
