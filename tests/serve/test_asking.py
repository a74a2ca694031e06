"""`POST /api/v1/sync`: who may ask, what is refused and how, and how an image is followed."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from jsonschema import ValidationError

from mirrord.asking.asked import AskedImage, AskRefusal, AskState
from mirrord.errors import StorageError
from mirrord.events import AnswerBroken, Events
from mirrord.serve.app import make_app
from mirrord.serve.asking import STATUS, SYNC_PATH, AskPages
from mirrord.serve.description import description
from mirrord.serve.door import Listener, bind
from mirrord.serve.gate import TokenGate
from mirrord.tokens import ASK, READ, TokenFile
from tests.support.frontserver import Shown
from tests.support.schemas import judge

T0 = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)
QUEUED = AskedImage("n1", "docker.io/library/nginx:1", (), AskState.QUEUED, places=("m.example/nginx:1",), asked=T0)
GZIP = {"Content-Encoding": "gzip"}
PLACES = 2
STATES = (QUEUED, replace(QUEUED, state=AskState.RUNNING, sent=5, total=10), replace(QUEUED, state=AskState.DONE))


class Clerk:
    """An asker whose images go on when a test lets them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
        self.first, self.error, self.flood = QUEUED, "", ""
        self.go, self.left = asyncio.Event(), asyncio.Event()

    async def ask(self, image: str, platforms: Sequence[str], who: Sequence[str]) -> AskedImage:
        if self.error:
            raise StorageError(self.error)
        self.asked.append((image, tuple(platforms), tuple(who)))
        return self.first

    async def find(self, number: str) -> AskedImage | None:
        return STATES[-1] if number == "n1" else None

    async def follow(self, number: str) -> AsyncIterator[AskedImage]:
        yield STATES[0]
        try:
            while self.flood:
                yield replace(QUEUED, text=self.flood)
        finally:
            self.left.set()
        await self.go.wait()
        if self.error:
            raise StorageError(self.error)
        for state in STATES[1:]:
            yield state

    async def wait(self, number: str) -> AskedImage | None:
        return STATES[-1]


class Site:
    """A listening server, a token to ask, and one to read."""

    def __init__(self, state: Path) -> None:
        self.clerk, self.on, file = Clerk(), True, TokenFile(state)
        self.token, self.reader = file.add("ci", T0, [ASK]), file.add("node", T0, [READ])
        self.gate = TokenGate(file, lambda: True, lambda _: None, every=0.0)
        self.url, self.heard = "", list[object]()

    @asynccontextmanager
    async def post(self, body: Any, token: str = "", **fields: str) -> AsyncIterator[aiohttp.ClientResponse]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token or self.token}", **fields}
        async with aiohttp.ClientSession() as session, session.post(self.url, data=data, headers=headers) as answer:
            yield answer


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made, nobody = Site(tmp_path / "state"), cast("Any", None)
    events = Events()
    events.listen(made.heard.append)
    pages = AskPages(
        made.clerk, made.gate, lambda: made.on, events, alive=0.01, patience=0.2, stall=0.5, followed=PLACES
    )
    app = make_app(Shown(nobody), gate=made.gate, asking=pages)
    listener, connection = Listener(app, grace=0.05), bind("127.0.0.1:0")
    await listener.listen(connection)
    made.url = f"http://127.0.0.1:{connection.getsockname()[1]}{SYNC_PATH}"
    try:
        yield made
    finally:
        await listener.close()
        connection.close()


async def refused(site: Site, body: Any, status: int, **fields: str) -> dict[str, Any]:
    async with site.post(body, **fields) as answer:
        assert answer.status == status
        assert answer.content_type == "application/problem+json"
        document: dict[str, Any] = await answer.json(content_type=None)
        return {**document, "headers": answer.headers}


async def test_who_may_ask(site: Site) -> None:
    """Nobody without `asking:`, without a token, or with one for pulls; and the other way round (bad input 33)."""
    image = {"image": "nginx"}
    site.on = False
    assert "no `asking:`" in (await refused(site, image, 404))["detail"]
    site.on = True
    for wrong in ("Basic x", "Bearer x", f"Bearer {'x' * 600}"):
        answer = await refused(site, image, 401, Authorization=wrong)
        assert answer["headers"]["WWW-Authenticate"] == 'Bearer realm="mirrord"'
    assert (await refused(site, image, 403, token=site.reader))["reason"] == "scope"
    assert site.clerk.asked == []
    v2 = site.url.removesuffix(SYNC_PATH) + "/v2/"
    async with aiohttp.ClientSession() as session:
        for token, denied in ((site.token, True), (site.reader, False)):
            async with session.get(v2, headers={"Authorization": f"Bearer {token}"}) as read:
                assert (read.status == 401) is denied


