"""Answers of unknown length: whole or visibly not, no faster than they are taken, and closed in the end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from mirrord.errors import BrokenError, MissingError
from mirrord.events import AnswerBroken, Event, Events
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import Services
from mirrord.testing.running import run
from mirrord.testing.servers import require
from tests.support.frontserver import listening

PIECE = bytes(range(256)) * 256


class Streaming:
    """Streams what the path says, and counts what was asked for and what was closed."""

    prefixes = ("/stream/",)

    def __init__(self) -> None:
        self.opened = self.pulled = 0
        self.asked, self.closed, self.goes_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def respond(self, asked: Request, services: Services) -> Response:
        def opened() -> AsyncGenerator[bytes, None]:
            return self.pieces(asked.path)

        if asked.path == "late":
            self.asked.set()
            try:
                await self.goes_on.wait()
            finally:
                self.closed.set()
        return Response(200, {"Content-Type": "x/y", "ETag": '"one"'}, opened)

    async def pieces(self, path: str) -> AsyncGenerator[bytes, None]:
        self.opened += 1
        try:
            if path == "missing":
                raise MissingError("gone")
            count = 100_000 if path == "endless" else 0 if path == "nothing" else 5
            for number in range(count):
                self.pulled += 1
                yield b"" if path == "gaps" and number % 2 else PIECE
            if path == "waits":
                await self.goes_on.wait()
            errors: dict[str, Exception] = {
                "breaks": BrokenError("cut off"),
                "bug": ValueError("a bug"),
                "io": OSError(5),
            }
            if path in errors:
                raise errors[path]
        finally:
            self.closed.set()


@pytest.fixture
async def front() -> Streaming:
    return Streaming()


@pytest.fixture
async def told() -> list[Event]:
    return []


@pytest.fixture
async def address(front: Streaming, told: list[Event]) -> AsyncIterator[tuple[str, int]]:
    events = Events()
    events.listen(told.append)
    services: Any = SimpleNamespace(events=events)
    async with listening(services, front) as address:
        yield address


async def ask(address: tuple[str, int], path: str, method: str = "GET", version: str = "1.1", *lines: str) -> bytes:
    """Send a request, and return all that comes until the connection ends."""
    reader, writer = await asyncio.open_connection(*address)
    head = "".join(f"{line}\r\n" for line in ("Host: h", "Connection: close", *lines))
    writer.write(f"{method} /stream/{path} HTTP/{version}\r\n{head}\r\n".encode())
    found = b""
    try:
        while piece := await asyncio.wait_for(reader.read(1 << 20), 30):
            found += piece
    except ConnectionError:
        pass
    writer.close()
    return found


def chunks(body: bytes) -> tuple[bytes, bool]:
    """Return what is in chunks, and whether the last one was there (RFC 9112 §7.1)."""
    found = b""
    while size := re.match(rb"([0-9a-f]+)\r\n", body):
        count, start = int(size[1], 16), size.end()
        if not count:
            return found, body[start:] == b"\r\n"
        found += body[start : start + count]
        body = body[start + count + 2 :]
    return found, False


@pytest.mark.parametrize("path", ["some", "gaps", "nothing"])
async def test_all_of_it(front: Streaming, address: tuple[str, int], path: str) -> None:
    """It comes in chunks with HTTP/1.1, and until the end of the connection before; the generator is closed."""
    data = PIECE * {"some": 5, "gaps": 3, "nothing": 0}[path]
    head, _, body = (await ask(address, path)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding: chunked" in head.lower()
    assert chunks(body) == (data, True)
    head, _, body = (await ask(address, path, "GET", "1.0")).partition(b"\r\n\r\n")
    assert (b"chunked" in head, b"content-length" in head.lower(), body) == (False, False, data)
    await front.closed.wait()


async def test_curl_takes_it(address: tuple[str, int]) -> None:
    """A real client takes it for whole, and one that breaks off for an error: 18, a partial file, or 56, a reset."""
    require("curl")
    url = "http://{}:{}/stream".format(*address)
    done = await run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", f"{url}/some")
    assert (done.status, done.output) == (0, f"200 {5 * len(PIECE)}")
    assert (await run("curl", "-sS", "-o", "/dev/null", f"{url}/breaks")).status in {18, 56}


async def test_a_connection_serves_on(address: tuple[str, int]) -> None:
    """Behind the last chunk the next answer comes on the same connection."""
    reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
    for _ in range(2):
        writer.write(b"GET /stream/some HTTP/1.1\r\nHost: h\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert chunks(await reader.readuntil(b"\r\n0\r\n\r\n")) == (5 * PIECE, True)
    writer.close()


async def test_nothing_is_opened_in_vain(front: Streaming, address: tuple[str, int]) -> None:
    """HEAD and what the client has already open nothing; parts of it cannot be had, and nobody says that they can."""
    head = await ask(address, "some", "HEAD")
    assert (head[:13], head[-4:]) == (b"HTTP/1.1 200 ", b"\r\n\r\n")
    assert (await ask(address, "some", "GET", "1.1", 'If-None-Match: "one"')).startswith(b"HTTP/1.1 304 ")
    assert front.opened == 0
    head, _, body = (await ask(address, "some", "GET", "1.1", "Range: bytes=1-2")).partition(b"\r\n\r\n")
    assert (head[:13], b"accept-ranges" in head.lower(), chunks(body)[1]) == (b"HTTP/1.1 200 ", False, True)


@pytest.mark.parametrize("path", ["breaks", "bug", "io"])
async def test_what_breaks_off(address: tuple[str, int], told: list[Event], path: str) -> None:
    """Whatever ends it in the middle, the last chunk never comes, and one line says what happened."""
    _, _, body = (await ask(address, path)).partition(b"\r\n\r\n")
    assert not chunks(body)[1]
    ((where, error),) = (event for event in told if isinstance(event, AnswerBroken))
    assert where == f"/stream/{path}"
    assert error


async def test_what_cannot_be_begun(front: Streaming, address: tuple[str, int], told: list[Event]) -> None:
    """An error before the first byte is an answer of its own."""
    assert (await ask(address, "missing")).startswith(b"HTTP/1.1 404 ")
    assert (front.closed.is_set(), told) == (True, [])


@pytest.mark.parametrize("path", ["endless", "waits"])
async def test_who_leaves_closes_it(front: Streaming, address: tuple[str, int], told: list[Event], path: str) -> None:
    """It is closed when its client leaves, whether it has something to send or waits for that; no line is written."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(f"GET /stream/{path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    await reader.readexactly(1000)
    assert not front.closed.is_set()
    writer.transport.abort()
    await asyncio.wait_for(front.closed.wait(), 30)
    assert told == []


async def test_who_leaves_before_the_answer_ends_the_work(
    front: Streaming, address: tuple[str, int], told: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """What an answer waits for is cancelled when its client leaves; nothing is opened, and no error is logged."""
    _, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /stream/late HTTP/1.1\r\nHost: h\r\n\r\n")
    await front.asked.wait()
    writer.transport.abort()
    await asyncio.wait_for(front.closed.wait(), 30)
    assert (await ask(address, "nothing")).startswith(b"HTTP/1.1 200 ")
    assert (front.opened, told, caplog.messages) == (1, [], [])


async def test_no_more_is_pulled_than_is_sent(front: Streaming, address: tuple[str, int]) -> None:
    """A client that does not read costs what its connection holds, and no more."""
    reader, writer = await asyncio.open_connection(*address, limit=1024)
    writer.write(b"GET /stream/endless HTTP/1.1\r\nHost: h\r\n\r\n")
    await reader.readline()
    seen = -1
    while seen != front.pulled:  # it comes to a halt by itself
        seen = front.pulled
        await asyncio.sleep(0.2)
    assert seen * len(PIECE) < 64 << 20
    writer.transport.abort()
    await asyncio.wait_for(front.closed.wait(), 30)
