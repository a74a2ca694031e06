"""The pool's budget: who is sent away for it, who is not, and who waits for whom."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source import BlobSource
from mirrord.errors import DetachedError
from mirrord.events import Events
from mirrord.model.digest import Digest

MIB = 1 << 20
FIRST, SECOND = bytes(2 * MIB), b"x" * (2 * MIB)
FOREVER = 3600.0


def wanted(data: bytes) -> BlobSource:
    @contextlib.asynccontextmanager
    async def opener(offset: int) -> AsyncIterator[tuple[None, AsyncIterator[bytes]]]:
        async def chunks() -> AsyncIterator[bytes]:
            for at in range(offset, len(data), 100_000):
                yield data[at : at + 100_000]

        yield None, chunks()

    return BlobSource(Digest.of(data), len(data), opener)


async def drain(pool: SpoolPool, data: bytes, consumer: str) -> bytes:
    async with pool.reader(wanted(data), consumer) as reader:
        return b"".join([chunk async for chunk in reader.chunks()])


async def asked_for_room(pool: SpoolPool, data: bytes, consumer: str) -> asyncio.Task[bytes]:
    """Return a reader that has found no room, and has looked once for somebody to send away."""
    task = asyncio.create_task(drain(pool, data, consumer))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    return task


@pytest.mark.parametrize(
    ("data", "share"), [(FIRST, 1000), (FIRST, 2), (FIRST[:50_000], 1)], ids=["first", "half", "only"]
)
async def test_a_reader_that_nobody_else_shares_is_sent_away_too(tmp_path: Path, data: bytes, share: int) -> None:
    """A stuck target that alone lacks a blob does not hold up another that needs the room, with a chunk in hand."""
    pool = SpoolPool(tmp_path, 2 * MIB + 10_000, Events(), grace=0.02)
    stuck = asyncio.Event()

    async def slow() -> bool:
        with contextlib.suppress(DetachedError):
            async with pool.reader(wanted(data), "slow") as reader:
                async for _ in reader.chunks():
                    if reader.position >= reader.size // share:
                        stuck.set()
                        await asyncio.Event().wait()
        return reader.detached

    async with asyncio.timeout(30):
        taking = asyncio.create_task(slow())
        await stuck.wait()
        assert await drain(pool, SECOND, "fast") == SECOND
        assert await taking


async def test_a_reader_that_has_had_no_grace_stays(tmp_path: Path) -> None:
    """Whoever has only just begun with a whole blob is not sent away, although it has shown no pace yet."""
    pool = SpoolPool(tmp_path, 3 * MIB, Events(), grace=FOREVER)
    async with pool.reader(wanted(FIRST), "new") as reader:
        await reader.whole()
        reader.taken = 0
        reader.spool.ended -= 2 * FOREVER  # whole for long, in the cache
        task = await asked_for_room(pool, SECOND, "other")
        assert not reader.detached
    assert await task == SECOND


async def test_a_lone_reader_that_is_nearly_done_stays(tmp_path: Path) -> None:
    """When nobody was through first, a reader with less to do than it has had time is left to end."""
    pool = SpoolPool(tmp_path, 3 * MIB, Events(), grace=0.0)
    async with pool.reader(wanted(FIRST), "steady") as reader:
        await reader.whole()
        reader.taken = len(FIRST) - 1000
        reader.spool.ended -= FOREVER
        reader.began -= FOREVER
        task = await asked_for_room(pool, SECOND, "other")
        assert not reader.detached
        task.cancel()


async def test_a_reader_that_is_nearly_done_stays(tmp_path: Path) -> None:
    """Behind the first one to be through, a reader that needs no more than a grace for the rest is not sent away."""
    pool = SpoolPool(tmp_path, 3 * MIB, Events(), grace=FOREVER)
    async with pool.reader(wanted(FIRST), "second") as reader:
        chunks = reader.chunks()
        taken = len(await anext(chunks))
        assert await drain(pool, FIRST, "first") == FIRST
        while taken < len(FIRST) - 300_000:
            taken += len(await anext(chunks))
        reader.spool.ended -= 2 * FOREVER
        reader.began -= 2 * FOREVER
        task = await asked_for_room(pool, SECOND, "first")
        assert not reader.detached
        assert taken + sum([len(chunk) async for chunk in chunks]) == len(FIRST)
    assert await task == SECOND


async def test_only_the_own_mirror_is_waited_for(tmp_path: Path) -> None:
    """Whoever was sent away waits for its own mirror's targets, not for a mirror that never rests."""
    pool = SpoolPool(tmp_path, MIB, Events())
    served = asyncio.Event()

    async def away() -> None:
        async with pool.defer("mine/slow", "mine/"):
            served.set()

    with pool.uploading("other/target", "other/"), pool.uploading("mine/slow", "mine/"):
        with pool.uploading("mine/fast", "mine/"):
            waiting = asyncio.create_task(away())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not served.is_set()
        async with asyncio.timeout(30):
            await waiting


