"""The public application over real sockets: health, status, metrics, the front, and hostile clients."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mirrord.errors import BusyError, UnreachableError, UsageError
from mirrord.files import LocalFile
from mirrord.model.catalog import CatalogEntry
from mirrord.pointing.client.mirror import ClientMirror
from mirrord.report.board import Board
from mirrord.report.health import Health
from mirrord.report.metrics import Metrics
from mirrord.report.mirror import MirrorDetail, Wish
from mirrord.report.rows import ListPart, RowsAsked
from mirrord.report.status import Status
from mirrord.serve.app import make_app
from mirrord.serve.door import Listener, bind
from mirrord.serve.incoming import TrustedProxies
from mirrord.syncer.serving import Request, Response, Serves
from mirrord.syncer.values import Services

T0 = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
SIZE = 3_000_000
PACKED = b"the same, but smaller"  # the front does not look into it


class FakeFront:
    """Serves one file, one that is there compressed too, and texts; remembers what it was asked."""

    prefixes = ("/v2/", "/other/")

    def __init__(self, file: Path) -> None:
        self.file = file
        self.asked: list[Request] = []

    async def respond(self, asked: Request, services: Services) -> Response:
        self.asked.append(asked)
        headers = {
            "Content-Type": "application/octet-stream",
            "ETag": '"sha256:1"',
            "Docker-Content-Digest": "sha256:1",
        }
        file, gone = LocalFile.of(self.file), LocalFile(self.file.with_name("gone"), 0, 7)
        known = {
            "blob": Response(200, headers | {"Content-Length": "7"}, file),
            "gone": Response(200, headers, gone),
            "text": Response(200, headers, file, LocalFile.of(self.file.with_name("blob.gz"))),
            "half": Response(200, headers | {"Vary": "Origin"}, file, gone),
            "small": Response(200, headers, body=b"0123456789"),
            "closed": Response(403, {"Content-Type": "text/plain"}, body=b"never\n"),
        }
        return known.get(asked.path) or Response(200, {"Content-Type": "application/json"}, body=b"{}")


class FakeView:
    """A daemon in good health, unless `now` says otherwise."""

    def __init__(self, front: FakeFront) -> None:
        self.fronts: Mapping[str, Serves] = dict.fromkeys(front.prefixes, front)
        self.now = Health()
        self.rendered = self.editions = 0

    def health(self) -> Health:
        return self.now

    async def status(self) -> Status:
        self.rendered += 1
        return Board().status("1.2.3", T0, [], started=T0)

    async def catalog(self) -> Sequence[CatalogEntry]:
        return ()

    async def sync_log(self, mirrors: Sequence[str]) -> AsyncGenerator[bytes, None]:
        for name in mirrors:
            yield name.encode()

    async def detail(self, name: str, wish: Wish) -> MirrorDetail | None:
        return None

    async def rows(self, _: RowsAsked) -> ListPart:
        return ListPart(())

    async def metrics(self) -> bytes:
        self.rendered += 1
        return Metrics("1").text({})

    def edition(self) -> int:
        return self.editions

    async def pointed(self) -> ClientMirror | None:
        return None

    def services(self) -> Any:
        return None

    def proxies(self) -> TrustedProxies:
        return TrustedProxies()


class Served:
    """A listening application."""

    def __init__(self, view: FakeView, front: FakeFront, port: int) -> None:
        self.view, self.front, self.port = view, front, port

    async def raw(self, data: bytes, *, close: bool = True) -> bytes:
        """Send bytes, return all that comes back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            if close:
                writer.write_eof()
            return await asyncio.wait_for(reader.read(), 30)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def ask(self, method: str, target: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        lines = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items())
        request = f"{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{lines}\r\n"
        head, _, body = (await self.raw(request.encode("latin-1"), close=False)).partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        fields = {key.lower(): value for key, value in (line.split(": ", 1) for line in rest)}
        return int(first.split()[1]), fields, body