async def test_what_another_page_would_send(site: Site) -> None:
    """A form of another site has no token, and no other method asks (bad input 33)."""
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://evil.example"}
    async with aiohttp.ClientSession() as session:
        async with session.post(site.url, data=b"image=nginx", headers=form) as answer:
            assert answer.status == 401
        for method in ("GET", "PUT", "DELETE"):
            async with session.request(method, site.url, headers={"Authorization": f"Bearer {site.token}"}) as answer:
                assert answer.status == 405
    assert site.clerk.asked == []


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b"[]", "image is missing"),
        (b"null", "image is missing"),
        ({}, "image is missing"),
        ({"image": 7}, "image is missing, or no text"),
        ({"image": "  "}, "image is missing, or no text"),
        ({"image": "a", "platforms": "linux/amd64"}, "platforms is no list of texts"),
        ({"image": "a", "platforms": [1]}, "platforms is no list of texts"),
        ({"image": "a", "tag": "x"}, "'tag' is an unknown key"),
    ],
)
async def test_bodies_that_are_none(site: Site, body: Any, detail: str) -> None:
    """Each is one problem that shows what to write; nobody is asked."""
    found = await refused(site, body, 400)
    assert detail in found["detail"]
    assert '{"image": "docker.io/library/nginx:1.25"' in found["detail"]
    assert site.clerk.asked == []


async def test_a_body_that_is_too_large(site: Site) -> None:
    """More than 64 KiB are not read, whatever the client says of its length."""
    assert "65536 bytes" in (await refused(site, b"x" * 65_537, 413))["detail"]
    assert site.clerk.asked == []


async def test_bodies_that_cannot_be_read(site: Site) -> None:
    """Packed ones are unpacked to no more than others may have; what comes too slowly is not waited for."""
    for packed, status in ((gzip.compress(b" " * 70_000), 413), (b"no gzip", 400)):
        await refused(site, packed, status, **GZIP)
    await refused(site, b"{}", 415, **{"Content-Encoding": "br"})
    assert site.clerk.asked == []
    async with site.post(gzip.compress(b'{"image": "nginx"}'), Prefer="respond-async", **GZIP) as answer:
        assert answer.status == 202
    host, _, port = site.url.removeprefix("http://").partition("/")[0].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {SYNC_PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.token}\r\nContent-Length: 9\r\n\r\n"
    writer.write(head.encode() + b"{")
    assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_few_are_followed_with_one_token(site: Site) -> None:
    """Who follows more gets the state of now, and may look later; nobody holds connections without end."""
    async with site.post({"image": "nginx"}) as first, site.post({"image": "nginx"}) as second:
        assert (await first.content.readline()) == (await second.content.readline())
        async with site.post({"image": "nginx"}) as third:
            assert (third.status, third.content_type) == (202, "application/json")
            assert (await third.json())["state"] == "queued"
    async with aiohttp.ClientSession() as session:
        fields = {"Authorization": f"Bearer {site.token}", "Accept": "application/x-ndjson"}
        site.clerk.go.set()
        async with session.get(f"{site.url}/n1", headers=fields) as followed:
            assert followed.status == 200


@pytest.mark.parametrize(
    ("reason", "status", "after"),
    [
        ("not_an_image", 400, ""),
        ("platform", 400, ""),
        ("not_allowed", 403, ""),
        ("taken_down", 403, ""),
        ("missing", 404, ""),
        ("rate", 429, "12"),
        ("full", 429, "12"),
        ("stopping", 503, "12"),
    ],
)
async def test_refusals(site: Site, reason: str, status: int, after: str) -> None:
    """Each has a status, a word and a sentence; one that passes says when to come again (bad input 33)."""
    wait = 11.2 if after else 0.0
    site.clerk.first = AskedImage("", "nginx", (), AskState.REFUSED, AskRefusal(reason).value, "is not so", after=wait)
    found = await refused(site, {"image": "nginx"}, status)
    assert (found["reason"], found["detail"]) == (reason, "nginx is not so")
    assert found["headers"].get("Retry-After", "") == after


async def test_an_image_is_followed_to_its_end(site: Site) -> None:
    """One line for each change, and the line again while nothing changes; the last one says where to pull it."""
    async with site.post({"image": "nginx:1", "platforms": ["linux/amd64"]}) as answer:
        assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
        assert answer.headers["Location"] == f"{SYNC_PATH}/n1"
        first = json.loads(await answer.content.readline())
        assert json.loads(await answer.content.readline()) == first  # nothing has changed, and the line is alive
        site.clerk.go.set()
        states = [json.loads(line) async for line in answer.content]
    assert (first["state"], first["id"], first["places"]) == ("queued", "n1", ["m.example/nginx:1"])
    assert [state["state"] for state in states if state["state"] != "queued"] == ["running", "done"]
    assert [(state["sent"], state["total"]) for state in states if state["state"] == "running"] == [(5, 10)]
    assert site.clerk.asked == [("nginx:1", ("linux/amd64",), ("token ci", "127.0.0.1"))]


