"""Transfers for clients are shared within one registry: which ones a reader joins, and what is left of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source import BlobSource
from mirrord.events import Events
from tests.blobs.test_takeover import DATA, DIGEST, STEP, Host, take

EVIL = bytes(len(DATA))


@pytest.fixture
def pool(tmp_path: Path) -> SpoolPool:
    return SpoolPool(tmp_path, 100 << 20, Events())


def mirror(host: Host) -> BlobSource:
    return replace(host.wanted(), origin=host.name)


def client(host: Host) -> BlobSource:
    return replace(host.wanted(), origin=host.name, same_origin=True)


async def left(pool: SpoolPool, host: Host, source: BlobSource) -> None:
    """Leave a partial file of three steps behind."""
    host.stops_at, others = 3 * STEP, len(pool.cache.busy)
    async with pool.reader(source, "leaves"):
        await host.stopped.wait()
    host.stops_at, host.stopped = len(DATA) + 1, asyncio.Event()
    while len(pool.cache.busy) > others:  # noqa: ASYNC110 - nothing announces that
        await asyncio.sleep(0)


async def test_what_is_left_is_resumed_from_the_same_registry(pool: SpoolPool) -> None:
    """A client's partial file serves clients of its registry only; wrong bytes of another one are not among them."""
    evil, good = Host("evil", EVIL), Host("good")
    await left(pool, evil, client(evil))
    await left(pool, good, client(good))
    assert pool.cache.used == 2 * len(DATA)
    assert await take(pool, client(good)) == DATA
    assert (good.asked, evil.asked) == ([0, 3 * STEP], [0])


@pytest.mark.parametrize("first", ["evil", "good"])
async def test_what_mirrors_left_is_not_for_clients(first: str, pool: SpoolPool) -> None:
    """A partial file of mirrors may have bytes of any registry: mirrors resume it, a client does not join them then."""
    evil, good = Host("evil", EVIL), Host("good")
    host = {"evil": evil, "good": good}[first]
    await left(pool, host, mirror(host))
    good.stops_at = 6 * STEP
    run = asyncio.create_task(take(pool, mirror(good)))
    await good.stopped.wait()
    assert good.asked[-1] == 3 * STEP
    async with pool.reader(client(good), "client", client=True):
        assert len(pool.cache.busy) == (2 if first == "evil" else 1)
    good.gate.set()
    assert await run == DATA


async def test_a_client_that_joins_a_mirror_keeps_the_budget_right(pool: SpoolPool, tmp_path: Path) -> None:
    """What an earlier client left is dropped when the next one joins a mirror that reads from the same registry."""
    good, evil = Host("good"), Host("evil", EVIL)
    await left(pool, good, client(good))
    good.stops_at = 6 * STEP
    run = asyncio.create_task(take(pool, mirror(good)))
    await good.stopped.wait()
    assert pool.cache.used == 2 * len(DATA)
    reading = asyncio.create_task(take(pool, client(good)))
    while sum(len(entry.spool.readers) for entry in pool.cache.busy) < 2:  # noqa: ASYNC110 - nothing announces that
        await asyncio.sleep(0)
    assert (pool.cache.used, len([*tmp_path.iterdir()])) == (len(DATA), 1)
    await left(pool, evil, mirror(evil))
    assert (pool.cache.used, len([*tmp_path.iterdir()])) == (2 * len(DATA), 2)
    good.gate.set()
    assert (await run, await reading) == (DATA, DATA)
    assert pool.cache.used == len(DATA)
    assert [file.name for file in tmp_path.iterdir()] == [f"sha256-{DIGEST.hex}"]
    assert good.asked == [0, 0]


@pytest.mark.parametrize("second", [mirror, client])
async def test_whole_content_serves_everybody(second: Callable[[Host], BlobSource], pool: SpoolPool) -> None:
    """Verified content is shared by its digest, whoever sent it."""
    good, other = Host("good"), Host("other")
    assert await take(pool, client(good)) == DATA
    assert await take(pool, second(other)) == DATA
    assert (good.asked, other.asked) == ([0], [])


@pytest.mark.parametrize("harmed", [False, True])
async def test_a_file_of_an_earlier_process(harmed: bool, tmp_path: Path) -> None:
    """A client gets a complete file of an earlier process once it is hashed, and upstream's bytes if it is wrong."""
    (tmp_path / f"sha256-{DIGEST.hex}").write_bytes(EVIL if harmed else DATA)
    pool, good = SpoolPool(tmp_path, len(DATA), Events()), Host("good")
    pool.cache.sweep()
    assert await take(pool, client(good)) == DATA
    assert good.asked == ([0] if harmed else [])
    assert [file.name for file in tmp_path.iterdir()] == [f"sha256-{DIGEST.hex}"]
    assert pool.cache.used == len(DATA)
