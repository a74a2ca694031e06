"""`Http` against servers that behave: what is sent, what comes back, what is tried again."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from mirrord.errors import (
    DeniedError,
    MirrordError,
    MissingError,
    RefusedError,
    ServerError,
    ThrottledError,
    TooLargeError,
)  # fmt: skip
from mirrord.events import RateLimit, RequestDone, Retrying
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http, base_url
from mirrord.wire.http.message import HttpRequest, Limits, Upload
from mirrord.wire.http.pace import Bucket
from mirrord.wire.secret import Secret


def answering(status: int = 200, body: Any = b"ok", **headers: Any) -> Any:
    async def handle(_: Any) -> Any:
        return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return handle


def answering_each(statuses: Iterator[int], **headers: Any) -> Any:
    """Answer with the next status each time."""

    async def handle(request: Any) -> Any:
        return await answering(next(statuses), **headers)(request)

    return handle


async def test_an_answer_has_everything(serve: Any, http: Http, told: Any) -> None:
    """Status, lower-case headers, raw body, final URL; and one event."""
    server = await serve(answering(body=b"\x00raw", X_One="1"))
    answer = await http.fetch(HttpRequest("GET", f"{server.url}/v2/?q=1", server.host, headers={"Accept": "a/b"}))
    assert (answer.status, answer.body, answer.headers["x-one"]) == (200, b"\x00raw", "1")
    assert answer.url == f"{server.url}/v2/?q=1"
    request = server.requests[0]
    assert request.headers["Accept-Encoding"] == "identity"
    assert request.headers["User-Agent"].startswith("mirrord/")
    assert request.headers["Accept"] == "a/b"
    assert request.headers["Host"] == server.host
    assert [(e.method, e.status) for e in told if isinstance(e, RequestDone)] == [("GET", 200)]


@pytest.mark.parametrize(
    ("status", "kind", "tries"),
    [
        (400, RefusedError, 1), (401, DeniedError, 1), (403, DeniedError, 1), (404, MissingError, 1),
        (409, RefusedError, 1), (416, RefusedError, 1), (302, RefusedError, 1), (201, RefusedError, 1),
        (408, ServerError, 4), (429, ThrottledError, 4), (499, ServerError, 4), (500, ServerError, 4),
        (502, ServerError, 4), (503, ServerError, 4), (504, ServerError, 4), (522, ServerError, 4),
        (501, ServerError, 1), (507, ServerError, 1),
    ],
)  # fmt: skip
async def test_statuses_become_errors(serve: Any, http: Http, status: int, kind: Any, tries: Any) -> None:
    """Refusals are asked once, failures four times (F11, F21)."""
    server = await serve(answering(status))
    with pytest.raises(kind) as caught:
        await http.fetch(HttpRequest("POST", f"{server.url}/v2/a/b?sig=hidden", server.host, body=b"x"))
    assert len(server.requests) == tries
    assert f"{server.host}: POST /v2/a/b: status {status}" in str(caught.value)
    assert "hidden" not in str(caught.value)
    if isinstance(caught.value, RefusedError):
        assert caught.value.status == status


async def test_the_registry_s_own_words_are_repeated(serve: Any, http: Http) -> None:
    """Code and message of an OCI error body, without secrets and in at most a kilobyte (F24)."""
    errors = [{"code": "TAG_IMMUTABLE", "message": "see https://u:pw12@h/x"}, {"code": "B", "message": "y" * 5000}]
    server = await serve(answering(409, json.dumps({"errors": errors}).encode()))
    with pytest.raises(RefusedError) as caught:
        await http.fetch(HttpRequest("GET", server.url, server.host))
    assert "TAG_IMMUTABLE: see https://***@h/x" in str(caught.value)
    assert len(str(caught.value)) < 1024


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([{"message": "no such user"}], "status 401: no such user"),
        ([{"code": "DENIED"}, {}, {"code": None, "message": "late"}], "status 401: DENIED; late"),
        ([{"code": "", "message": ""}], "status 401"),
        ([], "status 401"),
    ],
)
async def test_parts_that_an_error_lacks_are_left_out(serve: Any, http: Http, errors: list[Any], said: str) -> None:
    """An error body without code or message leaves no colon behind."""
    server = await serve(answering(401, json.dumps({"errors": errors}).encode()))
    with pytest.raises(DeniedError) as caught:
        await http.fetch(HttpRequest("GET", server.url, server.host))
    assert str(caught.value).partition(" (")[0].endswith(said)


async def test_no_half_secret_is_repeated(serve: Any, http: Http) -> None:
    """Only the beginning of an error body is looked at, and a secret at the end of that is left out whole."""
    secret = Secret("s3cr3t" * 300)
    server = await serve(answering(409, f"{secret.reveal()} ".encode() * 30))
    with pytest.raises(RefusedError) as caught:
        await http.fetch(HttpRequest("GET", server.url, server.host))
    assert str(caught.value).endswith(": " + " ".join(["***"] * 9))


@pytest.mark.parametrize(
    "body",
    [
        b"[]", b'{"errors":{"a":1}}', b'{"errors":[1]}', b"\xff\x00\x1b[31m", b"[" * 60_000, b"://a:" * 13_000,
        b'{"errors":[{"message":"' + b"://a:" * 13_000 + b'"}]}', b"\x01" * 65_000,
    ],
)  # fmt: skip
async def test_odd_error_bodies_are_harmless(serve: Any, http: Http, body: Any) -> None:
    """Whatever stands in an error body, the error is the one of its status, in printable text."""
    server = await serve(answering(404, body))
    with pytest.raises(MissingError) as caught:
        await http.fetch(HttpRequest("GET", server.url, server.host))
    assert str(caught.value).isprintable()


async def test_failures_heal(serve: Any, http: Http, told: Any) -> None:
    """Two 503 and then an answer: three requests, two announced retries."""
    statuses = iter([503, 503, 200])
    server = await serve(answering_each(statuses))
    assert (await http.fetch(HttpRequest("GET", server.url, server.host))).status == 200
    assert len(server.requests) == 3
    assert [event.reason for event in told if isinstance(event, Retrying)] == ["server", "server"]


async def test_a_short_retry_after_is_kept(serve: Any, http: Http, told: Any) -> None:
    """Zero seconds means at once, without jitter."""
    statuses = iter([429, 200])
    server = await serve(answering_each(statuses, Retry_After="0"))
    await http.fetch(HttpRequest("GET", server.url, server.host))
    assert [event.delay for event in told if isinstance(event, Retrying)] == [0.0]


@pytest.mark.parametrize("value", ["600", "Fri, 15 Jan 2027 08:10:00 GMT", "1800000600"])
async def test_a_long_retry_after_goes_to_the_caller(serve: Any, client: Any, value: Any) -> None:
    """One request, and the time to come back in every spelling (F12)."""
    server = await serve(answering(429, Retry_After=value))
    http = client(wall=lambda: 1_800_000_000.0)
    with pytest.raises(ThrottledError) as caught:
        await http.fetch(HttpRequest("GET", server.url, server.host))
    assert caught.value.after == 600.0
    assert len(server.requests) == 1


async def test_rate_limits_are_told(serve: Any, http: Http, told: Any) -> None:
    """`ratelimit-remaining` of Docker Hub becomes an event, nonsense does not, and neither is an error."""
    values = iter([("76;w=21600", "100;w=21600"), ("75", "²"), *((text, "100") for text in ("x", "", "²", "9" * 5000))])

    async def handle(_: Any) -> Any:
        remaining, limit = next(values)
        return web.Response(headers={"RateLimit-Remaining": remaining, "RateLimit-Limit": limit})

    server = await serve(handle)
    for _ in range(6):
        await http.fetch(HttpRequest("HEAD", server.url, server.host))
    assert [event[1:] for event in told if isinstance(event, RateLimit)] == [(76, 100), (75, 0)]


@pytest.mark.parametrize("announced", [True, False])
async def test_bodies_are_capped(serve: Any, http: Http, announced: Any) -> None:
    """One byte more than the cap is an error, announced or not (CVE-2020-1702)."""

    async def handle(request: Any) -> Any:
        size = int(request.query["n"])
        response = web.StreamResponse(headers={"Content-Length": str(size)} if announced else {})
        await response.prepare(request)
        await response.write(b"x" * size)
        return response

    server = await serve(handle)
    assert len((await http.fetch(HttpRequest("GET", f"{server.url}/?n=1000", server.host, cap=1000))).body) == 1000
    with pytest.raises(TooLargeError):
        await http.fetch(HttpRequest("GET", f"{server.url}/?n=1001", server.host, cap=1000))


async def test_connections_are_kept(raw: Any, http: Http) -> None:
    """A hundred requests one after the other use one connection, HEAD and errors included."""

    async def talk(reader: Any, writer: Any) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = b"" if head.startswith(b"HEAD") else b"ok"
            status = b"404 Not Found" if b"/missing" in head else b"200 OK"
            writer.write(b"HTTP/1.1 %s\r\nContent-Length: 2\r\n\r\n%s" % (status, body))

    server = await raw(talk)
    for number in range(100):
        call = HttpRequest(("HEAD", "GET")[number % 2], f"{server.url}/missing", server.host, ok=(404,))
        await http.fetch(call)
    assert server.connections == 1


async def test_a_dead_kept_connection_costs_no_attempt(raw: Any, client: Any, told: Any) -> None:
    """A connection that dies before the first byte of its second answer is replaced at once, for PUT as well."""

    async def talk(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.readuntil(b"\r\n\r\n")

    server = await raw(talk)
    http = client(limits=Limits(attempts=1))
    opened = []

    def upload() -> Any:
        opened.append(1)
        return chunks(b"ab", b"c")

    for body in (None, Upload(3, upload), b"abc"):
        await http.fetch(HttpRequest("PUT" if body else "GET", server.url, server.host, body=body))
        await http.fetch(HttpRequest("PUT" if body else "GET", server.url, server.host, body=body))
    assert not [event for event in told if isinstance(event, Retrying)]
    assert len(opened) >= 2


async def test_no_cookies(serve: Any, http: Http) -> None:
    """What a server wants us to remember is forgotten."""
    server = await serve(answering(Set_Cookie="session=1; Path=/"))
    for _ in range(2):
        await http.fetch(HttpRequest("GET", server.url, server.host))
    assert server.seen("Cookie") == [None, None]


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_uploads_have_a_length_and_no_chunking(serve: Any, http: Http) -> None:
    """Some registries refuse chunked transfer, so the size is announced; an empty blob announces 0."""

    async def handle(request: Any) -> Any:
        return web.Response(status=201, body=await request.read())

    server = await serve(handle)
    for parts in ((b"ab", b"cde"), ()):
        whole = b"".join(parts)
        upload = Upload(len(whole), partial(chunks, *parts))
        answer = await http.fetch(HttpRequest("PUT", server.url, server.host, body=upload, ok=(201,)))
        assert answer.body == whole
    await http.fetch(HttpRequest("POST", server.url, server.host, ok=(201,)))
    assert server.seen("Content-Length") == ["5", "0", "0"]
    assert server.seen("Transfer-Encoding") == [None, None, None]


async def test_uploads_are_opened_anew_for_a_retry_in_place(serve: Any, http: Http) -> None:
    """A 429 leaves the body to be sent again; a 500 is left to the caller, whose session may be gone."""
    statuses = iter([429, 201, 500])

    async def handle(request: Any) -> Any:
        body = await request.read()
        return web.Response(status=next(statuses), body=body, headers={"Retry-After": "0"})

    server = await serve(handle)
    call = HttpRequest("PUT", server.url, server.host, body=Upload(2, lambda: chunks(b"a", b"b")), ok=(201,))
    assert (await http.fetch(call)).body == b"ab"
    with pytest.raises(ServerError):
        await http.fetch(call)
    assert len(server.requests) == 3


async def test_streams_come_whole(serve: Any, http: Http) -> None:
    """All bytes in order, however many chunks."""
    content = bytes(range(256)) * 20_000
    server = await serve(answering(206, content))
    for _ in range(2):
        async with http.stream(HttpRequest("GET", server.url, server.host, ok=(206,))) as incoming:
            assert incoming.status == 206
            assert b"".join([chunk async for chunk in incoming.chunks()]) == content


async def test_streams_retry_until_there_are_headers(serve: Any, http: Http) -> None:
    """A 503 before the body is not the caller's concern."""
    statuses = iter([503, 200])
    server = await serve(answering_each(statuses))
    async with http.stream(HttpRequest("GET", server.url, server.host)) as incoming:
        assert b"".join([chunk async for chunk in incoming.chunks()]) == b"ok"
    assert len(server.requests) == 2


