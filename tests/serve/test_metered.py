"""Content that grows while it is sent, and what an answer's meter counts and paces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mirrord.blobs.store import Remote
from mirrord.errors import BrokenError
from mirrord.events import AnswerBroken, Event, Events
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import Services
from tests.support.frontserver import listening

DATA = bytes(range(256)) * 8


class Front:
    """Answers with what a test gives it, and remembers what it was asked."""

    prefixes = ("/v2/",)

    def __init__(self) -> None:
        self.answer = Response(200, {})
        self.asked: list[Request] = []
        self.heard: list[Event] = []
        self.events = Events()
        self.events.listen(self.heard.append)

    async def respond(self, request: Request, services: Services) -> Response:
        self.asked.append(request)
        return self.answer


@pytest.fixture
async def front() -> Front:
    return Front()


@pytest.fixture
async def address(front: Front) -> AsyncIterator[tuple[str, int]]:
    services: Any = front  # only its events are used
    async with listening(services, front) as made:
        yield made


async def test_headers_before_the_first_piece(front: Front, address: tuple[str, int]) -> None:
    """Prompt content has its headers sent while its source has none of it yet, also for a part."""
    there = asyncio.Event()

    async def growing(offset: int, count: int) -> AsyncIterator[bytes]:
        await there.wait()
        yield DATA[offset : offset + count]

    front.answer = Response(200, {}, Remote(growing, len(DATA), prompt=True))
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /v2/x HTTP/1.1\r\nHost: h\r\nRange: bytes=1000-1999\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 206 ")
    assert b"Content-Range: bytes 1000-1999/2048\r\n" in head
    there.set()
    assert await reader.readexactly(1000) == DATA[1000:2000]
    writer.close()


async def test_errors_after_prompt_headers(front: Front, address: tuple[str, int]) -> None:
    """An error before the first piece of prompt content aborts the connection: its headers are sent already."""
    headers_read = asyncio.Event()

    async def broken(offset: int, count: int) -> AsyncIterator[bytes]:
        await headers_read.wait()
        raise BrokenError("upstream is gone")
        yield b""

    front.answer = Response(200, {}, Remote(broken, len(DATA), prompt=True))
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /v2/x HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    headers_read.set()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    assert front.heard == [AnswerBroken("/v2/x", "upstream is gone")]
    writer.close()


async def test_all_accept_fields(front: Front, address: tuple[str, int]) -> None:
    """A syncer gets every field Accept, in the order of the client."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /v2/x HTTP/1.1\r\nHost: h\r\nAccept: a/b, c/d;q=0.5\r\naccept: e/f\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    assert front.asked[0].accept == ("a/b, c/d;q=0.5", "e/f")
    writer.close()
