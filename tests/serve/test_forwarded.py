"""Who a client is, and how it reached us, behind proxies: only listed ones are asked."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import Any

import pytest

from mirrord.serve.incoming import TrustedProxies, address_in
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import Services
from tests.support.frontserver import listening


class Front:
    """Remembers what it was asked."""

    prefixes = ("/v2/",)

    def __init__(self) -> None:
        self.asked: list[Request] = []

    async def respond(self, request: Request, services: Services) -> Response:
        self.asked.append(request)
        return Response(200, {})


async def seen(proxies: TrustedProxies, *lines: str, host: str = "Host: here:1") -> Request:
    """Return a request from 127.0.0.1 with these lines as a syncer gets it."""
    front = Front()
    nobody: Any = None
    async with listening(nobody, front, proxies=proxies) as address:
        reader, writer = await asyncio.open_connection(*address)
        version = "1.1" if host else "1.0"
        head = "\r\n".join((f"GET /v2/ HTTP/{version}", *filter(None, (host,)), *lines, "Connection: close", "", ""))
        writer.write(head.encode())
        assert (await reader.read()).partition(b" ")[2].startswith(b"200 ")
        writer.close()
    return front.asked[0]


def of(*networks: str, url: str = "") -> TrustedProxies:
    return TrustedProxies(tuple(map(ip_network, networks)), url)


NEAR = of("127.0.0.0/8", "10.0.0.0/8", "fd00::/8")
FOR = "X-Forwarded-For: "


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([], "127.0.0.1"),
        ([FOR + "192.0.2.7"], "192.0.2.7"),
        ([FOR + "198.51.100.1, 192.0.2.7"], "192.0.2.7"),
        ([FOR + "198.51.100.1,192.0.2.7 , 10.1.2.3,10.4.5.6"], "192.0.2.7"),
        ([FOR + "198.51.100.1", FOR + "192.0.2.7, 10.1.2.3"], "192.0.2.7"),
        ([FOR + "10.9.9.9, 10.1.2.3"], "10.9.9.9"),
        ([FOR + "192.0.2.7:4711"], "192.0.2.7"),
        ([FOR + "2001:db8::7"], "2001:db8::7"),
        ([FOR + "[2001:db8::7]"], "2001:db8::7"),
        ([FOR + "[2001:db8::7]:4711, fd00::1"], "2001:db8::7"),
        ([FOR + "fe80::1%eth0"], "fe80::1"),
        ([FOR + "::ffff:192.0.2.7"], "192.0.2.7"),
        ([FOR + "192.0.2.7, unknown"], "127.0.0.1"),
        ([FOR + "192.0.2.7, , 10.1.2.3"], "10.1.2.3"),
        ([FOR + "192.0.2.7, 10.1.2.999"], "127.0.0.1"),
        ([FOR + "192.0.2.7, 010.1.2.3"], "127.0.0.1"),
        ([FOR], "127.0.0.1"),
        ([FOR + ",".join(["198.51.100.1"] * 300 + ["192.0.2.7"])], "192.0.2.7"),
        ([FOR + ",".join(["192.0.2.7"] + ["10.0.0.1"] * 300)], "10.0.0.1"),
        (["Forwarded: for=192.0.2.7"], "192.0.2.7"),
        (['Forwarded: for=198.51.100.1, for="[2001:db8::7]:80";proto=https;by=10.0.0.1, For=10.1.2.3'], "2001:db8::7"),
        (['Forwarded: for="_hidden", for=10.1.2.3'], "10.1.2.3"),
        (["Forwarded: for=192.0.2.7;x"], "127.0.0.1"),
        (["Forwarded: for=198.51.100.1", FOR + "192.0.2.7"], "192.0.2.7"),
        (["X-Real-IP: 192.0.2.7"], "127.0.0.1"),
    ],
)
async def test_the_address_of_a_client(lines: list[str], client: str) -> None:
    """It is the rightmost one that is no listed proxy; what cannot be read leaves the proxy that wrote it."""
    assert (await seen(NEAR, *lines)).client == client


@pytest.mark.parametrize(
    ("lines", "origin"),
    [
        ([], "http://here:1"),
        (["X-Forwarded-Proto: https"], "https://here:1"),
        (
            ["X-Forwarded-Proto: HTTPS, http", "X-Forwarded-Host: mirror.example:8443, inner"],
            "https://mirror.example:8443",
        ),
        (["X-Forwarded-Proto: gopher", "X-Forwarded-Host: a/b"], "http://here:1"),
        (["Forwarded: for=192.0.2.7;proto=https;host=mirror.example"], "https://mirror.example"),
        (["X-Forwarded-Host: [2001:db8::7]:80"], "http://[2001:db8::7]:80"),
    ],
)
async def test_the_address_that_a_client_used(lines: list[str], origin: str) -> None:
    """Scheme and host are those of the first proxy, unless they are none."""
    assert (await seen(NEAR, *lines)).origin == origin


async def test_nobody_else_is_asked() -> None:
    """A peer that is not listed writes what it likes, and is the client itself."""
    lines = ("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example")
    for proxies in (of(), of("10.0.0.0/8", "::1/128")):
        found = await seen(proxies, *lines, "Forwarded: for=192.0.2.7;proto=https;host=evil.example")
        assert (found.client, found.origin) == ("127.0.0.1", "http://here:1")
    assert (await seen(TrustedProxies(), *lines)).client == "192.0.2.7"  # loopback is listed by default


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("mirror.example", "https://mirror.example"),
        ("MIRROR.example", "https://MIRROR.example"),
        ("here:1", "http://here:1"),
    ],
)
async def test_the_public_address(host: str, origin: str) -> None:
    """Behind a proxy that is not listed, or that sends no scheme, the scheme is that of `settings.url`."""
    for proxies in (of(url="https://mirror.example"), of("127.0.0.0/8", url="https://mirror.example")):
        assert (await seen(proxies, host=f"Host: {host}")).origin == origin


async def test_a_request_without_a_host() -> None:
    """An old client that names no host gets no address instead of a wrong one."""
    assert (await seen(NEAR, host="")).host == ""


@pytest.mark.parametrize(
    "node",
    ["", "x", "1.2.3", "1.2.3.4.5", "[::1", "::1]", "1.2.3.4:", "1.2.3.4:999999", "[1.2.3.4]x", "9" * 9000, "[]", "%"],
)
def test_no_address(node: str) -> None:
    """What is not exactly an address is none."""
    assert address_in(node) is None