async def come_back(pool: SpoolPool, data: BlobSource, stuck: asyncio.Event, free: asyncio.Event) -> int:
    """Be a target that takes nothing more, and comes back whenever it is sent away; return how often that was."""
    times = 0
    with pool.uploading("mine/slow", "mine/"):
        while True:
            with contextlib.suppress(DetachedError):
                async with (
                    pool.defer("mine/slow", "mine/") if times else contextlib.nullcontext(),
                    pool.reader(data, "mine/slow") as reader,
                ):
                    await reader.whole()
                    reader.taken = 0
                    stuck.set()
                    await free.wait()
                    return times
            times += 1


async def test_who_was_sent_away_comes_back_after_whom_it_made_room_for(tmp_path: Path) -> None:
    """A stuck target of one mirror that begs for its place again does not get it before another mirror had it."""
    pool, stuck, free = SpoolPool(tmp_path, 3 * MIB, Events(), grace=0.02), asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(30):
        slow = asyncio.create_task(come_back(pool, wanted(FIRST), stuck, free))
        await stuck.wait()
        with pool.uploading("other/fast", "other/"):
            assert await drain(pool, SECOND, "other/fast") == SECOND
        free.set()
        assert await slow > 0


async def test_a_source_that_will_take_hours_gives_way(tmp_path: Path) -> None:
    """A blob that promises to be large and drips holds room for hours: whoever needs the room gets it."""
    pool, dripping, gate = SpoolPool(tmp_path, 3 * MIB, Events(), grace=0.02), asyncio.Event(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def drip(offset: int) -> AsyncIterator[tuple[None, AsyncIterator[bytes]]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield FIRST[offset : offset + 300_000]
            dripping.set()
            await gate.wait()
            yield FIRST[offset + 300_000 :]

        yield None, chunks()

    slow = BlobSource(Digest.of(FIRST), len(FIRST), drip)

    async def evil() -> bytes:
        with contextlib.suppress(DetachedError):
            async with pool.reader(slow, "evil") as reader:
                await dripping.wait()
                reader.spool.began -= 8 * FOREVER
                await reader.whole()
        async with pool.defer("evil", "evil/"), pool.reader(slow, "evil") as reader:
            return b"".join([chunk async for chunk in reader.chunks()])

    async with asyncio.timeout(30):
        task = asyncio.create_task(evil())
        await dripping.wait()
        assert await drain(pool, SECOND, "good") == SECOND
        gate.set()
        assert await task == FIRST


async def test_a_source_that_will_be_through_keeps_its_room(tmp_path: Path) -> None:
    """A large blob over a slow line is not begun anew because somebody else needs room: it will be through."""
    pool, begun, gate, asked = SpoolPool(tmp_path, 3 * MIB, Events(), grace=0.02), asyncio.Event(), asyncio.Event(), 0

    @contextlib.asynccontextmanager
    async def steady(offset: int) -> AsyncIterator[tuple[None, AsyncIterator[bytes]]]:
        nonlocal asked
        asked += 1

        async def chunks() -> AsyncIterator[bytes]:
            yield FIRST[offset : offset + 1_000_000]
            begun.set()
            await gate.wait()
            yield FIRST[offset + 1_000_000 :]

        yield None, chunks()

    async def take() -> bytes:
        async with pool.reader(BlobSource(Digest.of(FIRST), len(FIRST), steady), "steady") as reader:
            reader.spool.began -= FOREVER / 4
            return b"".join([chunk async for chunk in reader.chunks()])

    async with asyncio.timeout(30):
        task = asyncio.create_task(take())
        await begun.wait()
        other = await asked_for_room(pool, SECOND, "other")
        gate.set()
        assert (await task, await other) == (FIRST, SECOND)
    assert asked == 1
