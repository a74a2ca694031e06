"""A target that has all bytes of a blob and does not answer holds nobody, and nothing of it is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.source import BlobSource
from mirrord.events import Events
from mirrord.model.digest import Digest
from mirrord.transfer.fanout import Workers, together
from mirrord.transfer.feed import feed

SIZE = 300_000
BLOBS = [bytes([seed]) * SIZE for seed in range(8)]
BUDGET = 3 * SIZE  # of the eight


class Host:
    """A source of all blobs that counts how often it was asked for each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, [0] * len(BLOBS)

    def source(self, number: int) -> BlobSource:
        @contextlib.asynccontextmanager
        async def opened(offset: int) -> AsyncIterator[tuple[None, AsyncIterator[bytes]]]:
            self.asked[number] += 1
            yield None, chunks(offset)

        async def chunks(offset: int) -> AsyncIterator[bytes]:
            for at in range(offset, SIZE, 100_000):
                assert sum(file.stat().st_size for file in self.folder.iterdir()) <= BUDGET
                yield BLOBS[number][at : at + 100_000]
                await asyncio.sleep(0)

        return BlobSource(Digest.of(BLOBS[number]), SIZE, opened)


class Target:
    """Takes all bytes of a blob at once, and says when it is open that it has them; as it does behind a proxy."""

    def __init__(self) -> None:
        self.open, self.full, self.breaks = asyncio.Event(), asyncio.Event(), 0
        self.got: list[bytes] = []
        self.waiting = 0

    async def put(self, reader: SpoolReader) -> None:
        for _ in range(3):  # as an upload is begun anew
            data = b"".join([chunk async for chunk in reader.chunks()])
            self.waiting += 1
            self.full.set()
            await self.open.wait()
            self.waiting -= 1
            if not self.breaks:
                self.got.append(data)
                return
            self.breaks -= 1

    async def mirror(self, pool: SpoolPool, host: Host, name: str, uploads: int) -> None:
        workers = Workers(uploads)
        with pool.uploading(name, "m/"):
            await workers.each(range(len(BLOBS)), lambda number: feed(pool, host.source(number), name, "m/", self.put))


@pytest.fixture
def pool(tmp_path: Path) -> SpoolPool:
    return SpoolPool(tmp_path, BUDGET, Events(), grace=3600.0)  # nobody is sent away by any clock


@pytest.mark.parametrize("uploads", [1, 3, 6])
async def test_a_target_that_does_not_answer_holds_nobody(pool: SpoolPool, tmp_path: Path, uploads: int) -> None:
    """The healthy have the whole image, thrice the budget, before the slow target has said a word (F23)."""
    host, slow, healthy = Host(tmp_path), Target(), [Target(), Target()]
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(slow.mirror(pool, host, "m/slow", uploads))
        for target in healthy:
            target.open.set()
        await together(*(one.mirror(pool, host, f"m/{number}", 6) for number, one in enumerate(healthy)))
        assert [sorted(one.got) for one in healthy] == [BLOBS, BLOBS]
        assert (slow.got, slow.waiting) == ([], uploads)
        slow.open.set()
    assert sorted(slow.got) == BLOBS
    assert sum(host.asked) <= 2 * len(BLOBS)  # what went by is brought once more, for the slow one alone


async def test_an_upload_that_fails_late_is_fed_anew(pool: SpoolPool, tmp_path: Path) -> None:
    """When the answer is bad after the room was given to others, the blob is brought again; nothing is lost."""
    host, slow, healthy = Host(tmp_path), Target(), Target()
    healthy.open.set()
    slow.breaks = 1
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(feed(pool, host.source(0), "m/slow", "m/", slow.put))
        await slow.full.wait()
        await healthy.mirror(pool, host, "m/fast", 1)
        slow.open.set()
    assert slow.got == [BLOBS[0]]
    assert host.asked == [2, *[1] * (len(BLOBS) - 1)]


async def test_an_upload_that_fails_is_fed_from_the_spool(pool: SpoolPool, tmp_path: Path) -> None:
    """When nobody needed the room meanwhile the bytes are still there, and the source is not asked again."""
    host, slow = Host(tmp_path), Target()
    slow.open.set()
    slow.breaks = 2
    await feed(pool, host.source(0), "m/slow", "m/", slow.put)
    assert (slow.got, host.asked[0]) == ([BLOBS[0]], 1)


async def test_who_asks_again_holds_again(pool: SpoolPool, tmp_path: Path) -> None:
    """A blob that is sent once more is not taken away in the middle."""
    host = Host(tmp_path)
    async with pool.reader(host.source(0), "m/slow") as reader:
        assert b"".join([chunk async for chunk in reader.chunks()]) == BLOBS[0]
        again = reader.chunks()
        got = await anext(again)
        for number in range(1, 6):
            async with pool.reader(host.source(number), "m/fast") as other:
                await other.whole()
        assert got + b"".join([chunk async for chunk in again]) == BLOBS[0]
    assert host.asked[:6] == [1] * 6
