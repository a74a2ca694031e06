"""`Http` against servers that misbehave: drips, stalls, truncation, encoders, broken framing (F13 to F16, 30, 41)."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from mirrord.errors import BrokenError, ContentError, RefusedError, StalledError, UnreachableError
from mirrord.events import RequestDone
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest, Limits, Upload

IMPATIENT = Limits(stall=0.15, answer=0.15, attempts=1)
FAST_ONLY = Limits(window=0.05, floor=1e12, attempts=1)


def saying(*parts: Any, then: Any = None) -> Any:
    """Talk: read one request head, say `parts`, wait for `then` if there is one, hang up."""

    async def talk(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
        if then is not None:
            await then.wait()

    return talk


async def read(http: Http, server: Any, **more: Any) -> Any:
    async with http.stream(HttpRequest("GET", server.url, server.host, **more)) as incoming:
        return b"".join([chunk async for chunk in incoming.chunks()])


async def test_a_drip_is_given_up(raw: Any, client: Any) -> None:
    """A byte now and then keeps every simple timeout quiet; the minimum throughput does not care (F14)."""

    async def talk(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.005)  # the drip itself, not synchronisation

    server = await raw(talk)
    with pytest.raises(StalledError, match="bytes a second"):
        await read(client(limits=FAST_ONLY), server)


async def test_who_works_on_an_upload_may_say_little(raw: Any, client: Any) -> None:
    """An answer to an upload is no content: a byte now and then (git's keep-alive) is enough; silence is not."""

    async def talk(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"abc")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        for _ in range(5):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.03)  # the drip itself, not synchronisation

    async def content() -> AsyncIterator[bytes]:
        yield b"abc"

    server = await raw(talk)
    http = client(limits=FAST_ONLY)
    answer = await http.fetch(HttpRequest("POST", server.url, server.host, body=Upload(3, content)))
    assert answer.body == b"xxxxx"