async def test_who_stops_reading_is_not_waited_for(site: Site) -> None:
    """The connection ends after a time, and the place is free again: all places were taken so, and one is followed."""
    site.clerk.flood = "x" * 100_000
    host, _, port = site.url.removeprefix("http://").partition("/")[0].partition(":")
    body = b'{"image": "nginx"}'
    head = f"POST {SYNC_PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.token}\r\n"
    for _ in range(PLACES):
        _, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(20):
            await site.clerk.left.wait()
        site.clerk.left.clear()
        writer.close()
    site.clerk.flood = ""
    async with site.post({"image": "nginx"}) as answer:
        assert answer.status == 200


async def test_a_record_that_breaks_meanwhile_ends_the_answer(site: Site) -> None:
    """What was sent by then does not look as if it were all, and the log says why."""
    async with site.post({"image": "nginx"}) as answer:
        assert json.loads(await answer.content.readline())["state"] == "queued"
        site.clerk.error = "disk is full"
        site.clerk.go.set()
        with pytest.raises(aiohttp.ClientError):
            await answer.content.read()
    assert site.heard == [AnswerBroken(SYNC_PATH, "disk is full")]


async def test_server_sent_events(site: Site) -> None:
    """Who accepts them gets an event for each change, and comments while nothing changes."""
    async with site.post({"image": "nginx:1"}, Accept="text/event-stream") as answer:
        assert answer.content_type == "text/event-stream"
        assert await answer.content.readuntil(b": still there\n\n")
        site.clerk.go.set()
        rest = (await answer.content.read()).decode()
    events = [block.split("\n") for block in rest.split("\n\n") if block.startswith("event")]
    assert [event[0] for event in events] == ["event: running", "event: done"]
    assert json.loads(events[-1][1].removeprefix("data: "))["state"] == "done"


async def test_who_does_not_wait(site: Site) -> None:
    """`Prefer: respond-async` is answered at once; the location says later how far it is."""
    async with site.post({"image": "nginx:1"}, Prefer="respond-async") as answer:
        assert (answer.status, (await answer.json())["state"]) == (202, "queued")
        place = answer.headers["Location"]
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {site.token}"}) as session:
        base = site.url.removesuffix(SYNC_PATH)
        async with session.get(base + place) as answer:
            assert (answer.status, (await answer.json())["state"]) == (200, "done")
        async with session.get(f"{base}{SYNC_PATH}/other") as answer:
            assert (answer.status, answer.content_type) == (404, "application/problem+json")
        for method, path, allowed in (("GET", SYNC_PATH, "POST"), ("POST", place, "GET, HEAD")):
            async with session.request(method, base + path) as answer:
                assert (answer.status, answer.headers["Allow"]) == (405, allowed)


async def test_answers_are_as_they_are_described(site: Site) -> None:
    """Each state is what the OpenAPI document says of it; each refusal has its status there, and its word."""
    document = description()
    post, get = document["paths"][SYNC_PATH]["post"], document["paths"][f"{SYNC_PATH}/{{id}}"]["get"]
    for reason, status in STATUS.items():
        assert f"`{reason}`: " in post["responses"][str(status)]["description"]
    assert {*STATUS} == {*AskRefusal}
    asked = {"components": document["components"]}
    lines, whole = (one["responses"]["200"]["content"] for one in (post, get))
    site.clerk.go.set()
    async with site.post({"image": "nginx:1"}) as answer:
        for line in [json.loads(line) async for line in answer.content]:
            judge(asked | lines[answer.content_type]["schema"], line)
    async with site.post({"image": "nginx:1"}, Prefer="respond-async") as answer:
        content = post["responses"]["202"]["content"][answer.content_type]
        judge(asked | content["schema"], await answer.json())
        assert {*post["responses"]["202"]["headers"]} <= {*answer.headers}
    assert whole["application/json"] == content
    schema = post["requestBody"]["content"]["application/json"]["schema"]
    judge(schema, {"image": "nginx", "platforms": ["linux/amd64"]})
    with pytest.raises(ValidationError):
        judge(schema, {"image": "nginx", "tag": "1"})


async def test_what_is_over_is_one_line(site: Site) -> None:
    """An image that is there already needs no stream."""
    site.clerk.first = STATES[-1]
    async with site.post({"image": "nginx:1"}) as answer:
        assert [json.loads(line)["state"] async for line in answer.content] == ["done"]


async def test_a_record_that_is_broken(site: Site) -> None:
    """It is said without what is inside, and when to come again."""
    site.clerk.error = "/srv/state/mirrord.db: disk is full"
    found = await refused(site, {"image": "nginx"}, 503)
    assert "/srv/state" not in found["detail"]
    assert found["headers"]["Retry-After"] == "10"
