"""Server-sent events of the page, its files, and its filter: without a browser."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from mirrord.model.run import Result
from mirrord.report.front import FrontStatus
from mirrord.report.schedules import schedule_of, scheduled
from mirrord.serve.pages import live, overview
from mirrord.serve.pages.frame import POLICY, Look
from mirrord.serve.pages.listed import Listed
from mirrord.serve.pages.rows import Filter
from mirrord.serve.pages.static import FOLDER, asset, static_files
from mirrord.syncer.values import Schedule
from tests.support.frontserver import showing
from tests.support.shownmirrors import ShownMirrors, mirror

PLAIN = {"Accept-Encoding": "identity"}


@pytest.fixture
def shown() -> ShownMirrors:
    made = ShownMirrors()
    for name in ("a", "b", "c"):
        made.add(mirror(name))
        made.stand(name)
    return made


@pytest.fixture
async def client(shown: ShownMirrors) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        showing(shown) as (host, port),
        aiohttp.ClientSession(f"http://{host}:{port}", connector=connector, auto_decompress=False) as session,
    ):
        yield session


async def event(answer: aiohttp.ClientResponse) -> tuple[str, str]:
    """Return the next event: its name, or `message`, and its data."""
    name, data = "message", ""
    async with asyncio.timeout(30):
        while line := (await answer.content.readline()).decode().rstrip("\n"):
            key, _, value = line.partition(": ")
            name, data = (value, data) if key == "event" else (name, value)
    return name, data


async def change(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    name, data = await event(answer)
    assert name == "message"
    return dict(json.loads(data))


async def test_only_what_changed_is_sent(client: aiohttp.ClientSession, shown: ShownMirrors) -> None:
    """A reader gets the serial of the page, then the changed rows alone, in its language, the same for all readers."""
    page = await (await client.get("/", headers=PLAIN)).text()
    async with client.get("/events") as one, client.get("/events") as two, client.get("/events?lang=zh") as third:
        assert one.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        name, serial = await event(one)
        assert (name, f'data-serial="{serial}"' in page) == ("page", True)
        assert (await event(two)) == (name, serial)
        await event(third)
        shown.run("b", 3, 1)
        first, second, chinese = await change(one), await change(two), await change(third)
        assert first == second
        assert (first["from"], first["moved"], list(first["rows"])) == (serial, False, ["b"])
        assert (first["totals"]["running"], first["sentence"]) == (1, "All 3 mirrors are healthy")
        assert first["rows"]["b"].startswith('<li class="row ok" id="m-b">')
        assert "12 minutes ago" in first["rows"]["b"]
        assert "12 分钟前" in chinese["rows"]["b"]
        shown.stand("c", Result.FAILED)
        moved = await change(one)
        assert (moved["from"], moved["moved"], moved["rows"]) == (first["to"], True, {})
        assert (moved["health"], moved["totals"]["failing"]) == ("failing", 1)


async def test_many_changes_at_once(client: aiohttp.ClientSession, shown: ShownMirrors) -> None:
    """When more rows change than are sent one by one, readers are told to load the page, in a short message."""
    for number in range(200):
        shown.add(mirror(f"m{number:03}"))
    async with client.get("/events") as reader:
        await event(reader)
        for number in range(200):
            shown.run(f"m{number:03}", 1)
        told = await change(reader)
        assert (told["moved"], told["rows"]) == (True, {})


async def test_the_front_is_followed(client: aiohttp.ClientSession, shown: ShownMirrors) -> None:
    """A reader of the page of the front gets it anew in its language when a number changes, and only then."""
    page = await (await client.get("/front", headers=PLAIN)).text()
    async with client.get("/front/events") as one, client.get("/front/events?lang=zh") as two:
        name, serial = await event(one)
        assert (name, f'id="front" data-serial="{serial}"' in page) == ("page", True)
        assert await event(two) == (name, serial)
        shown.run("a", 1)  # is no matter of the front
        shown.more["front"] = FrontStatus({"hit": 3, "miss": 1})
        english, chinese = await change(one), await change(two)
        assert english["to"] == chinese["to"] != serial
        assert f'data-serial="{english["to"]}"' in english["page"]
        assert ("75 %" in english["page"], "from the cache" in english["page"]) == (True, True)
        assert ("75 %" in chinese["page"], "命中率" in chinese["page"]) == (True, True)
    assert f'data-serial="{english["to"]}"' in await (await client.get("/front", headers=PLAIN)).text()


async def test_readers_are_bounded(
    client: aiohttp.ClientSession, shown: ShownMirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reader too many gets 503 with Retry-After, until another one leaves; HEAD takes no place."""
    monkeypatch.setattr(live, "MOST", 2)
    one, two = await client.get("/events"), await client.get("/events?lang=zh")
    async with client.get("/events") as third:
        assert (third.status, third.headers["Retry-After"]) == (503, "60")
    one.close()
    async with asyncio.timeout(30):
        while (await client.head("/events")).status != 200:
            pass
    async with client.get("/events") as third:
        assert (await event(third))[0] == "page"
        shown.run("a", 1)
        assert list((await change(third))["rows"]) == ["a"]
    two.close()


