"""What goes over a connection, byte by byte, and when a connection is used again."""

import asyncio
import base64
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import pytest

from mirrord.errors import MirrordError, RefusedError, UnreachableError
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.message import HttpRequest, Limits, Upload, WireRequest
from mirrord.wire.http.transport import AiohttpTransport, Route
from mirrord.wire.proxy import Proxy
from mirrord.wire.secret import Credential, Secret
from tests.support.processes import open_files

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


@pytest.mark.parametrize(
    ("method", "body", "framing"),
    [
        ("GET", None, b""),
        ("HEAD", b"", b""),
        ("DELETE", None, b"Content-Length: 0\r\n"),
        ("POST", b"", b"Content-Length: 0\r\n"),
        ("PUT", b"abc", b"Content-Length: 3\r\n"),
        ("PUT", Upload(0, _nothing), b"Content-Length: 0\r\n"),
        ("PUT", Upload(None, _nothing), b"Transfer-Encoding: chunked\r\n"),
    ],
)
async def test_a_request_is_exactly_what_was_asked_for(
    raw: Any, http: Any, method: str, body: bytes | Upload | None, framing: bytes
) -> None:
    """Nothing is added but `Host`, agent, encoding, and how long the body is (RFC 9110 section 8.6)."""
    heads: list[bytes] = []
    long = 3 if body == b"abc" else len(b"0\r\n\r\n") if isinstance(body, Upload) and body.size is None else 0

    async def talk(reader: Any, writer: Any) -> None:
        while True:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(long)
            writer.write(_OK if method != "HEAD" else _OK[:-2])

    server = await raw(talk)
    request = HttpRequest(method, f"{server.url}/a%2Fb?c=d", server.host, headers={"Accept": "x/y"}, body=body)
    await http.fetch(request)
    await http.fetch(request)
    start, *fields = heads[0].removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert start == f"{method} /a%2Fb?c=d HTTP/1.1".encode()
    names = {field.partition(b":")[0]: field for field in fields}
    assert names.pop(b"User-Agent").startswith(b"User-Agent: mirrord/")
    expected = [f"Host: {server.host}".encode(), b"Accept-Encoding: identity", b"Accept: x/y", framing.strip()]
    assert sorted(names.values()) == sorted(filter(None, expected))
    assert (heads[1], server.connections) == (heads[0], 1)


async def test_a_long_body_of_bytes_is_sent_while_the_answer_is_awaited(raw: Any, client: Any) -> None:
    """A refusal that comes before all of a long manifest is sent is returned; the connection is not used again."""

    async def talk(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await asyncio.Event().wait()

    server, http = await raw(talk), client()
    for _ in range(2):
        with pytest.raises(RefusedError, match="status 413"):
            await http.fetch(HttpRequest("PUT", server.url, server.host, body=bytes(32 << 20)))
    assert server.connections == 2


async def test_a_long_body_of_bytes_arrives_whole(raw: Any, http: Any) -> None:
    """It goes in pieces, in order, and the connection is used again."""
    got: list[bytes] = []
    sent = b"".join(number.to_bytes(4) for number in range(1 << 18))

    async def talk(reader: Any, writer: Any) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            got.append(await reader.readexactly(len(sent)))
            writer.write(_OK)

    server = await raw(talk)
    for _ in range(2):
        await http.fetch(HttpRequest("PUT", server.url, server.host, body=sent))
    assert (got, server.connections) == ([sent, sent], 1)


async def test_schemes_share_no_connection(raw: Any) -> None:
    """`http://` and `https://` of one authority are two origins: what is asked over TLS never goes out without."""

    async def talk(reader: Any, writer: Any) -> None:
        while await reader.readexactly(1) == b"G":  # and not the first byte of a TLS handshake
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_OK)

    server = await raw(talk)
    transport = AiohttpTransport(Route(), Limits())
    try:
        for _ in range(2):
            answer = await transport.send(WireRequest("GET", f"{server.url}/", server.host))
            assert [chunk async for chunk in answer.chunks()] == [b"ok"]
            await answer.aclose()
            with pytest.raises(UnreachableError):
                await transport.send(WireRequest("GET", f"https://{server.host}/", server.host))
    finally:
        await transport.aclose()


