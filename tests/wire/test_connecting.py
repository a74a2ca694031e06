"""Hosts to which no connection comes about: one that hangs up, one that does not answer, names that are not found."""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
from typing import Any

import pytest
from aiohttp import abc, web

from mirrord.errors import BrokenError, UnreachableError
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.message import HttpRequest, Limits
from mirrord.wire.http.transport import AiohttpTransport


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def test_a_host_that_does_not_take_connections(client: Any) -> None:
    """A SYN that nobody answers is given up after the time for connecting, at each of the attempts (F13)."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for one in (first, second):  # its line is full then
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        host = "{}:{}".format(*listener.getsockname())
        http = client(limits=Limits(connect=0.2, attempts=2))
        with pytest.raises(UnreachableError, match=f"{host}: no connection in time") as caught:
            await http.fetch(HttpRequest("GET", f"http://{host}/", host))
    assert (caught.value.code, caught.value.retry) == ("unreachable", True)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_host_that_resets_each_connection(raw: Any, client: Any, method: str) -> None:
    """It is asked as often as it may be, and no oftener; the error says what happened (F13)."""
    server = await raw(hang_up)
    with pytest.raises(BrokenError, match="the connection ended in the middle"):
        await client(limits=Limits(attempts=3)).fetch(HttpRequest(method, f"{server.url}/", server.host))
    assert server.connections == 3


async def test_a_host_that_resets_the_handshake(raw: Any, client: Any) -> None:
    """In the middle of TLS the sentence is about TLS (F13)."""
    server = await raw(hang_up)
    http = client(HostBook({server.host: HostPolicy(server.host, insecure=False)}), Limits(attempts=2))
    with pytest.raises(UnreachableError, match="hung up during the TLS handshake"):
        await http.fetch(HttpRequest("GET", f"https://{server.host}/", server.host))
    assert server.connections == 2


class Names(abc.AbstractResolver):
    """A resolver that answers with these addresses, when it may."""

    def __init__(self, *addresses: str, late: bool = False) -> None:
        self.addresses, self.late, self.asked = addresses, late, 0

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
        self.asked += 1
        if self.late:
            await asyncio.Event().wait()
        return [
            {"hostname": host, "host": one, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
            for one in self.addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


def named(server: Any, resolver: Names) -> tuple[str, dict[str, Any]]:
    host = f"registry.test:{server.host.partition(':')[2]}"
    book = HostBook({host: HostPolicy(host, insecure=True, allow_private=True)})
    return host, {"book": book, "connect": functools.partial(AiohttpTransport, resolver=resolver)}


async def test_a_resolver_that_does_not_answer(raw: Any, client: Any) -> None:
    """Looking up a name belongs to connecting and its patience; further tries wait for the same answer (F27)."""
    server, resolver = await raw(hang_up), Names(late=True)
    host, given = named(server, resolver)
    http = client(limits=Limits(connect=0.1, attempts=3), **given)
    with pytest.raises(UnreachableError, match="in time"):
        await http.fetch(HttpRequest("GET", f"http://{host}/", host))
    assert (resolver.asked, server.connections) == (1, 0)


async def test_an_address_where_nobody_is_does_not_hide_the_other(serve: Any, client: Any) -> None:
    """Of two addresses the first refuses: the second one is taken, within the same attempt (F27)."""

    async def handle(_: Any) -> Any:
        return web.Response(body=b"ok")

    server = await serve(handle)
    resolver = Names("127.0.0.9", "127.0.0.1")  # it listens at the second one
    host, given = named(server, resolver)
    http = client(limits=Limits(attempts=1), **given)
    assert (await http.fetch(HttpRequest("GET", f"http://{host}/", host))).body == b"ok"
    assert (resolver.asked, len(server.requests)) == (1, 1)
