"""What the front reports: bytes from upstream and to clients, and what left the cache; and whose answers are paced."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.events import Evicted, FrontBytes
from mirrord.syncer.serving import Request
from mirrord.testing import Registry, build_image, push
from tests.support.pulling import Pulls, pulling

IMAGE = build_image(["linux/amd64"], layers=1, layer_size=100_000)
(LAYER,) = IMAGE.layers
BLOB = f"up.test/team/app/blobs/{LAYER}"


@pytest.fixture
async def pulls(tmp_path: Path) -> AsyncIterator[Pulls]:
    async with Registry() as upstream, pulling(tmp_path, upstream.host) as made:
        await push(IMAGE, upstream, "team/app", ["v1"])
        assert (await made.ask("up.test/team/app/manifests/v1")).status == 200
        yield made


def count(pulls: Pulls, direction: str) -> int:
    """Return the bytes that were reported."""
    return sum(one.size for one in pulls.events if isinstance(one, FrontBytes) and one.direction == direction)


async def test_bytes_of_both_sides(pulls: Pulls) -> None:
    """Three clients and one read: upstream's bytes count once, those of clients each time; a part counts as a part."""
    size = len(IMAGE.blobs[LAYER])
    assert count(pulls, "from_upstream") == len(IMAGE.body)
    pulls.events.clear()
    for answer in await asyncio.gather(*(pulls.ask(BLOB) for _ in range(3))):
        assert answer.body == IMAGE.blobs[LAYER]
    await pulls.ask(BLOB, Range="bytes=0-9")
    assert (count(pulls, "from_upstream"), count(pulls, "to_clients")) == (size, 3 * size + 10)


async def test_what_leaves_the_cache(tmp_path: Path) -> None:
    """What nobody used for long goes at the next start, and one event has their number and bytes."""
    async with Registry() as upstream:
        await push(IMAGE, upstream, "team/app", ["v1"])
        async with pulling(tmp_path, upstream.host) as pulls:
            for path in ("up.test/team/app/manifests/v1", BLOB):
                assert (await pulls.ask(path)).status == 200
        files = [file for file in (tmp_path / "cache/image/blobs").rglob("*") if file.is_file()]
        for file in files:
            os.utime(file, (1_000_000_000, 1_000_000_000))
        async with pulling(tmp_path, upstream.host, cache={"unused": "1h"}) as pulls:
            await pulls.ask("up.test/team/app/tags/list")
            while not (gone := [one for one in pulls.events if isinstance(one, Evicted)]):  # noqa: ASYNC110 - as a log
                await asyncio.sleep(0.01)
            assert pulls.front.standing().cache_entries == 0
    assert gone == [Evicted(len(files), len(IMAGE.body) + len(IMAGE.blobs[LAYER]))]
    assert len(files) == 2


@pytest.mark.parametrize(
    ("bandwidth", "client", "paced"),
    [
        ({}, "192.0.2.1", False),
        ({"blob": "1MiB/s"}, "192.0.2.1", True),
        ({"all": "1MiB/s"}, "192.0.2.1", True),
        ({"all": "1MiB/s"}, "10.0.0.1", False),
    ],
)
async def test_whose_answers_are_paced(pulls: Pulls, bandwidth: dict[str, str], client: str, paced: bool) -> None:
    """Content of a blob goes at the rate of the limits, from upstream and from the cache; not to exempt networks."""
    pulls.configure(limits={**({"bandwidth": bandwidth} if bandwidth else {}), "exempt": ["10.0.0.0/8"]})
    for _ in range(2):
        request = Request("GET", "/v2/", BLOB, {}, host="m", client=client)
        answer = await pulls.front.respond(request, pulls.services())
        assert answer.meter is not None
        assert answer.meter.paced is paced
        answer.meter.ended()
        assert (await pulls.ask(BLOB)).status == 200
