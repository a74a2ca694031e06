"""How much of what flows lies in memory at once, for each connection."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.message import KIB, MIB, HttpRequest, Upload
from mirrord.wire.http.transport import _Connector
from tests.support.tls import Authority

PIECE = 256 * KIB


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return what counts the bytes that our loop holds for servers: written, and not taken by the kernel yet."""
    connections: list[Any] = []
    create = _Connector._create_connection

    async def noted(self: _Connector, *asked: Any) -> Any:
        connections.append(await create(self, *asked))
        return connections[-1]

    def count() -> int:
        assert connections, "no connection is seen"
        return sum(one.transport.get_write_buffer_size() for one in connections)

    monkeypatch.setattr(_Connector, "_create_connection", noted)
    return count


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_an_upload_waits_for_the_kernel(
    raw: Any, client: Any, tmp_path: Path, waiting: Callable[[], int], tls: bool
) -> None:
    """The next piece is asked for when nearly all of the last one has left; under TLS that is of the last but one."""
    size, most = 24 * MIB, 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB
        )  # else it may take all
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)  # meanwhile the kernel's buffers get full, also when this loop is slow
        for _ in range(size // (64 * KIB)):
            await reader.readexactly(64 * KIB)
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal most
        for _ in range(size // PIECE):
            most = max(most, waiting())
            yield bytes(PIECE)

    authority = Authority(tmp_path)
    server = await raw(take, authority.server() if tls else None)
    http = client(HostBook({server.host: HostPolicy(server.host, insecure=not tls, ca=str(authority.ca))}))
    call = HttpRequest("PUT", f"http{'s' * tls}://{server.host}/b", server.host, body=Upload(size, pieces), ok=(201,))
    await http.fetch(call)
    assert most <= PIECE + 2 * 64 * KIB  # 0 where the kernel has room for whole pieces at a time


async def test_a_download_waits_for_its_reader(raw: Any, client: Any) -> None:
    """A source that is read slowly has to wait: what it sent lies in the kernel, and comes in small pieces."""
    size, longest, got = 24 * MIB, 0, 0

    async def send(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // PIECE):
            writer.write(bytes(PIECE))
            await writer.drain()

    server = await raw(send)
    async with client().stream(HttpRequest("GET", f"http://{server.host}/b", server.host)) as answer:
        async for piece in answer.chunks():
            longest, got = max(longest, len(piece)), got + len(piece)
            for _ in range(8):
                await asyncio.sleep(0)
    assert got == size
    assert longest <= 3 * PIECE