async def test_an_upload_of_unknown_size_goes_in_chunks(raw: Any, client: Any) -> None:
    """What is made while it is sent has no Content-Length; its end is told."""
    heard: list[bytes] = []

    async def talk(reader: Any, writer: Any) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        heard.append(await reader.readuntil(b"\r\n0\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async def content() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"defg"

    server = await raw(talk)
    await client().fetch(HttpRequest("POST", server.url, server.host, body=Upload(None, content)))
    assert b"transfer-encoding: chunked" in heard[0].lower()
    assert b"content-length" not in heard[0].lower()
    assert heard[1] == b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "said",
    [(), (b"HTTP/1.1 200 OK\r\nConte",), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",)],
    ids=["before", "in-headers", "in-body"],
)
async def test_15_silence_is_given_up(raw: Any, client: Any, said: Any) -> None:
    """Before the headers, within them, within the body (F15)."""
    server = await raw(saying(*said, then=asyncio.Event()))
    with pytest.raises(StalledError):
        await read(client(limits=IMPATIENT), server)


async def test_a_deadline_ends_everything(raw: Any, http: Http) -> None:
    """Also a stream that makes progress, and also when retries are left."""
    server = await raw(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", then=asyncio.Event()))
    with pytest.raises(StalledError, match="not done within"):
        await read(http, server, deadline=0.1)
    with pytest.raises(StalledError, match="not done within"):
        await http.fetch(HttpRequest("GET", server.url, server.host, deadline=0.1))


async def _streamed(http: Http, request: HttpRequest) -> None:
    async with http.stream(request):
        pass


@pytest.mark.parametrize(
    ("call", "more"),
    [(Http.fetch, {}), (Http.fetch, {"deadline": 100.0}), (_streamed, {"first": 100.0})],
    ids=["small", "deadline", "first"],
)
async def test_a_deadline_is_for_all_tries(
    serve: Any, client: Any, monkeypatch: pytest.MonkeyPatch, call: Any, more: Any
) -> None:
    """A host that fails after 40 s each time: of 100 s nothing is left for a fourth try, nor for the third answer."""
    loop, ahead = asyncio.get_running_loop(), 0.0
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + ahead)

    async def handle(_: web.Request) -> web.Response:
        nonlocal ahead
        ahead += 40.0
        return web.Response(status=503)

    server = await serve(handle)
    http = client(limits=Limits(small=100.0, attempts=4))
    with pytest.raises(StalledError, match="GET not done within 100 s"):
        await call(http, HttpRequest("GET", server.url, server.host, **more))
    assert len(server.requests) == 3


@pytest.mark.parametrize("drip", [b"x", b"HTTP/1.1 102 Processing\r\n\r\n"], ids=["headers", "interim"])
async def test_14_headers_that_never_end(raw: Any, client: Any, drip: bytes) -> None:
    """Bytes of headers, or interim answers, keep every timeout between bytes quiet; the wait for all of them ends."""

    async def talk(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX-Drip: " if drip == b"x" else b"")
        while True:
            writer.write(drip)
            await writer.drain()
            await asyncio.sleep(0.005)  # the drip itself, not synchronisation

    server = await raw(talk)
    patience = Limits(connect=0.1, stall=0.2, attempts=1)
    async with asyncio.timeout(30):  # else a test that fails would never end
        for body in (None, b"manifest"):
            with pytest.raises(StalledError, match="no headers within"):
                await client(limits=patience).fetch(HttpRequest("PUT", server.url, server.host, body=body))
        with pytest.raises(StalledError, match="no headers within"):
            await read(client(limits=patience), server)


async def test_small_exchanges_end(raw: Any, client: Any) -> None:
    """A call that asks for no deadline has one, a token's too, unless content flows."""

    async def talk(reader: Any, writer: Any) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b" /token" not in head and b" /small" not in head:
            realm = f'WWW-Authenticate: Bearer realm="http://{server.host}/token"'.encode()
            writer.write(b"HTTP/1.1 401 No\r\nConnection: close\r\nContent-Length: 0\r\n" + realm + b"\r\n\r\n")
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.005)  # the drip itself, not synchronisation

    server = await raw(talk)
    limits = Limits(small=0.1, attempts=1)
    async with asyncio.timeout(30):  # else a test that fails would never end
        with pytest.raises(StalledError, match="GET not done within"):
            await client(limits=limits).fetch(HttpRequest("GET", f"{server.url}/small", server.host, cap=100_000))
        with pytest.raises(StalledError, match="GET not done within"):
            await read(client(limits=limits), server, scope="repository:a:pull")
    content = HttpRequest("GET", f"{server.url}/small", server.host)
    async with client(limits=limits).stream(content) as incoming:
        length = 0
        async for chunk in incoming.chunks():
            length += len(chunk)
            if length > 40:
                break


async def test_waiting_in_line_is_no_delay_of_the_host(serve: Any, client: Any) -> None:
    """However long a call waits for its turn, its time begins with it."""
    held, asked = asyncio.Event(), asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        if request.path == "/first":
            asked.set()
            await held.wait()
        return web.Response(text="done")

    server = await serve(handle)
    http = client(HostBook({server.host: HostPolicy(server.host, requests=1)}), Limits(small=0.3))
    first = asyncio.create_task(http.fetch(HttpRequest("GET", f"{server.url}/first", server.host, deadline=30.0)))
    await asked.wait()
    second = asyncio.create_task(http.fetch(HttpRequest("GET", f"{server.url}/second", server.host)))
    done, _ = await asyncio.wait([second], timeout=0.5)  # longer than its own time, all of it in line
    assert not done
    held.set()
    assert [(await task).body for task in (first, second)] == [b"done", b"done"]


async def test_16_truncated_bodies_are_noticed(raw: Any, http: Http, told: Any) -> None:
    """Fewer bytes than Content-Length are an error, tried again by `fetch`, told by `stream` (F16)."""
    server = await raw(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"))
    with pytest.raises(BrokenError):
        await read(http, server)
    assert server.connections == 1
    with pytest.raises(BrokenError):
        await http.fetch(HttpRequest("GET", server.url, server.host))
    assert server.connections == 5
    assert [event.status for event in told if isinstance(event, RequestDone)] == [200] * 5


async def test_a_body_without_length_ends_where_it_ends(raw: Any, http: Http) -> None:
    """Nothing can be told from that; callers compare digests (F16)."""
    server = await raw(saying(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"))
    assert await read(http, server) == b"abc"


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n", (ContentError, BrokenError)),
        (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", (ContentError, BrokenError)),
        (b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", BrokenError),
        (b"Content-Length: x\r\n\r\nabc", BrokenError),
        (b"Content-Length: -1\r\n\r\nabc", BrokenError),
        (b"Bad Name: 3\r\nContent-Length: 3\r\n\r\nabc", BrokenError),
        (b"X: " + b"y" * 200_000 + b"\r\nContent-Length: 3\r\n\r\nabc", BrokenError),
        (b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + b"Content-Length: 3\r\n\r\nabc", BrokenError),
    ],
    ids=["30-te-cl", "30-cl-te", "30-two-cl", "30-cl-word", "30-cl-negative", "30-name", "32-long", "32-many"],
)
async def test_broken_framing_is_refused(raw: Any, client: Any, head: Any, error: Any) -> None:
    """What two readers could frame differently is no answer (bad inputs 30 and 32, seen from the client)."""
    server = await raw(saying(b"HTTP/1.1 200 OK\r\n" + head))
    with pytest.raises(error):
        await client(limits=Limits(attempts=1)).fetch(HttpRequest("GET", server.url, server.host))


@pytest.mark.parametrize("said", [b"", b"HT", b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00"], ids=["none", "cut", "ssh", "tls"])
async def test_what_is_not_http_is_broken(raw: Any, client: Any, said: Any) -> None:
    """Another protocol, or nothing."""
    server = await raw(saying(said))
    with pytest.raises(BrokenError):
        await client(limits=Limits(attempts=1)).fetch(HttpRequest("GET", server.url, server.host))


@pytest.mark.parametrize(
    "encoding", ["gzip", "br", "deflate, gzip", ", ".join(["gzip"] * 3000)], ids=["gzip", "br", "two", "3000"]
)
async def test_41_encoded_bodies_are_refused_unread(serve: Any, http: Http, encoding: Any) -> None:
    """Refused by the header alone: the body has not even been sent (bad input 41)."""
    never = asyncio.Event()

    async def handle(request: Any) -> Any:
        response = web.StreamResponse(headers={"Content-Encoding": encoding, "Content-Length": "100"})
        await response.prepare(request)
        await never.wait()
        return response

    server = await serve(handle)
    async with asyncio.timeout(10):
        with pytest.raises(ContentError, match="Content-Encoding"):
            await http.fetch(HttpRequest("GET", server.url, server.host))
        with pytest.raises(ContentError, match="Content-Encoding"):
            await read(http, server)


async def test_encoded_bodies_stay_encoded_when_asked_for(serve: Any, http: Http) -> None:
    """A caller that allows encodings gets the bytes as sent, under its cap: no bomb goes off here."""
    bomb = gzip.compress(b"\0" * 1_000_000)
    server = await serve(lambda _: _encoded(bomb))
    answer = await http.fetch(HttpRequest("GET", server.url, server.host, encoded=True))
    assert answer.body == bomb


async def _encoded(body: Any) -> Any:
    return web.Response(body=body, headers={"Content-Encoding": "gzip"})


async def test_a_handshake_that_stalls_is_no_connection(raw: Any, client: Any) -> None:
    """TLS belongs to connecting, and to its patience (F13)."""
    server = await raw(saying(then=asyncio.Event()))
    with pytest.raises(UnreachableError, match="in time"):
        await client(limits=Limits(connect=0.1, attempts=1)).fetch(
            HttpRequest("GET", f"https://{server.host}/", server.host)
        )


async def test_nobody_listens(raw: Any, client: Any) -> None:
    """A refused connection is `UnreachableError`, after the attempts that were allowed (F13)."""
    server = await raw(saying())
    http = client(limits=Limits(attempts=2))
    with pytest.raises(UnreachableError):
        await http.fetch(HttpRequest("GET", "http://127.0.0.1:1/", "127.0.0.1:1"))
    assert server.connections == 0


class Source:
    """A body that notes whether it was closed."""

    def __init__(self, *parts: bytes, size: int | None = None, wait: asyncio.Event | None = None) -> None:
        self.parts, self.wait, self.closed, self.opened = parts, wait, 0, 0
        self.upload = Upload(sum(map(len, parts)) if size is None else size, self.open)

    async def open(self) -> AsyncIterator[bytes]:
        self.opened += 1
        try:
            for part in self.parts:
                if self.wait is not None:
                    await self.wait.wait()
                yield part
        finally:
            self.closed += 1


async def test_a_target_that_stops_reading_is_given_up(raw: Any, client: Any) -> None:
    """The upload stalls, not we: `StalledError`, and the source is closed."""
    server = await raw(saying(then=asyncio.Event()))
    source = Source(*[b"x" * 1_000_000] * 64)
    with pytest.raises(StalledError):
        await client(limits=IMPATIENT).fetch(HttpRequest("PUT", server.url, server.host, body=source.upload))
    assert source.closed == source.opened == 1


async def test_a_target_that_reads_slowly_is_given_up(raw: Any, client: Any) -> None:
    """Below the minimum throughput although never silent."""

    async def talk(reader: Any, _: Any) -> None:
        while await reader.read(20_000):  # noqa: ASYNC110 - slowness is the subject here
            await asyncio.sleep(0.001)

    server = await raw(talk)
    source = Source(*[b"x" * 1_000_000] * 64)
    with pytest.raises(StalledError, match="accepts fewer"):
        await client(limits=FAST_ONLY).fetch(HttpRequest("PUT", server.url, server.host, body=source.upload))
    assert source.closed == 1


async def test_a_slow_source_is_not_held_against_the_target(serve: Any, client: Any) -> None:
    """The target waits for our source much longer than its own patience would be, and nothing happens to it."""
    gate = asyncio.Event()
    source = Source(b"a", b"b", wait=gate)

    async def handle(request: Any) -> Any:
        return web.Response(body=await request.read())

    server = await serve(handle)
    task = asyncio.create_task(
        client(limits=IMPATIENT).fetch(HttpRequest("PUT", server.url, server.host, body=source.upload))
    )
    asyncio.get_running_loop().call_later(3 * IMPATIENT.stall, gate.set)  # longer than the limit under test
    assert (await task).body == b"ab"


async def test_no_answer_after_an_upload_is_given_up(raw: Any, client: Any) -> None:
    """After the last byte another, longer patience counts."""

    async def talk(reader: Any, _: Any) -> None:
        await reader.readuntil(b"abc")
        await asyncio.Event().wait()

    server = await raw(talk)
    with pytest.raises(StalledError):
        await client(limits=IMPATIENT).fetch(HttpRequest("PUT", server.url, server.host, body=Source(b"abc").upload))


async def test_our_own_source_s_error_comes_out(serve: Any, http: Http) -> None:
    """Not the broken connection that it caused; and it is not tried again."""

    class OwnError(Exception):
        pass

    async def failing() -> Any:
        yield b"a"
        raise OwnError

    async def handle(request: Any) -> Any:
        return web.Response(body=await request.read())

    server = await serve(handle)
    with pytest.raises(OwnError):
        await http.fetch(HttpRequest("PUT", server.url, server.host, body=Upload(5, failing)))
    assert len(server.requests) <= 1


@pytest.mark.parametrize("size", [2, 5], ids=["longer", "shorter"])
async def test_a_source_of_another_size_is_an_error(serve: Any, http: Http, size: Any) -> None:
    """36: one byte more or less than announced never becomes an upload."""
    whole = []

    async def handle(request: Any) -> Any:
        whole.append(await request.read())
        return web.Response()

    server = await serve(handle)
    with pytest.raises(BrokenError, match="the source"):
        await http.fetch(HttpRequest("PUT", server.url, server.host, body=Source(b"ab", b"c", size=size).upload))
    assert whole == []


async def test_an_early_answer_ends_the_upload(raw: Any, client: Any) -> None:
    """A refusal in the middle of the body is heard, the source closed, the connection not used again."""

    async def talk(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nno")
        await asyncio.Event().wait()

    server = await raw(talk)
    source = Source(*[b"x" * 1_000_000] * 64)
    http = client()
    with pytest.raises(RefusedError, match="status 409"):
        await http.fetch(HttpRequest("PUT", server.url, server.host, body=source.upload))
    assert (source.opened, source.closed) == (1, 1)
    with pytest.raises(RefusedError, match="status 409"):
        await http.fetch(HttpRequest("GET", server.url, server.host))
    assert server.connections == 2


@pytest.mark.parametrize(("method", "times"), [("POST", 1), ("PUT", 2)])
async def test_a_kept_connection_that_ends_under_an_upload(raw: Any, client: Any, method: str, times: int) -> None:
    """Who closes a kept connection may have had the content: a POST sets something off and is not sent again."""
    heads: list[bytes] = []

    async def talk(reader: Any, writer: Any) -> None:
        while (head := await reader.readuntil(b"\r\n\r\n")) and len(heads) != 1:
            heads.append(head)
            await reader.readexactly(0 if head.startswith(b"GET") else 3)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
        heads.append(head)
        await reader.readexactly(3)

    async def content() -> AsyncIterator[bytes]:
        yield b"abc"

    server, http = await raw(talk), client(limits=Limits(attempts=1))
    await http.fetch(HttpRequest("GET", server.url, server.host))
    request = HttpRequest(method, server.url, server.host, body=Upload(3, content))
    if times == 1:
        with pytest.raises(BrokenError):
            await http.fetch(request)
    else:
        assert (await http.fetch(request)).body == b"ok"
    assert [head.partition(b" ")[0].decode() for head in heads] == ["GET", *[method] * times]
