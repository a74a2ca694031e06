"""How much of a blob lies in memory while it is on its way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.blobs.hashed_file import CHUNK
from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.recent import SHARED
from mirrord.blobs.spool import RECENT, WITHHELD
from mirrord.events import Events
from tests.blobs.test_spool import MIB, Source, data_of


class Steady(Source):
    """A source that lets everybody take what has come before it brings more."""

    async def _chunks(self, offset: int) -> AsyncIterator[bytes]:
        async for piece in super()._chunks(offset):
            yield piece
            for _ in range(10):
                await asyncio.sleep(0)


@pytest.mark.parametrize("step", [100_000, CHUNK, 3 * CHUNK])
async def test_of_what_nobody_takes_little_is_kept(step: int, tmp_path: Path) -> None:
    """However slow a target is, and however large the pieces are: what it has not taken is read from the file later."""
    source, pool = Source(data_of(8 * MIB), step), SpoolPool(tmp_path, 100 * MIB, Events())
    async with pool.reader(source.wanted(), "slow") as reader:
        while not reader.spool.verified:
            await reader.spool.changed()
            assert reader.spool.recent.size <= RECENT + 3 * CHUNK
        assert b"".join([chunk async for chunk in reader.chunks()]) == source.data


async def test_what_all_have_taken_is_not_kept(tmp_path: Path) -> None:
    """With targets that keep up no more than what came last is in memory."""
    source, pool, most = Steady(data_of(8 * MIB), CHUNK), SpoolPool(tmp_path, 100 * MIB, Events()), 0

    async def take(consumer: str) -> None:
        nonlocal most
        async with pool.reader(source.wanted(), consumer) as reader:
            async for _ in reader.chunks():
                most = max(most, reader.spool.recent.size)

    await asyncio.gather(*(take(f"t{number}") for number in range(3)))
    assert most <= 2 * CHUNK


@pytest.mark.parametrize(("blobs", "each", "most"), [(64, 1, CHUNK), (40, 2, CHUNK), (130, 1, CHUNK // 4)])
async def test_clients_that_stop_reading_hold_little(blobs: int, each: int, most: int, tmp_path: Path) -> None:
    """Many clients of different blobs that take a part and no more: each holds its part, and all share what is kept."""
    pool, held, data = SpoolPool(tmp_path, 1000 * MIB, Events()), list[int](), data_of(5 * CHUNK)
    async with contextlib.AsyncExitStack() as stack:
        sources = [Source(data[number:], 3 * CHUNK).wanted() for number in range(blobs) for _ in range(each)]
        readers = [await stack.enter_async_context(pool.reader(one, "client", client=True)) for one in sources]
        for reader in readers:
            while not reader.spool.verified:
                await reader.spool.changed()
            chunks = aiter(reader.chunks())
            for _ in range(4):
                piece = await anext(chunks)
            held.append(len(piece))
            assert reader.spool.recent.size <= WITHHELD
        assert max(held) <= most
        assert readers[0].spool.memory.kept <= (SHARED if each > 1 else 0)
    assert readers[0].spool.memory.kept == 0
