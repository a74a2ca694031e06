"""What the log says of each answer: who asked for what, what became of it, and how many bytes were really sent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mirrord.events import FrontDone, FrontRefused
from mirrord.testing import Registry, build_image, push
from tests.support.pulling import UPSTREAM, Pulls, pulling

IMAGE = build_image(["linux/amd64"], layer_size=3 << 20)
LAYER = max(IMAGE.blobs, key=lambda digest: len(IMAGE.blobs[digest]))


async def ended(pulls: Pulls) -> FrontDone:
    """Return what is reported of the answer that a client has read, and forget all events."""
    while not (found := [one for one in pulls.events if isinstance(one, FrontDone)]):  # noqa: ASYNC110 - the front emits it, and reports that to nobody else
        await asyncio.sleep(0.01)
    pulls.events.clear()
    (done,) = found
    return done


async def test_each_answer_is_a_line(tmp_path: Path) -> None:
    """Client, repository, reference, status, outcome and bytes of what was sent, for content, ranges and refusals."""
    async with Registry() as upstream:
        await push(IMAGE, upstream, "team/app", ["v1"])
        deny = [f"{UPSTREAM}/bad/**"]
        async with pulling(tmp_path, upstream.host, deny=deny, limits={"pulls_a_minute": 2}) as pulls:
            pulls.services().events.detailed = True
            name, app, whole = f"{upstream.host}/team/app", f"{UPSTREAM}/team/app", len(IMAGE.blobs[LAYER])
            me, size = "127.0.0.1", len(IMAGE.body)
            for method, sent, outcome in (("GET", size, "miss"), ("GET", size, "hit"), ("HEAD", 0, "hit")):
                await pulls.ask(f"{app}/manifests/v1", method)
                assert await ended(pulls) == (me, name, "v1", 200, outcome, sent)
            await pulls.ask(f"{app}/blobs/{LAYER}")
            assert await ended(pulls) == (me, name, LAYER, 200, "miss", whole)
            await pulls.ask(f"{app}/blobs/{LAYER}", Range="bytes=5-")
            done = await ended(pulls)  # of the transfer, or of the cache already
            assert (done[:4], done.size) == ((me, name, LAYER, 206), whole - 5)
            await pulls.ask(f"{app}/tags/list")
            assert (await ended(pulls))[:5] == (me, name, "list", 200, "")
            missing = await pulls.ask(f"{app}/manifests/v9")
            assert await ended(pulls) == (me, name, "v9", 404, "missing", len(missing.body))
            limited = await pulls.ask(f"{app}/manifests/v8")
            events = [one for one in pulls.events if isinstance(one, FrontRefused)]
            assert events == [("pulls_a_minute", me, name, "v8")]
            assert await ended(pulls) == (me, name, "v8", 429, "pulls_a_minute", len(limited.body))
            denied = await pulls.ask(f"{UPSTREAM}/bad/app/manifests/v1")
            assert [one for one in pulls.events if isinstance(one, FrontRefused)] == [
                ("denied", me, f"{upstream.host}/bad/app", "v1")
            ]
            assert await ended(pulls) == (me, f"{upstream.host}/bad/app", "v1", 403, "denied", len(denied.body))
            await pulls.ask("A/B/manifests/v1")
            assert (await ended(pulls))[1:5] == ("", "A/B/manifests/v1", 404, "")


async def test_a_client_that_leaves(tmp_path: Path) -> None:
    """The line about a client that left in the middle has the bytes that were sent, not those that were asked for."""
    big = build_image(["linux/amd64"], layer_size=64 << 20)
    layer = max(big.blobs, key=lambda digest: len(big.blobs[digest]))
    async with Registry() as upstream:
        await push(big, upstream, "team/app", ["v1"])
        async with pulling(tmp_path, upstream.host) as pulls:
            for path in ("manifests/v1", f"blobs/{layer}"):
                await pulls.ask(f"{UPSTREAM}/team/app/{path}")
            pulls.events.clear()
            pulls.services().events.detailed = True
            reader, client = await asyncio.open_connection(*pulls.address)
            client.write(f"GET /v2/{UPSTREAM}/team/app/blobs/{layer} HTTP/1.1\r\nHost: {pulls.host}\r\n\r\n".encode())
            await reader.readexactly(10_000)  # it has begun, and sockets do not hold all of it: this is in the middle
            client.transport.abort()
            done = await ended(pulls)
            assert (done.reference, done.status) == (layer, 200)
            assert done.size < len(big.blobs[layer])


@pytest.mark.parametrize("path", ["manifests/v1", f"blobs/{LAYER}"])
async def test_nothing_is_reported_unless_asked_for(tmp_path: Path, path: str) -> None:
    """Without level `debug` no answer is reported one by one."""
    async with Registry() as upstream:
        await push(IMAGE, upstream, "team/app", ["v1"])
        async with pulling(tmp_path, upstream.host) as pulls:
            for _ in range(3):
                assert (await pulls.ask(f"{UPSTREAM}/team/app/{path}")).status == 200
            assert [one for one in pulls.events if isinstance(one, FrontDone)] == []
