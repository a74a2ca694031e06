"""The listening side: how many may knock at once, and who is let go for saying nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mirrord.serve.app import make_app
from mirrord.serve.door import Listener, bind
from mirrord.serve.remote import SOCKET, bind_control
from tests.support.frontserver import Shown

CROWD = 300
SLOW = b"GET /livez HTTP/1.1\r\nX-Slow: "
HEALTH = b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"


@contextlib.asynccontextmanager
async def listening(connection: socket.socket, **limits: Any) -> AsyncIterator[None]:
    nobody: Any = None
    listener = Listener(make_app(Shown(nobody)), grace=0.05, **limits)
    await listener.listen(connection)
    try:
        yield
    finally:
        await listener.close()
        connection.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
async def test_a_crowd_while_the_loop_is_busy(tmp_path: Path, family: socket.AddressFamily) -> None:
    """Hundreds that connect while the event loop does something else are all answered; none is reset or kept out."""
    bound = bind("127.0.0.1:0") if family == socket.AF_INET else bind_control(tmp_path)
    address = bound.getsockname() if family == socket.AF_INET else str(tmp_path / SOCKET)
    async with listening(bound), contextlib.AsyncExitStack() as stack:
        clients = [stack.enter_context(socket.socket(family)) for _ in range(CROWD)]
        for client in clients:  # the loop stands still: what the kernel does not keep for it waits until this is over
            client.settimeout(20)
            client.connect(address)
        for client in clients:
            client.sendall(HEALTH)
        answers = await asyncio.gather(*(asyncio.to_thread(client.recv, 1024) for client in clients))
        assert [answer.startswith(b"HTTP/1.1 200 ") for answer in answers] == [True] * CROWD


async def test_slow_heads_are_cut() -> None:
    """A connection that never sends a whole head is closed, first or later on, and others are served meanwhile (31)."""
    bound = bind("127.0.0.1:0")
    async with listening(bound, head_seconds=0.2), contextlib.AsyncExitStack() as stack:

        async def connect(data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            client = socket.create_connection(bound.getsockname())
            client.sendall(data)  # before the other side accepts it: however busy the machine is, this came in time
            reader, writer = await asyncio.open_connection(sock=client)
            stack.callback(writer.close)
            return reader, writer

        first = [await connect(SLOW) for _ in range(25)]
        later = [await connect(HEALTH) for _ in range(25)]
        for reader, writer in later:
            assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 OK")
            writer.write(SLOW)
        assert (await (await connect(HEALTH))[0].readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 OK")
        for reader, _ in (*first, *later):
            assert await asyncio.wait_for(reader.read(), 30) == b""


async def test_a_loop_that_stood_still_blames_nobody() -> None:
    """A head that came in time is read, also when the event loop was too busy to look until its time was over."""
    bound, seconds = bind("127.0.0.1:0"), 0.05
    loop = asyncio.get_running_loop()
    async with listening(bound, head_seconds=seconds):
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", bound.getsockname()[1])
            with contextlib.closing(writer):
                for _ in range(5):  # the other side accepts it, and sets its timer
                    await asyncio.sleep(0)
                busy_until = loop.time() + 2 * seconds
                writer.write(HEALTH)
                while loop.time() < busy_until:
                    pass
                assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 OK")