async def test_who_comes_while_it_stops_is_told_so() -> None:
    """A daemon that is stopping says so, and not that it has too many readers."""
    readers: live.Live[Any] = live.Live({}, lambda *_: "")
    await readers.stop()
    app = web.Application()
    app.router.add_get("/events", readers.answer)
    async with (
        TestServer(app) as server,
        aiohttp.ClientSession(server.make_url("/")) as session,
        session.get("/events") as answer,
    ):
        assert (answer.status, await answer.text()) == (503, "mirrord is stopping\n")


async def test_nobody_takes_all_places(shown: ShownMirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers at one address have a part of the places, and those elsewhere the others; who leaves makes room."""
    monkeypatch.setattr(live, "EACH", 2)
    async with showing(shown) as (host, port):
        greedy = aiohttp.TCPConnector(limit=0, local_addr=("127.0.0.2", 0))
        async with (
            aiohttp.ClientSession(f"http://{host}:{port}", connector=greedy) as many,
            aiohttp.ClientSession(f"http://{host}:{port}") as other,
        ):
            readers = [await many.get("/events") for _ in range(3)]
            assert [reader.status for reader in readers] == [200, 200, 503]
            async with other.get("/events") as reader:
                assert (await event(reader))[0] == "page"
            readers[0].close()
            async with asyncio.timeout(30):
                while (again := await many.get("/events")).status != 200:
                    again.close()
            assert (await event(again))[0] == "page"
            for reader in (*readers, again):
                reader.close()


async def test_a_sign_of_life(client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent stream gets a comment now and then, so that proxies keep it and a dead reader is noticed."""
    monkeypatch.setattr(live, "_SILENCE", 0.05)
    async with client.get("/events") as reader:
        await event(reader)
        assert [await asyncio.wait_for(reader.content.readline(), 30) for _ in range(4)] == [b":\n", b"\n"] * 2


async def test_a_reader_who_does_not_keep_up() -> None:
    """A reader for whom too many messages wait gets no more of them, and the end of the stream instead."""
    reader: asyncio.Queue[bytes | None] = asyncio.Queue(live._WAITING)
    for number in range(live._WAITING):
        live._tell(reader, b"%d" % number)
    live._tell(reader, b"too much")
    assert (reader.get_nowait(), reader.empty()) == (None, True)


async def test_streams_end_with_the_server(shown: ShownMirrors) -> None:
    """Readers do not keep the server from ending: their streams end by themselves."""
    async with aiohttp.ClientSession() as session:
        async with showing(shown) as (host, port):
            readers = [await session.get(f"http://{host}:{port}{path}") for path in ("/events", "/front/events")]
            for reader in readers:
                await event(reader)
        assert [await asyncio.wait_for(reader.content.read(), 30) for reader in readers] == [b"", b""]


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
async def test_files_are_good_for_ever(client: aiohttp.ClientSession, path: Any) -> None:
    """A file has an address of its content, is cached for ever, and is packed for who wants that."""
    address = asset(path.name)
    assert static_files()[path.name].body == path.read_bytes()
    async with client.get(address, headers=PLAIN) as answer:
        assert (answer.status, await answer.read()) == (200, path.read_bytes())
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        tag = answer.headers["ETag"]
    async with client.get(address, headers={"Accept-Encoding": "gzip"}) as answer:
        assert gzip.decompress(await answer.read()) == path.read_bytes()
        assert answer.headers["Content-Encoding"] == "gzip"
    async with client.get(address, headers={"If-None-Match": tag, "Accept-Encoding": "identity"}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    for wrong in (address.replace("/static/", "/static/0"), "/static/", f"/static/{path.name}"):
        assert (await client.get(wrong)).status == 404


async def test_a_rendering_is_shared(
    client: aiohttp.ClientSession, shown: ShownMirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers of one second get one rendering for each language and theme, and after an event another one."""
    made: list[Look] = []
    render = overview.page

    def counted(listed: Listed, look: Look, chosen: Filter) -> bytes:
        made.append(look)
        return render(listed, look, chosen)

    monkeypatch.setattr(overview, "page", counted)

    async def tag(address: str) -> str:
        async with client.get(address) as answer:
            return answer.headers["ETag"]

    addresses = ["/", "/?lang=zh", "/?theme=dark"] * 20
    tags = await asyncio.gather(*map(tag, addresses))
    rounds = len(made) / 3
    assert (len(set(tags)), {*made}) == (len(made), {Look(), Look("zh"), Look("en", "dark")})
    assert rounds <= 2  # a second may end meanwhile
    shown.run("a", 1)
    assert await tag("/") not in tags


async def test_filtered_pages_are_bounded(
    client: aiohttp.ClientSession, shown: ShownMirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filtered page is for one reader: who does not read it is disconnected, and others go on meanwhile."""
    monkeypatch.setattr(overview, "_SLOW", 0.2)
    for number in range(4000):
        shown.add(mirror(f"m{number:04}"))
    loop, base = asyncio.get_running_loop(), client._base_url
    assert base is not None
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(8)]
        for one in held:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
            await loop.sock_connect(one, (base.host, base.port))
            await loop.sock_sendall(one, b"GET /?q=m HTTP/1.1\r\nHost: h\r\n\r\n")
        async with client.get("/?q=m0007", headers=PLAIN) as answer:
            assert (answer.status, (await answer.text()).count('<li class="row ')) == (200, 1)
        for one in held:
            size = 0
            with suppress(ConnectionError):
                while got := await asyncio.wait_for(loop.sock_recv(one, 1 << 20), 30):
                    size += len(got)
            assert size < 3_000_000  # of more than four


async def test_headers_of_the_page(client: aiohttp.ClientSession) -> None:
    """The page may load its own files alone, and depends on language and cookies; a choice of now is kept."""
    async with client.get("/?lang=zh&theme=dark") as answer:
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert "unsafe" not in POLICY
        assert POLICY.startswith("default-src 'none'")
        assert answer.headers["Vary"] == "Accept-Language, Cookie, Accept-Encoding"
        assert {name: cookie.value for name, cookie in answer.cookies.items()} == {"lang": "zh", "theme": "dark"}
        assert all(cookie["httponly"] and cookie["samesite"] == "Lax" for cookie in answer.cookies.values())
        assert b'lang="zh-CN" data-theme="dark"' in gzip.decompress(await answer.read())
    async with client.get("/", headers={"Cookie": "lang=zh; theme=<b>", "Accept-Encoding": "identity"}) as answer:
        text = await answer.text()
        assert ('lang="zh-CN" data-theme="auto"' in text, answer.cookies) == (True, {})


@pytest.mark.parametrize(
    "schedule",
    [
        None,
        *(Schedule(every=float(one)) for one in (1, 90, 3600, 5400, 21600, 86400)),
        Schedule(cron="17 3 * * 1-5"),
        Schedule(cron="*/5 * * * *", timezone="Asia/Shanghai"),
    ],
)
def test_schedules_can_be_read_back(schedule: Schedule | None) -> None:
    """What `/status` says of a schedule is the schedule."""
    assert schedule_of(scheduled(schedule)) == schedule
