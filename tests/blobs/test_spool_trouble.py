"""The spool after a power cut, under bugs, and with a disk that says no: an error, never a hang, never wrong bytes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source import BlobSource
from mirrord.errors import DigestError, MirrordError, StorageError
from mirrord.events import Events
from mirrord.model.digest import Digest

MIB = 1 << 20
DATA = bytes(range(256)) * 1200
Take = Callable[[SpoolPool, BlobSource], Awaitable[bytes]]


class Source:
    """Gives `DATA`, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    @contextlib.asynccontextmanager
    async def open(self, offset: int) -> AsyncIterator[tuple[None, AsyncIterator[bytes]]]:
        self.asked.append(offset)

        async def chunks() -> AsyncIterator[bytes]:
            await self.gate.wait()
            yield DATA[offset:]

        yield None, chunks()

    def wanted(self, size: int = len(DATA)) -> BlobSource:
        return BlobSource(Digest.of(DATA), size, self.open)


async def whole(pool: SpoolPool, wanted: BlobSource) -> bytes:
    """Take the spool's own file, as the local store does."""
    async with pool.reader(wanted, "t") as reader:
        return (await reader.whole()).read_bytes()


async def drain(pool: SpoolPool, wanted: BlobSource) -> bytes:
    async with pool.reader(wanted, "t") as reader:
        return b"".join([chunk async for chunk in reader.chunks()])


def started(folder: Path, left: bytes) -> SpoolPool:
    """Return a pool that was started over what an earlier process left under the right name."""
    (folder / f"sha256-{Digest.of(DATA).hex}").write_bytes(left)
    pool = SpoolPool(folder, 10 * MIB, Events())
    pool.cache.sweep()
    return pool


@pytest.mark.parametrize(
    ("left", "requests"),
    [
        pytest.param(DATA, 0, id="right"),
        pytest.param(b"", 1, id="empty"),
        pytest.param(DATA[:1000], 1, id="truncated"),
        pytest.param(bytes(len(DATA)), 1, id="zeroed"),
        pytest.param(DATA + b"x", 1, id="longer"),
    ],
)
@pytest.mark.parametrize("take", [whole, drain])
async def test_what_a_power_cut_left_is_hashed_first(tmp_path: Path, left: bytes, requests: int, take: Take) -> None:
    """A cached file is believed when its bytes are right; otherwise the source is read, and nobody sees wrong ones."""
    source, pool = Source(), started(tmp_path, left)
    for _ in range(2):
        assert await take(pool, source.wanted()) == DATA
    assert len(source.asked) == requests
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == len(DATA)


async def test_a_cached_file_that_is_gone_is_fetched(tmp_path: Path) -> None:
    """Somebody emptied the folder behind our back: the source is asked."""
    source, pool = Source(), started(tmp_path, DATA)
    for file in tmp_path.iterdir():
        file.unlink()
    assert await drain(pool, source.wanted()) == DATA


async def test_a_descriptor_with_another_size_is_refused(tmp_path: Path) -> None:
    """A known digest cannot have a second size; whoever wants the first one is not hurt."""
    source, pool = Source(), SpoolPool(tmp_path, 10 * MIB, Events())
    assert await drain(pool, source.wanted()) == DATA
    with pytest.raises(DigestError, match="as its descriptor says"):
        await drain(pool, source.wanted(len(DATA) - 1))
    assert await drain(pool, source.wanted()) == DATA
    assert source.asked == [0]


async def test_a_wrong_size_on_its_way_hurts_only_itself(tmp_path: Path) -> None:
    """A manifest that tells a wrong size fails; one that tells the right size meanwhile waits, and is served."""
    source, pool = Source(), SpoolPool(tmp_path, 10 * MIB, Events(), grace=0.02)
    source.gate.clear()
    wrong = asyncio.create_task(drain(pool, source.wanted(len(DATA) - 1)))
    await asyncio.sleep(0)
    right = asyncio.create_task(drain(pool, source.wanted()))
    await asyncio.sleep(0)
    source.gate.set()
    async with asyncio.timeout(30):
        with pytest.raises(DigestError):
            await wrong
        assert await right == DATA


async def test_a_bug_while_reading_reaches_all_readers(tmp_path: Path) -> None:
    """What nobody foresaw in a source ends every reader with an error that tells no text of it, and hangs none."""

    @contextlib.asynccontextmanager
    async def broken(offset: int) -> AsyncIterator[tuple[None, AsyncIterator[bytes]]]:
        raise ValueError(f"hunter2 at {offset}")
        yield

    pool = SpoolPool(tmp_path, MIB, Events())
    wanted = BlobSource(Digest.of(DATA), len(DATA), broken)
    async with asyncio.timeout(30):
        found = await asyncio.gather(drain(pool, wanted), whole(pool, wanted), return_exceptions=True)
    assert [type(error) for error in found] == [MirrordError, MirrordError]
    assert all("a bug: ValueError" in str(error) and "hunter2" not in str(error) for error in found)


async def test_a_file_that_cannot_be_opened_is_our_disk(tmp_path: Path) -> None:
    """A spool file that is gone, or too many open ones, is a StorageError that names the file."""
    source, pool = Source(), SpoolPool(tmp_path, 10 * MIB, Events())
    async with pool.reader(source.wanted(), "t") as reader:
        os.unlink(await reader.whole())  # noqa: PTH108 - the path is awaited
        reader.spool.recent.clear()  # a reader that does not keep up
        with pytest.raises(StorageError, match=f"sha256-{Digest.of(DATA).hex}"):
            await anext(reader.chunks())
