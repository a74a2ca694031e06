"""What may go wrong with an upstream of the front, and what clients then get: never anything wrong that looks whole.

Beside each fault the daemon goes on with its mirrors, one of which has the same source.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from mirrord.commands import Sync
from mirrord.model.digest import Digest
from mirrord.model.run import Result
from mirrord.serve.remote import ControlClient
from mirrord.testing import Registry, build_image, push
from tests.support.frontdesk import FrontDesk, configuration, fronted
from tests.support.walking import leftovers

NAME = "team/app"
IMAGE = build_image(["linux/amd64"], layers=2, layer_size=400_000, seed="faults")
LAYER, OTHER = IMAGE.layers
DATA = IMAGE.blobs[LAYER]
SIDE = build_image(["linux/amd64"], seed="side")


def mirrors(host: str) -> str:
    """Write a mirror of another repository of the same host."""
    source = f"{{repository: {host}/side/app, tags: ['*']}}"
    return f"mirrors:\n  - {{name: side, kind: image, as: side, from: {source}, to: local}}\n"


@dataclass(frozen=True, slots=True)
class Got:
    """What a client got: `whole` when the answer ended as its head promised."""

    status: int
    body: bytes
    whole: bool


async def pull(front: FrontDesk, digest: str, name: str = NAME, **headers: str) -> Got:
    """Ask for a blob, and take what comes."""
    url, body = f"http://{front.host}{front.path(name)}/blobs/{digest}", b""
    async with aiohttp.ClientSession() as client:
        try:
            async with client.get(url, headers=headers) as answer:
                try:
                    async for piece in answer.content.iter_any():
                        body += piece
                except aiohttp.ClientError:
                    return Got(answer.status, body, whole=False)
                return Got(answer.status, body, whole=True)
        except aiohttp.ClientError:
            return Got(0, body, whole=False)


async def going_on(front: FrontDesk, upstream: Registry) -> None:
    """Let there be something new for the mirror: it is mirrored, and served."""
    image = build_image(["linux/amd64"], seed=f"side {len(upstream.log)}")
    await push(image, upstream, "side/app", ["v1"])
    (run,) = await ControlClient(front.desk.folder / "state").carry_out(Sync(("side",)))
    assert run.result is Result.SUCCESS, run
    assert (await front.get("/v2/side/manifests/v1")).body == image.body


@pytest.fixture
async def upstream() -> AsyncIterator[Registry]:
    async with Registry() as double:
        await push(IMAGE, double, NAME, ["v1"])
        await push(SIDE, double, "side/app", ["v1"])
        yield double


@pytest.fixture
async def front(upstream: Registry, tmp_path: Path) -> AsyncIterator[FrontDesk]:
    async with fronted(tmp_path, upstream.host, mirrors(upstream.host), fresh="0s") as made:
        assert (await made.get(f"{made.path(NAME)}/manifests/v1")).body == IMAGE.body
        yield made


async def test_upstream_breaks_off(front: FrontDesk, upstream: Registry) -> None:
    """A connection that breaks in the middle of a blob is taken up where it broke; the client does not see it."""
    upstream.faults.on("GET", f"/blobs/{LAYER}").truncate(150_000)
    assert await pull(front, LAYER) == Got(200, DATA, whole=True)
    first, second = upstream.select("GET", f"/blobs/{LAYER}")
    start = int(second.headers["range"].removeprefix("bytes=").partition("-")[0])
    assert "range" not in first.headers
    assert 0 < start <= 150_000
    await going_on(front, upstream)


async def test_upstream_dies(front: FrontDesk, upstream: Registry) -> None:
    """An upstream that breaks off and does not come back: the answer ends short, others go on; later it is whole."""
    upstream.faults.on("GET", f"/blobs/{LAYER}").truncate(150_000)
    upstream.faults.on("GET", f"/blobs/{LAYER}", times=None).status(503)
    got = await asyncio.gather(*(pull(front, LAYER) for _ in range(5)))
    assert not any(one.whole and one.status == 200 for one in got)
    assert all(DATA.startswith(one.body) for one in got if one.status == 200)
    assert await pull(front, OTHER) == Got(200, IMAGE.blobs[OTHER], whole=True)
    await going_on(front, upstream)
    upstream.faults.clear()
    assert await pull(front, LAYER) == Got(200, DATA, whole=True)


@pytest.mark.parametrize("offset", [0, 200_000, -1])
async def test_wrong_bytes(front: FrontDesk, upstream: Registry, offset: int) -> None:
    """A blob with one wrong byte, wherever: nobody gets the whole of it, no part of it stays, and the next is right."""
    upstream.faults.on("GET", f"/blobs/{LAYER}", times=None).corrupt(offset)
    asked: Sequence[dict[str, str]] = ({}, {}, {"Range": "bytes=0-"}, {"Range": "bytes=300000-"})
    got = await asyncio.gather(*(pull(front, LAYER, **headers) for headers in asked))
    assert not any(one.whole and one.status in {200, 206} for one in got)
    await going_on(front, upstream)
    upstream.faults.clear()
    assert await pull(front, LAYER) == Got(200, DATA, whole=True)


async def test_a_blob_of_another_length(front: FrontDesk, upstream: Registry) -> None:
    """A blob that is shorter or longer than its manifest says is never whole."""
    for body in (DATA[:-10], DATA + b"more", b"<html>an error page</html>"):
        upstream.faults.clear()
        upstream.faults.on("GET", f"/blobs/{LAYER}", times=None).answer(body)
        got = await pull(front, LAYER)
        assert not (got.whole and got.status == 200), len(body)
    upstream.faults.clear()
    assert await pull(front, LAYER) == Got(200, DATA, whole=True)


async def test_a_wrong_manifest(front: FrontDesk, upstream: Registry) -> None:
    """A manifest by digest with other bytes than its digest says is never served."""
    other = build_image(["linux/amd64"], seed="other")
    await push(other, upstream, NAME, ["v2"])
    path = f"{front.path(NAME)}/manifests/{other.digest}"
    upstream.faults.on("GET", f"/manifests/{other.digest}", times=None).answer(IMAGE.body)
    assert (await front.get(path)).status >= 500
    upstream.faults.clear()
    assert (await front.get(path)).body == other.body


async def test_upstream_hangs(front: FrontDesk, upstream: Registry) -> None:
    """A blob of which nothing more comes holds up nobody but those who want it; they get it whole when it goes on."""
    held = upstream.faults.on("GET", f"/blobs/{LAYER}").stall(after=150_000)
    waiting = [asyncio.create_task(pull(front, LAYER)) for _ in range(3)]
    await held.reached.wait()
    assert await pull(front, OTHER) == Got(200, IMAGE.blobs[OTHER], whole=True)
    assert (await front.get("/livez")).status == 200
    await going_on(front, upstream)
    held.release()
    assert await asyncio.gather(*waiting) == [Got(200, DATA, whole=True)] * 3
    assert upstream.count("GET", f"/blobs/{LAYER}") == 1


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_upstream_refuses(front: FrontDesk, upstream: Registry, status: int) -> None:
    """An upstream that has had enough: what is kept is served, and the answer says so; the rest is an error."""
    assert await pull(front, LAYER) == Got(200, DATA, whole=True)
    upstream.faults.on("GET|HEAD", f"/v2/{NAME}/", times=None).status(status, b"<html>no</html>")
    answer = await front.get(f"{front.path(NAME)}/manifests/v1")
    assert (answer.status, answer.body) == (200, IMAGE.body)
    assert answer.headers["Warning"].startswith('299 - "')
    assert await pull(front, LAYER) == Got(200, DATA, whole=True)
    for path in (f"manifests/{Digest.of(b'absent')}", "manifests/absent", f"blobs/{OTHER}"):
        failed = await front.get(f"{front.path(NAME)}/{path}")
        assert failed.status in {429, 502, 503, 504}, path
        assert json.loads(failed.body)["errors"], path
    upstream.faults.clear()
    assert await pull(front, OTHER) == Got(200, IMAGE.blobs[OTHER], whole=True)


async def test_upstream_comes_back(front: FrontDesk, upstream: Registry) -> None:
    """An upstream that did not answer is left alone for a while, and asked again; then nothing is stale."""
    path = f"{front.path(NAME)}/manifests/v1"
    upstream.faults.on("GET|HEAD", f"/v2/{NAME}/", times=None).status(503)
    assert "Warning" in (await front.get(path)).headers
    moved = build_image(["linux/amd64"], seed="moved")
    await push(moved, upstream, NAME, ["v1"])
    upstream.faults.clear()
    async with asyncio.timeout(60):
        while "Warning" in (answer := await front.get(path)).headers:  # noqa: ASYNC110 - its clock is another's
            await asyncio.sleep(0.5)
    assert (answer.status, answer.body) == (200, moved.body)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_upstream_says_no(front: FrontDesk, upstream: Registry, status: int) -> None:
    """What upstream, as a registry, does not show is not there; what is kept is served by digest."""
    upstream.faults.on("GET|HEAD", f"/v2/{NAME}/", times=None).status(status, b'{"errors":[{"code":"DENIED"}]}')
    answer = await front.get(f"{front.path(NAME)}/manifests/v1")
    assert answer.status in {403, 404}
    assert json.loads(answer.body)["errors"]
    assert (await front.get(f"{front.path(NAME)}/manifests/{IMAGE.digest}")).body == IMAGE.body
    upstream.faults.clear()
    await going_on(front, upstream)


async def test_killed_in_the_middle(upstream: Registry, tmp_path: Path) -> None:
    """Killed in the middle of twenty pulls: no client takes its part for whole; all is right after a new start."""
    images = [build_image(["linux/amd64"], layers=1, layer_size=300_000, seed=f"kill {n}") for n in range(20)]
    layers = {f"kill/app{n}": image.layers[0] for n, image in enumerate(images)}
    await asyncio.gather(*(push(one, upstream, name, ["v1"]) for name, one in zip(layers, images, strict=True)))
    held = [
        upstream.faults.on("GET", f"/{name}/blobs/{digest}").stall(after=100_000) for name, digest in layers.items()
    ]
    async with fronted(tmp_path, upstream.host, mirrors(upstream.host)) as front:
        for name in layers:
            assert (await front.get(f"{front.path(name)}/manifests/v1")).status == 200
        pulls = [asyncio.create_task(pull(front, digest, name)) for name, digest in layers.items()]
        async with asyncio.timeout(60):
            # As many as one host is asked for at once, whichever they are; at least one of them is in its middle.
            while sum(one.hits for one in held) < 8 or not any(one.reached.is_set() for one in held):  # noqa: ASYNC110 - of many, any
                await asyncio.sleep(0.01)
        front.daemon.process.kill()
        await front.daemon.process.wait()
        assert not any(one.whole and one.status == 200 for one in await asyncio.gather(*pulls))
    upstream.faults.clear()
    front.desk.configure(configuration(upstream.host, mirrors(upstream.host)))
    async with front.desk.serving() as daemon:
        again = FrontDesk(daemon, front.desk, upstream.host)
        assert leftovers(tmp_path / "state") == []
        got = await asyncio.gather(*(pull(again, digest, name) for name, digest in layers.items()))
        wanted = [image.blobs[digest] for image, digest in zip(images, layers.values(), strict=True)]
        assert [(one.status, one.whole) for one in got] == [(200, True)] * len(got)
        assert [one.body for one in got] == wanted
        await going_on(again, upstream)


async def test_a_list_that_is_broken(upstream: Registry, tmp_path: Path) -> None:
    """A list that somebody breaks by hand changes nothing but the log; when it is right again it applies."""
    await push(IMAGE, upstream, "other/app", ["v1"])
    allowed = tmp_path / "allows.txt"
    allowed.write_text(f"{upstream.host}/{NAME}\n")
    async with fronted(tmp_path, upstream.host, mirrors(upstream.host), allow=str(allowed)) as front:
        await front.daemon.logged("list.read")
        for number, broken in enumerate((f"{upstream.host}/**/x\n", "", "\0\n")):
            allowed.write_text(broken)
            refused = asyncio.create_task(front.daemon.logged("list.refused", number + 1))
            while not refused.done():  # the file is looked at when somebody asks, once a second
                assert (await front.get(f"{front.path(NAME)}/manifests/v1")).status == 200
                assert (await front.get(f"{front.path('other/app')}/manifests/v1")).status == 403
                await asyncio.sleep(0.1)
            assert str(allowed) in json.dumps(await refused)
            await going_on(front, upstream)
        allowed.write_text(f"{upstream.host}/other/*\n")
        async with asyncio.timeout(30):
            while (await front.get(f"{front.path('other/app')}/manifests/v1")).status != 200:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
        assert (await front.get(f"{front.path(NAME)}/manifests/v1")).status == 403
