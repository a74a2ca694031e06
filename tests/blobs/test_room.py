"""What the disk has left: content that cannot fit is refused before it is read, and the last of it is kept."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.blobs import reserve
from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source import BlobSource
from mirrord.errors import StorageError
from mirrord.events import Events
from mirrord.model.digest import Digest

MIB = 1 << 20


class Source:
    """Gives a blob, and waits in the middle when it is told to; counts how often it was asked."""

    def __init__(self, seed: int, size: int = MIB) -> None:
        self.data = bytes([seed]) * size
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.half = asyncio.Event()

    @contextlib.asynccontextmanager
    async def open(self, offset: int) -> AsyncIterator[tuple[None, AsyncIterator[bytes]]]:
        self.asked += 1

        async def chunks() -> AsyncIterator[bytes]:
            middle = len(self.data) // 2
            yield self.data[offset:middle]
            self.half.set()
            await self.gate.wait()
            yield self.data[max(offset, middle) :]

        yield None, chunks()

    def wanted(self) -> BlobSource:
        return BlobSource(Digest.of(self.data), len(self.data), self.open)


class Disk:
    """A disk of some bytes, of which the pool's files take theirs."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size

    def left(self) -> int:
        return self.size - sum(file.stat().st_size for file in self.folder.iterdir() if file.stat().st_nlink == 1)


async def drain(pool: SpoolPool, source: Source) -> bytes:
    async with pool.reader(source.wanted(), "t") as reader:
        return b"".join([chunk async for chunk in reader.chunks()])


def pool_of(folder: Path, size: int) -> SpoolPool:
    folder.mkdir()
    return SpoolPool(folder, 100 * MIB, Events(), 0.02, room=Disk(folder, size).left)


async def test_what_can_never_fit_is_refused_at_once(tmp_path: Path) -> None:
    """A blob that is larger than the disk's room costs its source nothing, and says what is missing."""
    pool, source = pool_of(tmp_path / "spool", MIB // 2), Source(1)
    with pytest.raises(StorageError, match=f"has {MIB} bytes, and the disk of .* has {MIB // 2} free; free some space"):
        await drain(pool, source)
    assert source.asked == 0


async def test_idle_blobs_make_room(tmp_path: Path) -> None:
    """The cache goes before anybody is refused: the disk counts as the budget does."""
    pool = pool_of(tmp_path / "spool", 2 * MIB + 1000)
    for seed in range(6):
        assert await drain(pool, source := Source(seed)) == source.data
    assert len(list((tmp_path / "spool").iterdir())) == 2


async def test_what_is_on_its_way_is_waited_for(tmp_path: Path) -> None:
    """What is promised to a blob on its way is nobody else's; when it is through the next one has its room."""
    pool, first, second = pool_of(tmp_path / "spool", MIB + 1000), Source(1), Source(2)
    first.gate.clear()
    async with asyncio.timeout(60):
        one = asyncio.create_task(drain(pool, first))
        await first.half.wait()
        two = asyncio.create_task(drain(pool, second))
        for _ in range(10):
            await asyncio.sleep(0)
        assert second.asked == 0
        first.gate.set()
        assert await one == first.data
        assert await two == second.data


async def test_a_half_blob_needs_the_other_half_only(tmp_path: Path) -> None:
    """What an attempt left is taken up, and counts as there."""
    pool, source = pool_of(tmp_path / "spool", MIB + 1000), Source(1)
    source.gate.clear()
    async with pool.reader(source.wanted(), "t") as reader:
        while reader.spool.written < MIB // 2:
            await reader.spool.changed()
    source.gate.set()
    assert await drain(pool, source) == source.data


async def test_what_the_store_has_too_makes_no_room(tmp_path: Path) -> None:
    """Dropping a name of bytes that have another one frees nothing, and is not done for that."""
    pool = pool_of(tmp_path / "spool", MIB + 1000)
    assert await drain(pool, first := Source(1)) == first.data
    (kept,) = (tmp_path / "spool").iterdir()
    os.link(kept, tmp_path / "store")
    disk = Disk(tmp_path / "spool", 0)
    pool = SpoolPool(tmp_path / "spool", 100 * MIB, Events(), 0.02, room=disk.left)
    pool.cache.sweep()
    with pytest.raises(StorageError):
        await drain(pool, Source(2))
    assert list((tmp_path / "spool").iterdir()) == [kept]


async def test_a_disk_that_says_no_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC while a blob is written: all its readers hear of it, and its bytes are gone at once."""
    pool, source = pool_of(tmp_path / "spool", 100 * MIB), Source(1)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    ends = await asyncio.gather(drain(pool, source), drain(pool, source), return_exceptions=True)
    assert [type(end) for end in ends] == [StorageError] * 2
    assert "No space left on device" in str(ends[0])
    assert list((tmp_path / "spool").iterdir()) == []


def test_the_reserve_is_whole_or_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """48 MiB lie in a file, and count as free; without them the last 64 MiB of the disk are nobody's."""
    reserve.keep(tmp_path)
    file = tmp_path / reserve.FILE
    assert file.stat().st_blocks * 512 == reserve.HELD
    assert reserve.free(tmp_path) - reserve.room(tmp_path) == reserve.RESERVE - reserve.HELD
    monkeypatch.setattr(reserve, "free", lambda _: 10 * MIB)
    assert reserve.room(tmp_path) == (10 + 48 - 64) * MIB
    assert reserve.give_up(tmp_path)
    assert not reserve.give_up(tmp_path)
    assert not file.exists()
    with pytest.raises(
        StorageError, match="10 MiB are free on its disk, and 64 MiB are reserved for the database; free some space"
    ):
        reserve.keep(tmp_path)


def test_a_disk_that_can_hold_nothing_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where room cannot be held in a file it is left free instead."""

    def never(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", never)
    reserve.keep(tmp_path)
    assert not (tmp_path / reserve.FILE).exists()
    assert reserve.free(tmp_path) - reserve.room(tmp_path) == reserve.RESERVE