async def test_an_unread_answer_ends_its_connection(raw: Any, client: Any) -> None:
    """What is left of an answer is never taken for the next one."""

    async def talk(reader: Any, writer: Any) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok")

    server, http = await raw(talk), client()
    for _ in range(2):
        async with http.stream(HttpRequest("GET", server.url, server.host)) as answer:
            assert answer.status == 200
    assert server.connections == 2


async def test_a_second_answer_ends_its_connection(raw: Any, client: Any) -> None:
    """An answer that nobody asked for is never taken for that to the next request."""

    async def talk(reader: Any, writer: Any) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(_OK + _OK.replace(b"ok", b"no"))

    server, http = await raw(talk), client()
    bodies = [(await http.fetch(HttpRequest("GET", server.url, server.host))).body for _ in range(3)]
    assert (bodies, server.connections) == ([b"ok"] * 3, 3)


@pytest.mark.parametrize("surplus", [_OK.replace(b"ok", b"no"), b"HTTP/1.1 200 OK\r\nContent-Le", b"\0", b"0\r\n\r\n"])
async def test_what_comes_while_nothing_is_asked_ends_its_connection(raw: Any, client: Any, surplus: bytes) -> None:
    """An answer that comes after its request was answered is never taken for that to the next one, nor kept."""
    closed = asyncio.Queue[bytes]()

    async def talk(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_OK)
        await released.wait()
        writer.write(surplus)
        try:
            await closed.put(await reader.read())
        except ConnectionResetError:
            await closed.put(b"")

    server, http, released = await raw(talk), client(), asyncio.Event()
    for count in range(1, 4):
        released.clear()
        answer = await http.fetch(HttpRequest("GET", server.url, server.host))
        released.set()
        assert (answer.body, await asyncio.wait_for(closed.get(), 10), server.connections) == (b"ok", b"", count)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"])
async def test_a_host_that_reads_nothing_keeps_no_connection_open(raw: Any, client: Any, answer: bytes) -> None:
    """Bytes that it does not take are thrown away with the connection: each one left would be a file descriptor."""

    async def content() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(1 << 20)

    async def talk(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await asyncio.Event().wait()

    server, http = await raw(talk), client(None, Limits(stall=0.3, attempts=1))
    before = open_files()
    for _ in range(3):
        with pytest.raises(MirrordError):
            await http.fetch(HttpRequest("PUT", server.url, server.host, body=Upload(64 << 20, content)))
    await asyncio.sleep(0)  # sockets are closed one turn after their connections
    assert len(open_files() - before) == server.connections == 3  # the ends of the server


@pytest.mark.parametrize(("insecure", "connections"), [(True, 1), (False, 2)])
async def test_any_password_goes_to_a_proxy_in_utf_8(raw: Any, client: Any, insecure: bool, connections: int) -> None:
    """As all other passwords go, on every request or with `CONNECT`; it asks for no connection of its own."""
    logins: list[bytes] = []

    async def talk(reader: Any, writer: Any) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            logins.extend(line for line in head.split(b"\r\n") if line.lower().startswith(b"proxy-authorization"))
            writer.write(_OK if insecure else b"HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    server = await raw(talk)
    proxy = Proxy(server.url, Credential("mé", Secret("50 € @:/%")))
    http = client(HostBook({"r.test": HostPolicy("r.test", insecure=insecure, proxy=proxy)}), Limits(attempts=1))
    request = HttpRequest("GET", f"http{'' if insecure else 's'}://r.test/", "r.test")
    for _ in range(2):
        with nullcontext() if insecure else pytest.raises(UnreachableError, match="status 503"):
            await http.fetch(request)
    expected = base64.b64encode("mé:50 € @:/%".encode())
    assert (logins, server.connections) == ([b"Proxy-Authorization: Basic " + expected] * 2, connections)


@pytest.mark.parametrize("reset", [False, True])
async def test_a_reset_is_not_the_end_of_a_body(raw: Any, http: Any, reset: bool) -> None:
    """A body without a length ends with the connection, when that is closed; a reset is an error (F13)."""

    async def talk(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nwhole")
        await writer.drain()
        if reset:
            await asyncio.sleep(0.1)  # so that the head is read before
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    server = await raw(talk)
    request = HttpRequest("GET", f"{server.url}/a", server.host, attempts=1)
    if reset:
        with pytest.raises(MirrordError, match="the connection ended in the middle"):
            await http.fetch(request)
    else:
        assert (await http.fetch(request)).body == b"whole"
