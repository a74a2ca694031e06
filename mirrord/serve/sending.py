"""Sends files to clients by `sendfile`, as fast as they read, and stops when they disconnect.

`sendfile` waits for the disk, and hundreds of reading clients would block an event loop for seconds. So a few threads
do it: each polls its share of the connections, and sends one piece to each writable one in turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import termios
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fcntl import ioctl
from functools import partial
from threading import Thread
from time import monotonic
from typing import BinaryIO, Final

STALL: Final = 120.0
"""A client that reads nothing for this many seconds is disconnected."""
LOOKS: Final = 8
"""Checks of a client that reads nothing, before it is disconnected."""

PIECE: Final = 256 << 10
"""Largest piece in bytes of content that is paced, or read to be encrypted."""
THREADS: Final = 2
_PIECE: Final = 1 << 20


class FileSender:
    """Some threads, started on demand."""

    def __init__(self, threads: int = THREADS, stall: float = STALL) -> None:
        """Start nothing yet; a client that reads nothing for `stall` seconds is disconnected."""
        self._threads = [_Thread(stall) for _ in range(threads)]

    async def send(
        self,
        transport: asyncio.Transport,
        file: BinaryIO,
        offset: int,
        count: int,
        sent: Callable[[int], None] | None = None,
    ) -> None:
        """Send `count` bytes from `offset`. All earlier writes to `transport` MUST have been flushed.

        `sent` is called at the end, also after an error, with the number of bytes that were sent.

        Raises:
            ConnectionError: the client disconnected or stopped reading, or the file is truncated.
            OSError: this process may open no more files.
        """
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is None or transport.is_closing():
            raise ConnectionResetError("the client disconnected")
        if not count:
            return
        loop = asyncio.get_running_loop()
        descriptor = os.dup(connection.fileno())
        try:
            copy = os.dup(file.fileno())
        except OSError:
            os.close(descriptor)
            raise
        taking = ConnectionProgress(descriptor, monotonic())
        part = _Part(descriptor, copy, offset, offset, offset + count, loop, loop.create_future(), taking, sent)
        thread = min(self._threads, key=lambda one: one.busy)
        try:
            thread.add(part)
        except OSError:
            os.close(descriptor)
            os.close(copy)
            raise
        try:
            await asyncio.shield(part.ended)
        except asyncio.CancelledError:
            thread.drop(part)
            # What was sent is counted before the answer ends. A thread that has just been stopped counts no more.
            await asyncio.wait((part.ended,), timeout=1.0)
            raise

    def close(self) -> None:
        """Stop the threads and their transfers."""
        for thread in self._threads:
            thread.close()


@dataclass(slots=True, eq=False)
class _Part:
    """A transfer to one client; it owns its descriptors. `ended` belongs to the event loop, the rest to the thread."""

    descriptor: int
    file: int
    begin: int
    offset: int
    end: int
    loop: asyncio.AbstractEventLoop
    ended: asyncio.Future[None]
    taking: ConnectionProgress
    counted: Callable[[int], None] | None

    def send(self) -> bool:
        """Send a piece; return whether that was the last."""
        with contextlib.suppress(BlockingIOError):
            sent = os.sendfile(self.descriptor, self.file, self.offset, min(_PIECE, self.end - self.offset))
            if not sent:
                raise ConnectionAbortedError("the file was truncated")
            self.offset += sent
            self.taking.sent(monotonic())
        return self.offset == self.end

    def look(self, stall: float) -> bool:
        """Check whether the client reads."""
        if self.taking.stopped(monotonic(), stall):
            raise ConnectionAbortedError("the client stopped reading")
        return False

    def end_with(self, error: OSError | None) -> None:
        """Close file and connection, and report the end to the waiter."""
        os.close(self.descriptor)
        os.close(self.file)
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self.loop.call_soon_threadsafe(self._tell, error)

    def _tell(self, error: OSError | None) -> None:
        if self.counted is not None:
            self.counted(self.offset - self.begin)
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)
            self.ended.exception()  # a cancelled waiter does not read it


class _Thread:
    """One thread and its connections."""

    def __init__(self, stall: float) -> None:
        self._stall, self._look = stall, stall / LOOKS
        self._coming: deque[tuple[_Part, bool] | None] = deque()
        self._parts: dict[int, _Part] = {}
        self._bell = -1
        self._poll: select.epoll
        self._thread: Thread | None = None

    @property
    def busy(self) -> int:
        """The number of its parts."""
        return len(self._parts) + len(self._coming)

    def add(self, part: _Part) -> None:
        """Send a part."""
        if self._thread is None:
            poll = select.epoll()  # here, since a thread that fails would leave all its parts unsent
            try:
                bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            except OSError:
                poll.close()
                raise
            poll.register(bell, select.EPOLLIN)
            self._poll, self._bell = poll, bell
            self._thread = Thread(target=self._run, name="sendfile", daemon=True)
            self._thread.start()
        self._tell((part, True))

    def drop(self, part: _Part) -> None:
        """Stop sending a part."""
        if self._thread is not None:
            self._tell((part, False))

    def close(self) -> None:
        """Stop, and wait for the end."""
        if self._thread is not None:
            self._tell(None)
            self._thread.join()
            self._thread = None
            os.close(self._bell)

    def _tell(self, word: tuple[_Part, bool] | None) -> None:
        self._coming.append(word)
        os.eventfd_write(self._bell, 1)

    def _run(self) -> None:
        with self._poll as poll:
            due = monotonic() + self._look
            while self._hear():
                for descriptor, _ in poll.poll(self._look if self._parts else None):
                    if part := self._parts.get(descriptor):
                        self._do(part, part.send)
                if monotonic() >= due:
                    due = monotonic() + self._look
                    for part in list(self._parts.values()):
                        self._do(part, partial(part.look, self._stall))
            for part in list(self._parts.values()):
                self._end(part, ConnectionAbortedError("shutting down"))

    def _hear(self) -> bool:
        """Handle the requests; return False to stop."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        while self._coming:
            word = self._coming.popleft()
            if word is None:
                return False
            part, wanted = word
            if wanted:
                try:
                    self._poll.register(part.descriptor, select.EPOLLOUT)
                except OSError:  # the kernel cannot poll more: only this one ends
                    part.end_with(ConnectionAbortedError("the connection cannot be polled"))
                else:
                    self._parts[part.descriptor] = part
            elif self._parts.get(part.descriptor) is part:
                self._end(part, ConnectionAbortedError("cancelled"))
        return True

    def _do(self, part: _Part, work: Callable[[], bool]) -> None:
        try:
            if work():
                self._end(part, None)
        except OSError as error:
            self._end(part, error)

    def _end(self, part: _Part, error: OSError | None) -> None:
        self._poll.unregister(part.descriptor)  # closing does not unregister: the connection has another descriptor
        del self._parts[part.descriptor]
        part.end_with(error)


class ConnectionProgress:
    """Whether a client reads, measured in the kernel, which reports a connection as writable much later.

    A connection counts as writable when a third of its buffer is free. At 2 kB/s that takes minutes without visible
    progress; but acknowledged bytes leave the buffer. Times are seconds of one clock.
    """

    def __init__(self, descriptor: int, now: float) -> None:
        """Watch a connected socket, which must stay open meanwhile."""
        self._descriptor = descriptor
        self._queued, self._moved = -1, now
        self.waits = False  # whether unacknowledged bytes exist

    def sent(self, now: float) -> None:
        """Note that bytes were written."""
        self._moved = now

    def stopped(self, now: float, stall: float) -> bool:
        """Return whether nothing moved for `stall` seconds, by occasional checks; OSError if it is closed."""
        queued = int.from_bytes(ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4)), "little")
        if queued != self._queued:
            self._queued, self._moved = queued, now
        return now - self._moved > stall
