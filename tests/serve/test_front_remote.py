"""What is kept elsewhere is redirected to, or streamed: parts, errors, slow clients and clients that leave."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.store import Remote
from mirrord.errors import BrokenError, MirrordError, MissingError
from mirrord.model.digest import Digest
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import LOCAL, Services
from mirrord.syncers.image import front as image_front
from mirrord.testing import build_image
from tests.support.frontserver import listening
from tests.support.layouts import write_layout
from tests.support.localstore import linked_in, place_in
from tests.support.remotestore import RemoteStore
from tests.support.world import open_world

DATA = bytes(range(256)) * 400
NOBODY: Any = None
DIGEST = Digest.of(DATA)
ETAG = f'"{DIGEST}"'


class Front:
    """Serves one piece of content out of a remote store."""

    prefixes = ("/far/",)

    def __init__(self) -> None:
        self.store = RemoteStore(content={DIGEST: DATA})
        self.stored: Remote | None = None

    async def respond(self, request: Request, services: Services) -> Response:
        found = self.stored or await self.store.find(DIGEST)
        assert found is not None
        return Response(200, {"ETag": ETAG, "Content-Type": "x/y"}, found)


@pytest.fixture
async def front() -> Front:
    return Front()


@pytest.fixture
async def address(front: Front) -> AsyncIterator[tuple[str, int]]:
    async with listening(NOBODY, front) as made:
        yield made


async def ask(
    address: tuple[str, int], method: str = "GET", path: str = "/far/x", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(
            method, f"http://{address[0]}:{address[1]}{path}", headers=fields, allow_redirects=False
        ) as answer,
    ):
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read()


async def test_all_of_it(front: Front, address: tuple[str, int]) -> None:
    """It is streamed with its length, and read once."""
    status, headers, body = await ask(address)
    assert (status, body) == (200, DATA)
    assert (headers["content-length"], headers["accept-ranges"], headers["etag"]) == (str(len(DATA)), "bytes", ETAG)
    assert front.store.opened == [(0, len(DATA))]
    assert front.store.closed == 1


@pytest.mark.parametrize(
    ("header", "offset", "count"),
    [("bytes=5-9", 5, 5), ("bytes=100000-", 100_000, len(DATA) - 100_000), ("bytes=-7", len(DATA) - 7, 7)],
)
async def test_parts(front: Front, address: tuple[str, int], header: str, offset: int, count: int) -> None:
    """Only the part that is asked for is read there."""
    status, headers, body = await ask(address, Range=header)
    assert (status, body) == (206, DATA[offset : offset + count])
    assert headers["content-range"] == f"bytes {offset}-{offset + count - 1}/{len(DATA)}"
    assert front.store.opened == [(offset, count)]


async def test_nothing_is_read_in_vain(front: Front, address: tuple[str, int]) -> None:
    """HEAD, what the client has already and what is not there cost no read."""
    assert (await ask(address, "HEAD"))[0] == 200
    assert (await ask(address, "HEAD"))[1]["content-length"] == str(len(DATA))
    assert (await ask(address, If_None_Match=ETAG))[0] == 304
    assert (await ask(address, Range=f"bytes={len(DATA)}-"))[0] == 416
    assert front.store.opened == []


async def test_a_url_may_be_handed_out(front: Front, address: tuple[str, int]) -> None:
    """A client is sent where the content is, without reading it here, and no cache keeps the way.

    A signature is good for GET alone, so HEAD is answered here.
    """
    front.store.url = "https://objects.example/signed"
    status, headers, _ = await ask(address, Range="bytes=1-2")
    assert (status, headers["location"]) == (307, f"https://objects.example/signed/{DIGEST}")
    assert headers["cache-control"] == "no-store"
    status, headers, _ = await ask(address, "HEAD")
    assert (status, headers["content-length"], headers["etag"]) == (200, str(len(DATA)), ETAG)
    assert front.store.opened == []


@pytest.mark.parametrize(("error", "status"), [(MissingError("gone"), 404), (BrokenError("https://u:pw@far"), 502)])
async def test_errors_before_the_first_byte(
    front: Front, address: tuple[str, int], error: MirrordError, status: int
) -> None:
    """What cannot be begun is an answer of its own, which tells nothing of where it was looked for."""
    front.stored = Remote(failing(b"", error), len(DATA))
    code, _, body = await ask(address)
    assert code == status
    assert b"far" not in body


@pytest.mark.parametrize("error", [BrokenError("cut off"), None])
async def test_errors_in_the_middle(front: Front, address: tuple[str, int], error: MirrordError | None) -> None:
    """What breaks off, or ends early, is never taken for whole: the connection ends before its length is reached."""
    front.stored = Remote(failing(DATA[:5000], error), len(DATA))
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
        await ask(address)


async def test_more_than_was_promised(front: Front, address: tuple[str, int]) -> None:
    """No byte follows the last one that was promised."""
    front.stored = Remote(failing(DATA, None), 5000)
    assert await ask(address) == (200, (await ask(address, "HEAD"))[1], DATA[:5000])


async def test_a_slow_client_is_waited_for(front: Front, address: tuple[str, int]) -> None:
    """Of what a client does not take, no more is read than a connection holds; who leaves ends the reading."""
    large = bytes(64 << 20)
    front.store.content[DIGEST] = large
    reader, writer = await asyncio.open_connection(*address, limit=1024)
    writer.write(b"GET /far/x HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    seen = -1
    while seen != front.store.sent:  # it comes to a halt by itself
        seen = front.store.sent
        await asyncio.sleep(0.2)
    assert seen < len(large) / 2
    assert front.store.closed == 0
    writer.transport.abort()
    assert await asyncio.wait_for(front.store.ended.wait(), 30)


async def test_a_client_that_leaves_while_nothing_comes(front: Front, address: tuple[str, int]) -> None:
    """A stream that waits for its source ends when its client does."""
    ended, begun = asyncio.Event(), asyncio.Event()

    async def opened(offset: int, count: int) -> AsyncIterator[bytes]:
        try:
            yield DATA[:10]
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    front.stored = Remote(opened, len(DATA))
    _, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /far/x HTTP/1.1\r\nHost: h\r\n\r\n")
    await begun.wait()
    writer.close()
    assert await asyncio.wait_for(ended.wait(), 30)


async def test_images_out_of_a_remote_store(tmp_path: Path) -> None:
    """A registry over a remote store sends clients to their blobs, but manifests itself: their headers matter."""
    image = build_image(["linux/amd64"])
    async with open_world(tmp_path) as world:
        folder = write_layout(image, tmp_path / "layout")
        await world.run(world.mirror({"layout": folder, "names": ["v1"]}, LOCAL))
        linked, remote = linked_in(tmp_path / "repositories", "app"), RemoteStore(url="https://objects.example")
        for digest in linked.content if linked else ():
            place = place_in(tmp_path / "blobs", digest)
            assert place is not None
            await remote.adopt(digest, place)
        services = replace(world.services, blobs=remote)
        async with listening(services, image_front) as address:
            status, headers, body = await ask(address, path="/v2/app/manifests/v1")
            assert (status, body) == (200, image.body)
            assert headers["docker-content-digest"] == image.digest
            status, headers, _ = await ask(address, path=f"/v2/app/blobs/{image.layers[0]}")
            assert (status, headers["location"]) == (307, f"https://objects.example/{image.layers[0]}")
            remote.url = None
            assert (await ask(address, path=f"/v2/app/blobs/{image.layers[0]}"))[2] == image.blobs[image.layers[0]]
            remote.content.clear()
            assert (await ask(address, path=f"/v2/app/blobs/{image.layers[0]}"))[0] == 404


def failing(data: bytes, error: MirrordError | None) -> Callable[[int, int], AsyncIterator[bytes]]:
    async def opened(offset: int, count: int) -> AsyncIterator[bytes]:
        if data:
            yield data
        if error is not None:
            raise error

    return opened


async def test_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for content on a disk that does not answer waits alone: the event loop never looks at that disk."""
    image, answers = build_image(["linux/amd64"]), threading.Event()
    stuck: list[str] = []
    looked: list[str] = []

    def hanging(look: Callable[..., Any]) -> Callable[..., Any]:
        def on_our_disk(path: Any, *arguments: Any, **options: Any) -> Any:
            if str(path).startswith((f"{tmp_path}/blobs", f"{tmp_path}/repositories")):
                if threading.current_thread() is threading.main_thread():
                    looked.append(str(path))
                else:
                    stuck.append(str(path))
                    answers.wait(30)
            return look(path, *arguments, **options)

        return on_our_disk

    async with open_world(tmp_path) as world:
        await world.run(world.mirror({"layout": write_layout(image, tmp_path / "layout"), "names": ["v1"]}, LOCAL))
        names = DiskRepositories(tmp_path / "repositories")  # as after a restart: nothing is in memory
        services = replace(world.services, repositories=names, blobs=DiskStore(tmp_path / "blobs"))
        for owner, name in ((Path, "stat"), (Path, "read_bytes"), (os, "open")):
            monkeypatch.setattr(owner, name, hanging(getattr(owner, name)))
        async with listening(services, image_front) as address:
            asked = [("GET", "manifests/v1"), ("HEAD", f"blobs/{image.layers[0]}"), ("GET", "tags/list")]
            waiting = [asyncio.ensure_future(ask(address, method, f"/v2/app/{what}")) for method, what in asked]
            while not stuck:
                assert (await ask(address, path="/livez"))[0] == 200
            assert (await ask(address, path="/livez"))[0] == 200
            assert not any(task.done() for task in waiting)
            answers.set()
            assert [answer[0] for answer in await asyncio.gather(*waiting)] == [200, 200, 200]
            assert (await ask(address, path=f"/v2/app/blobs/{image.layers[0]}"))[2] == image.blobs[image.layers[0]]
        monkeypatch.undo()
    assert looked == []
    assert len(stuck) >= 3