@asynccontextmanager
async def serving(tmp_path: Path, head_seconds: float = 10.0) -> AsyncIterator[Served]:
    file = tmp_path / "blob"
    file.write_bytes(os.urandom(SIZE))
    file.with_name("blob.gz").write_bytes(PACKED)
    front = FakeFront(file)
    view = FakeView(front)
    listener = Listener(make_app(view), head_seconds=head_seconds)
    connection = bind("127.0.0.1:0")
    await listener.listen(connection)
    try:
        yield Served(view, front, connection.getsockname()[1])
    finally:
        await listener.close()
        connection.close()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as made:
        yield made


async def test_probes(served: Served) -> None:
    """Probes decide by status code, for GET and HEAD, and explain themselves when asked."""
    for path in ("/livez", "/readyz", "/startupz", "/healthz"):
        assert (await served.ask("GET", path))[0] == 200
        assert (await served.ask("HEAD", path))[::2] == (200, b"")
    served.view.now = Health(overdue=("m",), storage="disk full")
    assert (await served.ask("GET", "/livez"))[0] == 503
    code, _, body = await served.ask("GET", "/readyz?verbose")
    assert code == 503
    assert b"[-]storage disk full" in body
    assert b"[+]schedule ok" in body
    assert (await served.ask("GET", "/readyz?exclude=storage"))[0] == 200


