"""Content of which nobody knows the digest, or the size, beforehand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.source import BlobSource
from mirrord.blobs.spool import WITHHELD
from mirrord.errors import BrokenError, DigestError, MirrordError, RestartedError, StorageError, TooLargeError
from mirrord.events import Events
from mirrord.model.digest import Digest
from mirrord.transfer.feed import feed

MIB = 1 << 20
DATA = bytes(range(256)) * 8192  # 2 MiB
STEP = 1 << 18


@dataclass
class Host:
    """A source that says how long its content is, or does not, and stops or breaks where it is told to."""

    data: bytes = DATA
    says: int | None = None
    stops_at: int = -1
    breaks_at: list[int] = field(default_factory=list)
    resumes: bool = True
    asked: list[int] = field(default_factory=list)
    given: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0

    @contextlib.asynccontextmanager
    async def open(self, offset: int) -> AsyncIterator[tuple[int | None, AsyncIterator[bytes]]]:
        if offset and not self.resumes:
            raise RestartedError("nobody knows what it would belong to")
        self.asked.append(offset)
        self.begun.set()
        self.connections += 1
        try:
            yield self.says, self._chunks(offset)
        finally:
            self.connections -= 1

    async def _chunks(self, offset: int) -> AsyncIterator[bytes]:
        for at in range(offset, len(self.data), STEP):
            if at == self.stops_at:
                self.stopped.set()
                await self.gate.wait()
            if self.breaks_at and at == self.breaks_at[0]:
                del self.breaks_at[0]
                raise BrokenError("reset")
            piece = self.data[at : at + STEP]
            self.given += len(piece)
            yield piece

    def source(self, digest: Digest | None = None, limit: int | None = None) -> BlobSource:
        return BlobSource(digest, None, self.open, limit=limit)


@pytest.fixture
def pool(tmp_path: Path) -> SpoolPool:
    return SpoolPool(tmp_path, 100 * MIB, Events())


async def take(pool: SpoolPool, source: BlobSource, consumer: str = "m/t") -> tuple[bytes, Digest]:
    """Read all, again from the start when that is wanted."""
    async with pool.reader(source, consumer) as reader:
        while True:
            try:
                data = b"".join([chunk async for chunk in reader.chunks()])
            except RestartedError:
                continue
            assert reader.size == len(data)
            return data, reader.digest


KNOWN = {"by its digest only": Digest.of(DATA), "by nothing": None}


@pytest.mark.parametrize("says", [len(DATA), None], ids=["with a length", "without"])
@pytest.mark.parametrize("digest", KNOWN.values(), ids=KNOWN)
async def test_one_request(digest: Digest | None, says: int | None, pool: SpoolPool) -> None:
    """Many readers share one request; at the end all know digest and size, and the blob is in the cache under both."""
    host = Host(says=says)
    source = host.source(digest)
    taken = await asyncio.gather(*(take(pool, source, f"m/{number}") for number in range(3)))
    assert taken == [(DATA, Digest.of(DATA))] * 3
    assert (host.asked, host.given) == ([0], len(DATA))
    assert (await take(pool, BlobSource(Digest.of(DATA), len(DATA), Host().open)))[0] == DATA
    assert host.asked == [0]


async def test_what_nobody_knows_is_asked_for_each_time(pool: SpoolPool, tmp_path: Path) -> None:
    """It may be something else by now; where it is not it takes no more room than once."""
    host = Host()
    for _ in range(2):
        assert (await take(pool, host.source()))[0] == DATA
    assert host.asked == [0, 0]
    assert [file.name for file in tmp_path.iterdir()] == [f"sha256-{Digest.of(DATA).hex}"]
    host.data = DATA[::-1]
    assert (await take(pool, host.source()))[1] == Digest.of(DATA[::-1])


@pytest.mark.parametrize("says", [len(DATA), None], ids=["with a length", "without"])
@pytest.mark.parametrize("digest", KNOWN.values(), ids=KNOWN)
async def test_the_last_chunk_is_withheld(digest: Digest | None, says: int | None, pool: SpoolPool) -> None:
    """Nobody gets the last bytes before all of it has come and, where there is a digest, is right."""
    host = Host(says=says, stops_at=len(DATA) - STEP)
    async with pool.reader(host.source(digest), "m/t") as reader:
        await host.stopped.wait()
        while reader.spool.written < host.stops_at:
            await reader.spool.changed()
        assert await reader.answered() == says
        assert reader.spool.visible == host.stops_at - (0 if says else WITHHELD)
        assert not reader.spool.verified
        host.gate.set()
        assert b"".join([chunk async for chunk in reader.chunks()]) == DATA


async def test_a_wrong_digest_never_ends(pool: SpoolPool) -> None:
    """A digest that is known is held to, whatever the source says of its length; the source is asked once more."""
    host = Host(says=len(DATA))
    with pytest.raises(DigestError, match="digest mismatch"):
        await take(pool, host.source(Digest.of(b"something else")))
    assert host.asked == [0, 0]


@pytest.mark.parametrize("says", [2 * MIB, None], ids=["announced", "found out"])
async def test_a_limit_is_kept(says: int | None, pool: SpoolPool, tmp_path: Path) -> None:
    """More than the caller allows is not read, and what is announced to be more not begun; nothing stays behind."""
    host = Host(says=says)
    with pytest.raises(TooLargeError, match="more than 1048576 bytes"):
        await take(pool, host.source(limit=MIB))
    assert host.asked == [0]
    assert host.given <= (STEP if says else MIB + 2 * STEP)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("resumes", [True, False], ids=["the same for sure", "perhaps another one"])
async def test_a_break(resumes: bool, pool: SpoolPool) -> None:
    """A source that breaks is gone on with where it vouches for the rest, and else asked for all of it again."""
    host = Host(breaks_at=[MIB], resumes=resumes)
    assert (await take(pool, host.source()))[0] == DATA
    assert host.asked == [0, MIB if resumes else 0]


async def test_a_length_that_changes(pool: SpoolPool) -> None:
    """What has another length by the time that it is gone on with is read from the start."""
    host = Host(says=len(DATA), breaks_at=[MIB])

    @contextlib.asynccontextmanager
    async def opened(offset: int) -> AsyncIterator[tuple[int | None, AsyncIterator[bytes]]]:
        if offset:
            host.data, host.says = DATA * 2, 2 * len(DATA)
        async with host.open(offset) as answer:
            yield answer

    assert (await take(pool, BlobSource(None, None, opened)))[0] == DATA * 2
    assert host.asked == [0, MIB, 0]


async def test_nothing_at_all(pool: SpoolPool) -> None:
    """Content may be empty; a source that has nothing where there should be something is asked once more."""
    assert await take(pool, Host(b"").source()) == (b"", Digest.of(b""))
    empty = Host(b"")
    with pytest.raises(DigestError):
        await take(pool, empty.source(Digest.of(DATA)))
    assert empty.asked == [0, 0]


@pytest.mark.parametrize("says", [2 * MIB, None], ids=["announced", "found out"])
async def test_more_than_the_budget(says: int | None, tmp_path: Path) -> None:
    """What does not fit the budget is told as such, and nothing of it stays."""
    host, pool = Host(says=says), SpoolPool(tmp_path, MIB, Events())
    with pytest.raises(StorageError, match=r"more than spool\.budget"):
        await take(pool, host.source())
    assert host.asked == [0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("says", [MIB, None], ids=["announced", "found out"])
async def test_room_is_waited_for_without_a_connection(says: int | None, tmp_path: Path) -> None:
    """While others have the room no connection is held; then the source is asked again."""
    host, held = Host(DATA[:MIB], says=says), Host(DATA[::-1][: 2 * MIB - STEP])
    pool = SpoolPool(tmp_path, 2 * MIB, Events(), grace=0.02)
    async with pool.reader(BlobSource(Digest.of(held.data), len(held.data), held.open), "m/other") as other:
        await other.whole()
        taking = asyncio.create_task(take(pool, host.source(limit=MIB)))
        await host.begun.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.shield(taking)
        assert (host.asked, host.connections) == ([0], 0)
    assert (await taking)[0] == host.data
    assert host.asked == [0, 0]


async def test_two_that_grow_do_not_wait_for_one_another(tmp_path: Path) -> None:
    """Two of unknown length that fit the budget one by one, and not together, both come."""
    pool = SpoolPool(tmp_path, 8 * MIB, Events(), grace=0.02)
    hosts = {"m/one": Host(DATA * 3), "m/two": Host(DATA[::-1] * 3)}
    got: dict[str, bytes] = {}

    async def send(reader: SpoolReader) -> None:
        got[reader.consumer] = b"".join([chunk async for chunk in reader.chunks()])

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for name, host in hosts.items():
            group.create_task(feed(pool, host.source(), name, "m/", send))
    assert got == {name: host.data for name, host in hosts.items()}


async def test_another_read_of_the_same_digest(pool: SpoolPool) -> None:
    """A blob whose digest turns out to be that of one that is being read disturbs nobody."""
    slow, fast = Host(stops_at=MIB), Host()
    known = BlobSource(Digest.of(DATA), len(DATA), slow.open)
    first = asyncio.create_task(take(pool, known))
    await slow.stopped.wait()
    assert (await take(pool, fast.source(), "m/other"))[0] == DATA
    slow.gate.set()
    assert (await first)[0] == DATA
    assert (slow.asked, fast.asked) == ([0], [0])


async def test_errors_are_of_the_source(pool: SpoolPool) -> None:
    """What a source says when it is asked is what its readers hear, and it is tried again the next time."""
    error = MirrordError("no")

    @contextlib.asynccontextmanager
    async def refuses(_: int) -> AsyncIterator[tuple[int | None, AsyncIterator[bytes]]]:
        raise error
        yield

    for _ in range(2):
        with pytest.raises(MirrordError) as caught:
            await take(pool, BlobSource(None, None, refuses))
        assert caught.value is error
