"""The spool: one writer, many tailing readers, the last chunk withheld."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source import BlobSource
from mirrord.blobs.spool import WITHHELD
from mirrord.errors import BrokenError, DetachedError, DigestError, RestartedError, StorageError
from mirrord.events import BytesRead, BytesSent, Events
from mirrord.model.digest import Digest

MIB = 1 << 20


class Source:
    """A source at the port: yields what the test releases, and counts how often it was asked from where."""

    def __init__(self, data: bytes, step: int = 100_000) -> None:
        self.data, self.step = data, step
        self.asked: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.hold_at = len(data) + 1
        self.break_at: list[int] = []
        self.lies = 0

    @contextlib.asynccontextmanager
    async def open(self, offset: int) -> AsyncIterator[tuple[None, AsyncIterator[bytes]]]:
        self.asked.append(offset)
        yield None, self._chunks(offset)

    async def _chunks(self, offset: int) -> AsyncIterator[bytes]:
        data = self.data
        if self.lies:
            self.lies -= 1
            data = bytes(len(data))
        for at in range(offset, len(data), self.step):
            if at >= self.hold_at:
                await self.gate.wait()
            if self.break_at and at >= self.break_at[0]:
                self.break_at.pop(0)
                raise BrokenError("reset")
            yield data[at : at + self.step]

    def wanted(self) -> BlobSource:
        return BlobSource(Digest.of(self.data), len(self.data), self.open)


def data_of(size: int, seed: int = 1) -> bytes:
    """Return `size` bytes that differ from seed to seed."""
    return (bytes([seed]) + bytes(range(256)) * (size // 256 + 1))[:size]


@pytest.fixture
def pool(tmp_path: Path) -> SpoolPool:
    return SpoolPool(tmp_path, 100 * MIB, Events())


async def drain(pool: SpoolPool, wanted: BlobSource, consumer: str = "t") -> bytes:
    async with pool.reader(wanted, consumer) as reader:
        return b"".join([chunk async for chunk in reader.chunks()])


async def test_many_readers_one_read(pool: SpoolPool) -> None:
    """Three targets get the same bytes and the source is asked once."""
    source = Source(data_of(3 * MIB))
    found = await asyncio.gather(*(drain(pool, source.wanted(), f"t{n}") for n in range(3)))
    assert found == [source.data] * 3
    assert source.asked == [0]


async def test_readers_run_ahead_of_the_source_end(pool: SpoolPool) -> None:
    """A reader has its first byte while the source is still held in the middle."""
    source = Source(data_of(3 * MIB))
    source.hold_at = 2 * MIB
    source.gate.clear()
    async with pool.reader(source.wanted(), "t") as reader:
        chunks = reader.chunks()
        first = await anext(chunks)
        assert first
        assert not reader.spool.verified
        source.gate.set()
        assert first + b"".join([chunk async for chunk in chunks]) == source.data


async def test_last_chunk_is_withheld_until_verified(pool: SpoolPool) -> None:
    """With all bytes but the last step there, no reader sees into the withheld part."""
    source = Source(data_of(2 * MIB))
    source.hold_at = 20 * source.step
    source.gate.clear()
    async with pool.reader(source.wanted(), "t") as reader:
        seen = 0
        chunks = reader.chunks()
        while seen < len(source.data) - max(WITHHELD, len(source.data) - source.hold_at):
            seen += len(await anext(chunks))
        assert seen <= len(source.data) - WITHHELD
        source.gate.set()
        rest = [chunk async for chunk in chunks]
        assert seen + sum(map(len, rest)) == len(source.data)


@pytest.mark.parametrize("size", [1, 2, WITHHELD - 1, WITHHELD, WITHHELD + 1])
async def test_wrong_content_never_ends(pool: SpoolPool, size: int) -> None:
    """A source that lies twice ends in DigestError, and no reader ever gets as many bytes as the blob has."""
    source = Source(data_of(size))
    source.lies = 2
    seen = 0
    with pytest.raises(DigestError):  # noqa: PT012 - leaving the reader is part of what may raise
        async with pool.reader(source.wanted(), "t") as reader:
            async for chunk in reader.chunks():
                seen += len(chunk)
    assert seen < size


async def test_one_lie_is_healed_by_one_clean_read(pool: SpoolPool) -> None:
    """Wrong bytes once: read again from the start, and the bytes are right (fault F17)."""
    source = Source(data_of(1000))
    source.lies = 1
    async with pool.reader(source.wanted(), "t") as reader:
        try:
            found = b"".join([chunk async for chunk in reader.chunks()])
        except RestartedError:
            found = b"".join([chunk async for chunk in reader.chunks()])
    assert found == source.data
    assert source.asked == [0, 0]


async def test_broken_source_is_resumed_where_it_broke(pool: SpoolPool) -> None:
    """A reset in the middle costs one more request, from the offset that was reached."""
    source = Source(data_of(3 * MIB))
    source.break_at = [20 * source.step]
    assert await drain(pool, source.wanted()) == source.data
    assert source.asked == [0, 20 * source.step]


async def test_source_that_always_breaks_ends(pool: SpoolPool) -> None:
    """A source that breaks without bringing anything is given up after a few tries."""
    source = Source(data_of(1000))
    source.break_at = [0] * 50
    with pytest.raises(BrokenError):
        await drain(pool, source.wanted())
    assert 1 < len(source.asked) < 10


async def test_too_long_source_is_cut(pool: SpoolPool) -> None:
    """Bad input 36: size + 1 bytes are refused, as are size - 1."""
    source = Source(data_of(1000))
    for size in (999, 1001):
        wanted = BlobSource(Digest.of(source.data), size, source.open)
        with pytest.raises((DigestError, BrokenError)):
            await drain(pool, wanted)


async def test_empty_blob_needs_no_request(pool: SpoolPool) -> None:
    """The empty blob is known without asking."""
    source = Source(b"")
    assert await drain(pool, source.wanted()) == b""
    assert source.asked == []


async def test_unfinished_blob_is_taken_up(pool: SpoolPool) -> None:
    """When all readers leave, reading stops; the next reader asks for the rest only."""
    source = Source(data_of(3 * MIB))
    source.hold_at = 20 * source.step
    source.gate.clear()
    async with pool.reader(source.wanted(), "t") as reader:
        while reader.spool.written < source.hold_at:
            await reader.spool.changed()
    source.gate.set()
    assert await drain(pool, source.wanted()) == source.data
    assert source.asked == [0, source.hold_at]


async def test_sweep_keeps_whole_blobs_and_drops_the_rest(tmp_path: Path) -> None:
    """After a crash unfinished blobs and strays are gone, whole ones serve without a request."""
    source = Source(data_of(1000))
    (tmp_path / f"sha256-{Digest.of(source.data).hex}").write_bytes(source.data)
    for name in (".part", ".9.part", f".{'0' * 32}.part"):  # two of earlier versions
        (tmp_path / f"sha256-{'0' * 64}{name}").write_bytes(b"x")
    (tmp_path / "stray").write_bytes(b"x")
    pool = SpoolPool(tmp_path, MIB, Events())
    pool.cache.sweep()
    assert [file.name for file in tmp_path.iterdir()] == [f"sha256-{Digest.of(source.data).hex}"]
    assert await drain(pool, source.wanted()) == source.data
    assert source.asked == []


async def test_cache_stays_within_its_budget(tmp_path: Path) -> None:
    """Whole blobs are kept for the next image until the budget needs their room: the oldest goes first."""
    pool = SpoolPool(tmp_path, 2500, Events())
    sources = [Source(data_of(1000, seed)) for seed in range(3)]
    for source in sources:
        await drain(pool, source.wanted())
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 2500
    for source in sources[1:]:
        await drain(pool, source.wanted())
    assert [source.asked for source in sources] == [[0], [0], [0]]
    await drain(pool, sources[0].wanted())
    assert sources[0].asked == [0, 0]


async def test_blob_larger_than_the_budget_is_named(tmp_path: Path) -> None:
    """A blob that can never fit is refused at once, with the setting to raise."""
    source = Source(data_of(1000))
    with pytest.raises(StorageError, match=r"spool\.budget"):
        await drain(SpoolPool(tmp_path, 999, Events()), source.wanted())
    assert source.asked == []


async def test_laggard_is_sent_away_for_the_budget(tmp_path: Path) -> None:
    """A reader that holds room others need is detached, comes back when they are through, and gets everything."""
    pool = SpoolPool(tmp_path, 3 * MIB, Events(), grace=0.05)
    first, second = Source(data_of(2 * MIB, 1)), Source(data_of(2 * MIB, 2))

    async def slow() -> tuple[bool, bytes]:
        with pool.uploading("slow", "m/"):
            with contextlib.suppress(DetachedError):
                async with pool.reader(first.wanted(), "slow") as reader:
                    await anext(reader.chunks())
                    await asyncio.Event().wait()  # a target that takes nothing any more
            async with pool.defer("slow", "m/"):
                return reader.detached, await drain(pool, first.wanted(), "slow")

    async def fast() -> bytes:
        with pool.uploading("fast", "m/"):
            await drain(pool, first.wanted(), "fast")
            return await drain(pool, second.wanted(), "fast")

    (detached, late), prompt = await asyncio.gather(slow(), fast())
    assert detached
    assert (late, prompt) == (first.data, second.data)
    assert first.asked == [0, 0]


async def test_local_file_is_read_in_place(pool: SpoolPool, tmp_path: Path) -> None:
    """A blob of a layout is verified and handed out where it lies; the spool folder stays empty."""
    data = data_of(2 * MIB)
    folder = tmp_path / "layout"
    folder.mkdir()
    file = folder / "blob"
    file.write_bytes(b"head" + data)
    wanted = BlobSource(Digest.of(data), len(data), file=file, start=4)
    assert await drain(pool, wanted) == data
    assert [entry.name for entry in tmp_path.iterdir()] == ["layout"]
    file.write_bytes(b"head" + bytes(len(data)))
    with pytest.raises(DigestError):
        await drain(pool, wanted)


async def test_everything_is_told(tmp_path: Path) -> None:
    """Events add up to the bytes read and the bytes handed to each consumer."""
    events = Events()
    read: list[int] = []
    sent: list[int] = []
    events.listen(lambda event: read.append(event.fresh) if isinstance(event, BytesRead) else None)
    events.listen(lambda event: sent.append(event.fresh) if isinstance(event, BytesSent) else None)
    source = Source(data_of(3 * MIB))
    pool = SpoolPool(tmp_path, 10 * MIB, events)
    await asyncio.gather(*(drain(pool, source.wanted(), f"t{n}") for n in range(2)))
    assert (sum(read), sum(sent)) == (3 * MIB, 6 * MIB)


async def test_upload_waits_for_a_slow_source(pool: SpoolPool) -> None:
    """A PUT does not start while the source needs longer than the bound, and starts when it is through."""
    source = Source(data_of(3 * MIB))
    source.hold_at = source.step
    source.gate.clear()
    async with pool.reader(source.wanted(), "t") as reader:
        while not reader.spool.written:
            await reader.spool.changed()
        reader.spool.began -= 3600  # as if these bytes had taken an hour
        waiting = asyncio.create_task(reader.worth_sending())
        await asyncio.sleep(0)
        assert not waiting.done()
        source.gate.set()
        await waiting
        assert reader.spool.verified or reader.spool.written > source.step


async def test_a_lent_file_is_its_owner_s(pool: SpoolPool, tmp_path: Path) -> None:
    """Two mirrors lend files with the same content: when one takes its own away the other's is still there."""
    data = data_of(2 * MIB)
    files = [tmp_path / name for name in ("one", "two")]
    for file in files:
        file.write_bytes(data)
    one, two = (BlobSource(Digest.of(data), len(data), file=file) for file in files)
    async with pool.reader(two, "two") as theirs:
        async with pool.reader(one, "one") as mine:
            assert await mine.whole() == files[0]
        files[0].unlink()
        assert await theirs.whole() == files[1]
        assert b"".join([chunk async for chunk in theirs.chunks()]) == data


async def test_a_lent_file_is_lent_to_nobody_else(pool: SpoolPool, tmp_path: Path) -> None:
    """Who has a source for what another mirror lends a file of reads the source: the file may go at any moment."""
    source = Source(data_of(2 * MIB))
    file = tmp_path / "lent"
    file.write_bytes(source.data)
    async with pool.reader(BlobSource(Digest.of(source.data), len(source.data), file=file), "lender") as reader:
        await reader.whole()
        async with pool.reader(source.wanted(), "t") as other:
            assert await other.whole() != file
    assert source.asked == [0]