async def test_a_host_takes_only_so_many_at_once(serve: Any, client: Any) -> None:
    """`requests:` holds for everything under way, bodies included."""
    under_way, most, gate = 0, 0, asyncio.Event()

    async def handle(_: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if most == 3:
            gate.set()
        await gate.wait()
        under_way -= 1
        return web.Response()

    server = await serve(handle)
    http = client(HostBook({server.host: HostPolicy(server.host, requests=3)}))
    await asyncio.gather(*(http.fetch(HttpRequest("GET", server.url, server.host)) for _ in range(20)))
    assert most == 3


async def test_small_requests_pass_waiting_uploads(serve: Any, client: Any) -> None:
    """However many uploads hang, a HEAD gets through (one place is kept for it), and a download starts."""
    gate = asyncio.Event()

    async def slow() -> Any:
        await gate.wait()
        yield b"x"

    async def handle(request: Any) -> Any:
        await request.read()
        return web.Response()

    server = await serve(handle)
    http = client(HostBook({server.host: HostPolicy(server.host, requests=3)}))
    call = HttpRequest("PUT", server.url, server.host, body=Upload(1, slow))
    uploads = [asyncio.create_task(http.fetch(call)) for _ in range(5)]
    async with asyncio.timeout(10):
        await http.fetch(HttpRequest("HEAD", server.url, server.host))
        async with http.stream(HttpRequest("GET", server.url, server.host)):
            await http.fetch(HttpRequest("HEAD", server.url, server.host))
        gate.set()
        await asyncio.gather(*uploads)


async def test_cancelling_gives_everything_back(serve: Any, client: Any) -> None:
    """A cancelled call leaves its place, its connection and its source."""
    gate, closed = asyncio.Event(), asyncio.Event()

    async def endless() -> Any:
        try:
            gate.set()
            await asyncio.Event().wait()
            yield b"x"
        finally:
            closed.set()

    server = await serve(answering())
    http = client(HostBook({server.host: HostPolicy(server.host, requests=1)}))
    task = asyncio.create_task(http.fetch(HttpRequest("PUT", server.url, server.host, body=Upload(9, endless))))
    async with asyncio.timeout(10):
        await gate.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await closed.wait()
        await http.fetch(HttpRequest("GET", server.url, server.host))


async def test_bandwidth_is_asked_for_every_byte(serve: Any, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each direction of a host has its own bucket, and all content passes it."""
    taken: dict[int, int] = {}

    def take(bucket: Bucket, count: int, _: float) -> float:
        taken[id(bucket)] = taken.get(id(bucket), 0) + count
        return 0.0

    monkeypatch.setattr(Bucket, "take", take)

    async def handle(request: Any) -> Any:
        await request.read()
        return web.Response(body=b"d" * 7000)

    server = await serve(handle)
    http = client(HostBook({server.host: HostPolicy(server.host, bandwidth=1e9)}))
    for _ in range(2):
        call = HttpRequest("PUT", server.url, server.host, body=Upload(500, lambda: chunks(b"u" * 500)))
        await http.fetch(call)
    assert sorted(taken.values()) == [1000, 14000]


def test_base_url_follows_the_policy() -> None:
    """Plain for loopback, the API's own name for Docker Hub."""
    book = HostBook({"reg:5000": HostPolicy("reg:5000", insecure=True)})
    assert base_url(book, "127.0.0.1:5000") == "http://127.0.0.1:5000"
    assert base_url(book, "reg:5000") == "http://reg:5000"
    assert base_url(book, "docker.io") == "https://registry-1.docker.io"
    assert base_url(book, "ghcr.io", "ghcr.io") == "https://ghcr.io"


async def test_it_is_a_context_manager() -> None:
    """Leaving it closes it; nothing was opened, so nothing has to be."""
    async with Http(HostBook()) as http:
        assert isinstance(http, Http)


def test_errors_are_all_of_one_family() -> None:
    """Callers catch `MirrordError` and nothing of the libraries below."""
    assert issubclass(TooLargeError, MirrordError)
