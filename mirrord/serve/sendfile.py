"""Sends a part of a file on a connection without copying it through this process.

The event loop of asyncio can do that; uvloop's cannot, so there the kernel is asked directly on a duplicate
of the connection's descriptor, which uvloop lets us watch.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import BinaryIO

STALL = 60.0
"""A client that takes nothing for this many seconds is let go."""
_PIECE = 4 * 1024 * 1024


async def send_file(transport: asyncio.Transport, file: BinaryIO, offset: int, count: int) -> None:
    """Send `count` bytes from `offset`. All that was written to `transport` before MUST have left it.

    Raises:
        ConnectionError: the client went away, stopped reading, or the file is shorter than promised.
    """
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None or transport.is_closing():
        raise ConnectionResetError("the client went away")
    descriptor = os.dup(connection.fileno())
    try:
        end = offset + count
        while offset < end:
            try:
                sent = os.sendfile(descriptor, file.fileno(), offset, min(_PIECE, end - offset))
            except BlockingIOError:
                await _writable(descriptor)
                continue
            if not sent:
                raise ConnectionAbortedError("the file is shorter than it was")
            offset += sent
            await asyncio.sleep(0)  # others want their turn: a fast client never blocks us
    finally:
        os.close(descriptor)


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        async with asyncio.timeout(STALL):
            await ready.wait()
    except TimeoutError as error:
        raise ConnectionAbortedError("the client stopped reading") from error
    finally:
        loop.remove_writer(descriptor)
