"""Sends what comes piece by piece to a client, as fast as it takes them, and stops when it is gone or takes nothing."""

from __future__ import annotations

import asyncio
import termios
from collections.abc import AsyncIterator, Awaitable
from fcntl import ioctl
from typing import Final

from aiohttp import web

from mirrord.serve.door import departure

STALL: Final = 120.0
"""A client that takes nothing for this many seconds is let go."""
_LOOKS: Final = 8  # looks at a client that takes nothing before it is let go


class ConnectionProgress:
    """Whether a client takes what is sent to it: asked of the kernel, which asks us for more much later.

    A connection counts as writable when a third of its buffer is free. At 2 kB/s that takes minutes, in which nothing
    seems to move; but what the other side acknowledged has left the buffer. Times are seconds of one clock.
    """

    def __init__(self, descriptor: int, now: float) -> None:
        """Look at a connected socket, which stays open as long as anybody asks."""
        self._descriptor = descriptor
        self._queued, self._moved = -1, now

    def sent(self, now: float) -> None:
        """Note that the connection took something."""
        self._moved = now

    def stopped(self, now: float, stall: float) -> bool:
        """Say whether nothing moved for `stall` seconds, as far as whoever asks now and then can see.

        Raises:
            OSError: there is no connection any more.
        """
        queued = int.from_bytes(ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4)), "little")
        if queued != self._queued:
            self._queued, self._moved = queued, now
        return now - self._moved > stall


async def send_pieces(
    request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes], stall: float = STALL
) -> None:
    """Send all pieces; the next one is asked for when the connection has taken the one before.

    Raises:
        ConnectionError: the client left, or takes nothing.
    """
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    if connection is None:
        raise ConnectionResetError("the client went away")
    clock = asyncio.get_running_loop().time
    progress = ConnectionProgress(connection.fileno(), clock())
    async for piece in pieces:
        writing = asyncio.ensure_future(response.write(piece))
        try:
            while not (await asyncio.wait((writing,), timeout=stall / _LOOKS))[0]:
                if progress.stopped(clock(), stall):
                    raise ConnectionAbortedError("the client stopped reading")
        finally:
            writing.cancel()
        await writing
        progress.sent(clock())


async def attended(request: web.Request, work: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    """Return what `work` returns, which is called off when the client leaves."""
    working, gone = asyncio.ensure_future(work), asyncio.create_task(departure(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.wait((working, gone))
    return web.Response(status=400, text="the client left\n") if working.cancelled() else working.result()


def abort(request: web.Request) -> None:
    """End the connection, so that nobody takes what was sent for whole."""
    if request.transport is not None:
        request.transport.abort()