async def test_status_metrics_page(served: Served) -> None:
    """Status is JSON, metrics are Prometheus text, and the page may load nothing from anywhere."""
    code, headers, body = await served.ask("GET", "/status")
    assert (code, headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert json.loads(body)["version"] == "1.2.3"
    code, headers, body = await served.ask("GET", "/metrics")
    assert headers["content-type"].startswith("text/plain; version=")
    assert b"mirrord_build_info" in body
    code, headers, body = await served.ask("GET", "/")
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert b"No mirror is configured" in body


@pytest.mark.parametrize("path", ["/status", "/metrics", "/"])
async def test_a_crowd_costs_one_rendering(served: Served, path: str) -> None:
    """Pages are made at most once a second, however many ask; who has the bytes gets 304; a new edition is shown."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    answers = await asyncio.gather(*(served.ask("GET", path) for _ in range(50)))
    assert {code for code, _, _ in answers} == {200}
    assert served.view.rendered <= 1 + (loop.time() - began)
    while True:  # the last of them may be a second old already
        _, headers, body = await served.ask("GET", path)
        code, again, _ = await served.ask("GET", path, If_None_Match=headers["etag"])
        if again["etag"] == headers["etag"]:
            break
    assert (code, headers["cache-control"], bool(body)) == (304, "no-cache", True)
    before, served.view.editions = served.view.rendered, 1
    assert (await served.ask("GET", path))[0] == 200
    assert served.view.rendered > before
    assert served.view.rendered <= 1 + (loop.time() - began)


@pytest.mark.parametrize("path", ["/status", "/", "/livez", "/metrics"])
async def test_reading_only(served: Served, path: str) -> None:
    """Nothing can be posted to the public address."""
    assert (await served.ask("POST", path))[0] == 405


@pytest.mark.parametrize("path", ["/status", "/", "/nobody", "/v2/blob", "/v2/small", "/v2/../x"])
async def test_versions_stay_untold(served: Served, path: str) -> None:
    """Answers name the program, and not the versions of what it is made of."""
    for method in ("GET", "POST"):
        _, headers, _ = await served.ask(method, path, Content_Length="0")
        assert headers["server"] == "mirrord"
    for wrong in (b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\nContent-Length: x\r\n\r\n"):
        said = await served.raw(wrong, close=False)
        assert (b"Server: mirrord\r\n" in said, b"aiohttp" in said) == (True, False)


async def test_unknown_page(served: Served) -> None:
    """What nobody owns is 404, and nothing of the path comes back."""
    code, _, body = await served.ask("GET", "/<script>")
    assert (code, b"script" in body) == (404, False)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_front_is_read_only(served: Served, method: str) -> None:
    """Whatever is not reading is 405 UNSUPPORTED, and the syncer is not even asked (bad input 34)."""
    code, headers, body = await served.ask(method, "/v2/a/manifests/x", Content_Length="0")
    assert (code, headers["allow"]) == (405, "GET, HEAD")
    assert json.loads(body)["errors"][0]["code"] == "UNSUPPORTED"
    assert served.front.asked == []


async def test_posting_needs_a_program(served: Served) -> None:
    """A POST that no program answers is 405, or the syncer's own refusal (bad input 34)."""
    code, headers, _ = await served.ask("POST", "/v2/blob", Content_Length="0")
    assert (code, headers["allow"]) == (405, "GET, HEAD")
    assert (await served.ask("POST", "/v2/closed", Content_Length="0"))[::2] == (403, b"never\n")


@pytest.mark.parametrize("target", ["OPTIONS *", "CONNECT h:1", "GET http://h", "GET http://h/v2/", "GET /v2/a%0ab"])
async def test_only_paths_are_asked_for(served: Served, target: str) -> None:
    """What is no path, or hides a line, is refused before anybody looks at it, and a page's path may be escaped."""
    assert (await served.ask(*target.split()))[0] == 400
    assert served.front.asked == []
    assert (await served.ask("GET", "/%6civez"))[0] == 200


async def test_front_passes_the_raw_path(served: Served) -> None:
    """The syncer gets what follows its prefix as the client sent it, and the first of several query values."""
    assert (await served.ask("GET", "/v2/a%2Db/tags/list?n=1&n=2&last=x&last=x"))[0] == 200
    assert (await served.ask("GET", "/v2"))[0] == 200
    assert (await served.ask("HEAD", "/other/x"))[0] == 200
    told: Any = {"headers": {"host": "h", "connection": "close"}, "host": "h", "client": "127.0.0.1"}
    assert served.front.asked == [
        Request("GET", "/v2/", "a%2Db/tags/list", {"n": "1", "last": "x"}, **told, differing=frozenset({"n"})),
        Request("GET", "/v2/", "", {}, **told),
        Request("HEAD", "/other/", "x", {}, **told),
    ]


@pytest.mark.parametrize(
    ("header", "code", "part", "span"),
    [
        pytest.param("", 200, slice(0, SIZE), "", id="whole"),
        pytest.param("bytes=0-", 206, slice(0, SIZE), f"bytes 0-{SIZE - 1}/{SIZE}", id="29-whole"),
        pytest.param("bytes=5-9", 206, slice(5, 10), f"bytes 5-9/{SIZE}", id="29-part"),
        pytest.param("bytes=-7", 206, slice(SIZE - 7, SIZE), f"bytes {SIZE - 7}-{SIZE - 1}/{SIZE}", id="29-suffix"),
        pytest.param("bytes=0-1,3-4", 200, slice(0, SIZE), "", id="29-multi"),
        pytest.param(f"bytes={SIZE}-", 416, slice(0, 0), f"bytes */{SIZE}", id="29-beyond"),
    ],
)
async def test_files(served: Served, header: str, code: int, part: slice, span: str) -> None:
    """Files come byte for byte, whole or in the part that was asked for."""
    headers = {"Range": header} if header else {}
    found, fields, body = await served.ask("GET", "/v2/blob", **headers)
    assert (found, fields.get("content-range", "")) == (code, span)
    assert body == served.front.file.read_bytes()[part]
    assert int(fields["content-length"]) == len(body)
    assert fields["accept-ranges"] == "bytes"
    if code != 416:
        assert fields["docker-content-digest"] == "sha256:1"


async def test_conditions(served: Served) -> None:
    """A client that has the file gets 304; a range of another entity is the whole file."""
    assert (await served.ask("GET", "/v2/blob", If_None_Match='"sha256:1"'))[::2] == (304, b"")
    assert (await served.ask("GET", "/v2/blob", Range="bytes=0-1", If_Range='"sha256:1"'))[0] == 206
    assert (await served.ask("GET", "/v2/blob", Range="bytes=0-1", If_Range='"other"'))[0] == 200


TAG, PACKED_TAG = '"sha256:1"', '"sha256:1-gzip"'


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_gzip_for_who_asks(served: Served, method: str) -> None:
    """The compressed form goes to who accepts it, with its own size and tag; both forms tell caches of each other."""
    for accepted, tag, size in (("gzip", PACKED_TAG, len(PACKED)), ("br", TAG, SIZE), ("gzip;q=0", TAG, SIZE)):
        code, fields, body = await served.ask(method, "/v2/text", Accept_Encoding=accepted)
        assert (code, fields["etag"], fields["vary"]) == (200, tag, "Accept-Encoding")
        assert fields.get("content-encoding") == ("gzip" if tag == PACKED_TAG else None)
        assert (fields["content-length"], len(body)) == (str(size), size if method == "GET" else 0)


async def test_each_form_has_its_own_conditions(served: Served) -> None:
    """304 is for who has the form that it would get; parts are parts of the plain form (RFC 9110 §8.8.3.3)."""
    for accepted, tag, code in (("gzip", PACKED_TAG, 304), ("", TAG, 304), ("gzip", TAG, 200), ("", PACKED_TAG, 200)):
        found, fields, _ = await served.ask("GET", "/v2/text", Accept_Encoding=accepted, If_None_Match=tag)
        assert (found, fields["vary"]) == (code, "Accept-Encoding")
        assert code == 200 or fields["etag"] == tag
        assert code == 200 or "content-encoding" not in fields
    code, fields, body = await served.ask("GET", "/v2/text", Accept_Encoding="gzip", Range="bytes=0-4")
    assert (code, body, fields["etag"]) == (206, served.front.file.read_bytes()[:5], TAG)
    request = {"Accept_Encoding": "gzip", "Range": "bytes=3-", "If_Range": PACKED_TAG}
    code, fields, body = await served.ask("GET", "/v2/text", **request)
    assert (code, fields["etag"], len(body)) == (200, TAG, SIZE)


async def test_a_compressed_file_that_is_gone(served: Served) -> None:
    """Without the compressed file the plain one is sent, and what the syncer said of the answer stays."""
    code, fields, body = await served.ask("GET", "/v2/half", Accept_Encoding="gzip")
    assert (code, len(body), fields["vary"], fields["etag"]) == (200, SIZE, "Origin, Accept-Encoding", TAG)


@pytest.mark.parametrize(
    ("header", "code", "part"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=-2", 206, b"89"),
        ("bytes=10-", 416, b""),
        ("bytes=1-2,4-5", 200, b"0123456789"),
    ],
)
async def test_parts_of_what_is_in_memory(served: Served, header: str, code: int, part: bytes) -> None:
    """Response without a file is served in parts, too."""
    found, fields, body = await served.ask("GET", "/v2/small", Range=header)
    assert (found, body) == (code, part)
    assert fields["accept-ranges"] == "bytes"
    assert (await served.ask("HEAD", "/v2/small"))[1]["content-length"] == "10"


async def test_head_of_file(served: Served) -> None:
    """HEAD tells the size and sends nothing."""
    code, fields, body = await served.ask("HEAD", "/v2/blob")
    assert (code, fields["content-length"], body) == (200, str(SIZE), b"")


async def test_file_that_is_gone(served: Served) -> None:
    """A file that was collected between look-up and sending is 404."""
    code, _, body = await served.ask("GET", "/v2/gone")
    assert (code, json.loads(body)["errors"][0]["code"]) == (404, "BLOB_UNKNOWN")


async def test_symlinks_are_not_followed(served: Served) -> None:
    """A link where content should be is not followed."""
    served.front.file.with_name("gone").symlink_to("/etc/passwd")
    assert (await served.ask("GET", "/v2/gone"))[0] == 404


async def test_keep_alive_after_file(served: Served) -> None:
    """A connection serves on after a file was sent past the event loop."""
    one = b"GET /v2/blob HTTP/1.1\r\nHost: h\r\nRange: bytes=0-99999\r\n\r\n"
    last = b"GET /v2/blob HTTP/1.1\r\nHost: h\r\nRange: bytes=-3\r\nConnection: close\r\n\r\n"
    got = await served.raw(one * 3 + last, close=False)
    content = served.front.file.read_bytes()
    assert got.count(b"206 Partial Content") == 4
    assert got.count(content[:100_000]) == 3
    assert got.endswith(content[-3:])


async def test_client_that_leaves(served: Served) -> None:
    """A client that leaves in the middle of a file harms nobody."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /v2/blob HTTP/1.1\r\nHost: h\r\n\r\n")
    await reader.readexactly(1000)
    writer.transport.abort()
    assert (await served.ask("GET", "/livez"))[0] == 200


@pytest.mark.parametrize(
    "target",
    ["/v2/../../etc/passwd", "/v2/%2e%2e/x", "/v2/%2e%2e%2fx", "/v2//x", "/v2/a\\b", "/v2/a%00b", "/v2/" + "a/" * 256],
    ids=lambda target: f"21-{target[4:20]}",
)
async def test_strange_targets(served: Served, target: str) -> None:
    """A strange target is refused before the syncer sees it, and nothing is touched on disk."""
    before = sorted(served.front.file.parent.rglob("*"))
    status, headers, body = await served.ask("GET", target)
    assert (status, headers["content-type"]) == (400, "application/json")
    assert json.loads(body)["errors"][0]["code"] == "NAME_INVALID"
    elsewhere = await served.ask("GET", target.replace("/v2/", "/raw/", 1))
    assert (elsewhere[0], elsewhere[1]["content-type"]) == (400, "text/plain; charset=utf-8")
    assert elsewhere[2].startswith(b"path h")
    assert served.front.asked == []
    assert sorted(served.front.file.parent.rglob("*")) == before


G = b"GET /v2/ HTTP/1.1\r\nHost: h\r\n"


@pytest.mark.parametrize(
    ("data", "codes"),
    [
        pytest.param(
            b"P" + G[1:] + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", {400}, id="30-te-cl"
        ),
        pytest.param(G + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", {400}, id="30-te-identity"),
        pytest.param(G + b"X-A: b\r\n folded\r\n\r\n", {400}, id="30-obs-fold"),
        pytest.param(G + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", {400}, id="30-two-lengths"),
        pytest.param(G + b"X A: b\r\n\r\n", {400}, id="30-space-in-name"),
        pytest.param(G + b"X-A : b\r\n\r\n", {400}, id="30-space-before-colon"),
        pytest.param(G + b"Content-Length: +3\r\n\r\nabc", {400}, id="30-signed-length"),
        pytest.param(b"GET /v2/\x00 HTTP/1.1\r\nHost: h\r\n\r\n", {400}, id="21-raw-nul"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", {400}, id="30-tls-hello"),
        pytest.param(b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n", {414}, id="32-1MB-url"),
        pytest.param(b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", {414}, id="32-5kB-url"),
        pytest.param(G + b"X: " + b"a" * 65_536 + b"\r\n\r\n", {431}, id="32-64kB-header"),
        pytest.param(G + b"".join(b"X%d: a\r\n" % n for n in range(10_000)) + b"\r\n", {431}, id="32-10000-headers"),
    ],
)
async def test_raw_heads(served: Served, data: bytes, codes: set[int]) -> None:
    """Ambiguous or oversized heads are refused with the right status, and the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(data)
    try:
        answer = await asyncio.wait_for(reader.read(65536), 30)
        assert int(answer.split()[1]) in codes
        assert await asyncio.wait_for(reader.read(), 30) == b""
    except ConnectionResetError:
        pytest.fail("no answer before the connection was reset")
    finally:
        writer.close()
    assert served.front.asked == []
    assert (await served.ask("GET", "/livez"))[0] == 200


def test_listening_errors() -> None:
    """Addresses that cannot be listened on are errors with the next step, not tracebacks."""
    first = bind("127.0.0.1:0")
    try:
        with pytest.raises(BusyError, match="in use by another program"):
            bind(f"127.0.0.1:{first.getsockname()[1]}")
    finally:
        first.close()
    with pytest.raises(UsageError, match="host:port"):
        bind("8080")
    with pytest.raises(UnreachableError, match="cannot listen"):
        bind("192.0.2.1:0")
