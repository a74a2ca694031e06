"""Sends files to clients by `sendfile`, as fast as they take them, and stops when they are gone.

`sendfile` waits for the disk, and hundreds of clients who read at once would keep an event loop for seconds. So a few
threads do it for all: each watches its share of the connections, and sends one piece to each that takes one, in turn.
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
"""A client that takes nothing for this many seconds is let go."""
LOOKS: Final = 8
"""Looks at a client that takes nothing, before it is let go."""

THREADS: Final = 2
_PIECE: Final = 1 << 20


class FileSender:
    """Some threads, started when there is something to send."""

    def __init__(self, threads: int = THREADS, stall: float = STALL) -> None:
        """Start nothing yet; a client that takes nothing for `stall` seconds is let go."""
        self._threads = [_Thread(stall) for _ in range(threads)]

    async def send(self, transport: asyncio.Transport, file: BinaryIO, offset: int, count: int) -> None:
        """Send `count` bytes from `offset`. All that was written to `transport` before MUST have left it.

        Raises:
            ConnectionError: the client disconnected, stopped reading, or the file is shorter than promised.
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
        part = _Part(descriptor, copy, offset, offset + count, loop, loop.create_future(), taking)
        thread = min(self._threads, key=lambda one: one.busy)
        thread.add(part)
        try:
            await asyncio.shield(part.sent)
        except asyncio.CancelledError:
            thread.drop(part)
            raise

    def close(self) -> None:
        """End the threads, and what they send."""
        for thread in self._threads:
            thread.close()


@dataclass(slots=True, eq=False)
class _Part:
    """What is sent to one client; it owns its descriptors. `sent` belongs to the event loop, all else to the thread."""

    descriptor: int
    file: int
    offset: int
    end: int
    loop: asyncio.AbstractEventLoop
    sent: asyncio.Future[None]
    taking: ConnectionProgress

    def send(self) -> bool:
        """Send a piece; say whether that was the last."""
        with contextlib.suppress(BlockingIOError):
            sent = os.sendfile(self.descriptor, self.file, self.offset, min(_PIECE, self.end - self.offset))
            if not sent:
                raise ConnectionAbortedError("the file was truncated")
            self.offset += sent
            self.taking.sent(monotonic())
        return self.offset == self.end

    def look(self, stall: float) -> bool:
        """See whether the client takes what was sent."""
        if self.taking.stopped(monotonic(), stall):
            raise ConnectionAbortedError("the client stopped reading")
        return False

    def end_with(self, error: OSError | None) -> None:
        """Let file and connection go, and tell whoever waits."""
        os.close(self.descriptor)
        os.close(self.file)
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self.loop.call_soon_threadsafe(self._tell, error)

    def _tell(self, error: OSError | None) -> None:
        if error is None:
            self.sent.set_result(None)
        else:
            self.sent.set_exception(error)
            self.sent.exception()  # whoever was called off does not ask


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
        """How many parts it has."""
        return len(self._parts) + len(self._coming)

    def add(self, part: _Part) -> None:
        """Send a part."""
        if self._thread is None:
            self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._thread = Thread(target=self._run, name="sendfile", daemon=True)
            self._thread.start()
        self._tell((part, True))

    def drop(self, part: _Part) -> None:
        """Send no more of a part."""
        if self._thread is not None:
            self._tell((part, False))

    def close(self) -> None:
        """End, and wait for that."""
        if self._thread is not None:
            self._tell(None)
            self._thread.join()
            self._thread = None
            os.close(self._bell)

    def _tell(self, word: tuple[_Part, bool] | None) -> None:
        self._coming.append(word)
        os.eventfd_write(self._bell, 1)

    def _run(self) -> None:
        with select.epoll() as poll:
            self._poll = poll
            poll.register(self._bell, select.EPOLLIN)
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
        """Take what was told; False when that is the end."""
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
                except OSError:  # the kernel watches no more of them: that is the end of this one alone
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
        self._poll.unregister(part.descriptor)  # closing alone does not: the connection has another descriptor
        del self._parts[part.descriptor]
        part.end_with(error)


class ConnectionProgress:
    """Whether a client takes what is sent to it: asked of the kernel, which asks us for more much later.

    A connection counts as writable when a third of its buffer is free. At 2 kB/s that takes minutes, in which nothing
    seems to move; but what the other side acknowledged has left the buffer. Times are seconds of one clock.
    """

    def __init__(self, descriptor: int, now: float) -> None:
        """Look at a connected socket, which stays open as long as anybody asks."""
        self._descriptor = descriptor
        self._queued, self._moved = -1, now
        self.waits = False  # whether anything is on its way to the client

    def sent(self, now: float) -> None:
        """Note that the connection took something."""
        self._moved = now

    def stopped(self, now: float, stall: float) -> bool:
        """Say whether nothing moved for `stall` seconds, as far as looks now and then show; OSError when it is gone."""
        queued = int.from_bytes(ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4)), "little")
        if queued != self._queued:
            self._queued, self._moved = queued, now
        return now - self._moved > stall
