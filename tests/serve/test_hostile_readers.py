"""What strangers may send and call things: each answer is safe in a browser, and every name can be reached."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, TCPConnector
from yarl import URL

from mirrord.model.history import ItemRow
from mirrord.model.memory import LastSeen
from mirrord.report.mirror import MirrorDetail, Wish
from tests.support.frontserver import showing
from tests.support.shownmirrors import NOW, ShownMirrors, mirror

PATHS = [
    *(
        "/",
        "/front",
        "/events",
        "/front/events",
        "/status",
        "/metrics",
        "/livez",
        "/readyz?verbose",
        "/mirrors/app",
        "/mirrors/<b>",
    ),
    *("/badge.svg", "/badge/app.json", "/badge/app", "/badge/<b>.svg", "/log.txt", "/log/app.txt", "/log/<b>"),
    *("/api/v1/mirrors", "/api/v1/mirrors?limit=0", "/api/v1/mirrors/<b>", "/api/v1/catalog.csv", "/api/v1/<b>"),
    *("/static/<b>", "/v2/<b>", "/<b>", "/%00", "/..", "/<b>%zz", f"/{'b' * 5000}"),
]
BROKEN = [b"GET / HTTP/9.9\r\n\r\n", b"<b>\r\n\r\n", b"GET / HTTP/1.1\r\nA<b>: 1\r\n\r\n"]
"""Requests that no handler gets to see."""


@pytest.fixture
def shown() -> ShownMirrors:
    found = ShownMirrors()
    found.add(mirror("app"))
    return found


@pytest.fixture
async def session(shown: ShownMirrors) -> AsyncIterator[ClientSession]:
    async with (
        showing(shown) as (host, port),
        ClientSession(f"http://{host}:{port}", connector=TCPConnector(limit=0)) as made,
    ):
        yield made


@pytest.mark.parametrize("path", PATHS)
async def test_fields_of_every_answer(session: ClientSession, path: str) -> None:
    """Pages, errors, refusals and what is unchanged have a policy that runs nothing of others, and keep their type."""
    tag = ""
    for method in ("GET", "HEAD", "POST", "DELETE", "GET"):
        headers = {"If-None-Match": tag} if tag else {}
        async with session.request(method, URL(path, encoded=True), headers=headers) as answer:
            tag = answer.headers.get("ETag", tag) if method == "GET" else tag
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'")
            assert "unsafe" not in policy
            assert answer.headers["Server"] == "mirrord"
            assert answer.status in (200, 304, 400, 404, 405, 414)
            assert answer.status >= 400 or method not in ("POST", "DELETE")
    assert not tag or answer.status == 304


async def test_fields_of_answers_to_broken_requests(shown: ShownMirrors) -> None:
    """What is no request gets them too: it is repeated in the answer."""
    async with showing(shown) as (host, port):
        for request in BROKEN:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(request)
            head = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")[0].decode()
            writer.close()
            assert " 400 " in head.splitlines()[0]
            assert "X-Content-Type-Options: nosniff" in head
            assert "Content-Security-Policy: default-src 'none'" in head


NAMES = [
    *("refs/heads/a'b", "refs/heads/<b>&amp;", "refs/heads/a%00b", "refs/heads/#x?y=z", "refs/heads/\u3000"),
    *("refs/heads/\u202eevil", "refs/heads/bad\udcffbytes", f"refs/heads/{'n' * 700}", "refs/heads/+ ;"),
]
"""Names that Git allows, one of them of bytes that are no UTF-8."""


async def test_every_item_has_a_link_that_leads_to_it(shown: ShownMirrors, session: ClientSession) -> None:
    """A page lists whatever strangers called their branches, and each link asks for the very name, byte for byte."""
    rows = [ItemRow(name, {"local": LastSeen("1" * 40, NOW)}) for name in NAMES]
    shown.details["app"] = {"items": rows, "next": NAMES[-1]}
    async with session.get("/mirrors/app") as answer:
        assert answer.status == 200
        text = await answer.text()
    links = [html.unescape(link) for link in re.findall(r'href="([^"]*[?&;]item=[^"]*)#uses"', text)]
    assert len(links) == len(NAMES)
    for link, name in zip(links, NAMES, strict=True):
        async with session.get(URL(link, encoded=True)) as answer:
            assert answer.status == 200
        assert shown.wishes[-1].item == name


async def test_many_readers_of_pages_of_mirrors(shown: ShownMirrors, session: ClientSession) -> None:
    """Few pages are made at a time, however many ask and leave; who cannot wait is told so, and the rest goes on."""
    gate, busy, most = asyncio.Event(), 0, 0
    detail = shown.detail

    async def slow(name: str, wish: Wish) -> MirrorDetail | None:
        nonlocal busy, most
        busy, most = busy + 1, max(most, busy + 1)
        try:
            await gate.wait()
            return await detail(name, wish)
        finally:
            busy -= 1

    shown.detail = slow  # type: ignore[method-assign]  # of this one alone

    async def read() -> int:
        async with session.get("/mirrors/app") as answer:
            await answer.read()
            return answer.status

    readers = [asyncio.create_task(read()) for _ in range(300)]
    told = set[asyncio.Task[int]]()
    while len(told) < 300 - 2 - 256:
        told |= (await asyncio.wait(set(readers) - told, return_when=asyncio.FIRST_COMPLETED))[0]
    assert {reader.result() for reader in told} == {503}
    async with session.get("/badge/app.svg") as answer:
        assert answer.status == 200
    waiting = [reader for reader in readers if not reader.done()]
    for reader in waiting[::2]:
        reader.cancel()
    gate.set()
    assert {*await asyncio.gather(*waiting[1::2])} == {200}
    assert (most, busy) == (2, 0)
