"""Content that grows while it is sent, and what an answer's meter counts and paces."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mirrord.blobs.store import Remote, Stored
from mirrord.errors import BrokenError
from mirrord.events import AnswerBroken, Event, Events
from mirrord.files import LocalFile
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


class Counting:
    """A meter that writes down what it is told."""

    def __init__(self, *, paced: bool) -> None:
        self.paced = paced
        self.calls: list[tuple[str, int]] = []
        self.released = asyncio.Event()
        self.over = asyncio.Event()

    async def pace(self, count: int) -> None:
        """Let the first piece go, and the others when the test says so."""
        if self.calls:
            await self.released.wait()
        self.calls.append(("pace", count))

    def sent(self, count: int) -> None:
        self.calls.append(("sent", count))

    def ended(self) -> None:
        self.calls.append(("ended", 0))
        self.over.set()

    @property
    def total(self) -> int:
        """Bytes that were sent."""
        return sum(count for what, count in self.calls if what == "sent")


LARGE = os.urandom(600_000)
PIECES = [262_144, 262_144, 75_712]


async def remote(offset: int, count: int) -> AsyncIterator[bytes]:
    yield LARGE[offset : offset + count]


def forms(tmp_path: Path) -> Mapping[str, bytes | Stored]:
    """Return the same content as a file, as remote content, and in memory."""
    file = tmp_path / "large"
    file.write_bytes(LARGE)
    return {"file": LocalFile.of(file), "remote": Remote(remote, len(LARGE)), "memory": LARGE}


async def fetched(address: tuple[str, int], *lines: str, method: str = "GET") -> bytes:
    """Return the body of an answer."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write("\r\n".join((f"{method} /v2/x HTTP/1.1", "Host: h", "Connection: close", *lines, "", "")).encode())
    body = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    return body


@pytest.mark.parametrize("form", ["file", "remote", "memory"])
async def test_what_is_sent_is_counted(front: Front, address: tuple[str, int], tmp_path: Path, form: str) -> None:
    """A meter counts exactly the bytes of the content, or of its part, once; HEAD, 304 and 416 have none."""
    headers, body = {"ETag": '"x"'}, forms(tmp_path)[form]
    for line, method, size in (
        ("", "GET", len(LARGE)),
        ("Range: bytes=1000-99999", "GET", 99_000),
        ("", "HEAD", 0),
        ('If-None-Match: "x"', "GET", 0),
        ("Range: bytes=600000-", "GET", 0),
    ):
        meter = Counting(paced=False)
        front.answer = Response(200, headers, body, meter=meter)
        assert len(await fetched(address, *filter(None, [line]), method=method)) == size
        assert meter.total == size
        assert meter.calls[-1] == ("ended", 0)
        assert [what for what, _ in meter.calls].count("ended") == 1
        assert "pace" not in dict(meter.calls)


@pytest.mark.parametrize("form", ["file", "remote"])
async def test_paced_content(front: Front, address: tuple[str, int], tmp_path: Path, form: str) -> None:
    """The first piece comes at once; each further one waits for the meter, and is small whatever the source yields."""
    meter = Counting(paced=True)
    front.answer = Response(200, {}, forms(tmp_path)[form], meter=meter)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /v2/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(PIECES[0]) == LARGE[: PIECES[0]]
    assert meter.calls in ([("pace", PIECES[0])], [("pace", PIECES[0]), ("sent", PIECES[0])])
    meter.released.set()
    assert await reader.read() == LARGE[PIECES[0] :]
    await meter.over.wait()
    assert meter.calls == [*((what, size) for size in PIECES for what in ("pace", "sent")), ("ended", 0)]
    writer.close()


@pytest.mark.parametrize("form", ["file", "remote"])
async def test_a_paced_client_that_leaves(front: Front, address: tuple[str, int], tmp_path: Path, form: str) -> None:
    """A client that leaves while the next piece waits ends the answer at once; what it got is counted."""
    meter = Counting(paced=True)
    front.answer = Response(200, {}, forms(tmp_path)[form], meter=meter)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /v2/x HTTP/1.1\r\nHost: h\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(PIECES[0])
    writer.transport.abort()
    await meter.over.wait()
    assert meter.total == PIECES[0]
    assert meter.calls[-1] == ("ended", 0)


async def test_a_client_that_leaves_a_file(front: Front, address: tuple[str, int], tmp_path: Path) -> None:
    """Of a file that is sent at once, what the kernel took is counted when the client leaves, and no more."""
    file, whole = tmp_path / "huge", 64 << 20
    with file.open("wb") as opened:
        opened.truncate(whole)
    meter = Counting(paced=False)
    front.answer = Response(200, {}, LocalFile.of(file), meter=meter)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /v2/x HTTP/1.1\r\nHost: h\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(100_000)
    writer.transport.abort()
    await meter.over.wait()
    assert 100_000 <= meter.total < whole


RANGES = [
    ("500-1499", 206, slice(500, 1500), "bytes 500-1499/2048"),
    ("500-", 206, slice(500, 2048), "bytes 500-2047/2048"),
    ("-500", 206, slice(1548, 2048), "bytes 1548-2047/2048"),
    ("2000-5000", 206, slice(2000, 2048), "bytes 2000-2047/2048"),
    ("0-0", 206, slice(0, 1), "bytes 0-0/2048"),
    ("500-0", 416, slice(0, 0), "bytes */2048"),
    ("5000-10000", 416, slice(0, 0), "bytes */2048"),
    ("2048-", 416, slice(0, 0), "bytes */2048"),
    ("-0", 416, slice(0, 0), "bytes */2048"),
    ("0-1,5-6", 200, slice(0, 2048), None),
    ("a-b", 200, slice(0, 2048), None),
]


@pytest.mark.parametrize("form", ["file", "growing", "memory"])
@pytest.mark.parametrize("wanted", RANGES, ids=lambda one: str(one[0]))
async def test_ranges(
    front: Front, address: tuple[str, int], tmp_path: Path, form: str, wanted: tuple[str, int, slice, str | None]
) -> None:
    """Ranges as the conformance program of the distribution specification asks for them, whatever is behind."""
    asked, status, part, span = wanted

    async def growing(offset: int, count: int) -> AsyncIterator[bytes]:
        for at in range(offset, offset + count, 700):
            yield DATA[at : min(at + 700, offset + count)]

    file = tmp_path / "blob"
    file.write_bytes(DATA)
    bodies: Mapping[str, bytes | Stored] = {
        "file": LocalFile.of(file),
        "growing": Remote(growing, len(DATA), prompt=True),
        "memory": DATA,
    }
    front.answer = Response(200, {"ETag": '"sha256:x"'}, bodies[form])
    reader, writer = await asyncio.open_connection(*address)
    writer.write(f"GET /v2/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nRange: bytes={asked}\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert int(head.split()[1]) == status
    assert body == DATA[part]
    assert (fields.get("Content-Range"), fields["Content-Length"]) == (span, str(len(body)))


async def test_no_proxy_may_change_content(front: Front, address: tuple[str, int]) -> None:
    """What has a tag says that no proxy may transform it, and is the same for a client that takes gzip."""
    front.answer = Response(200, {"ETag": '"x"', "Content-Type": "application/json"}, DATA)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /v2/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAccept-Encoding: gzip, br, zstd\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert body == DATA
    assert b"Cache-Control: no-transform\r\n" in head
    assert b"Content-Encoding" not in head
