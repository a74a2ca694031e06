"""One digest, several sources: a slow, wrong or dead one is its own mirror's matter, and the next one goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source import BlobSource
from mirrord.blobs.source_queue import Patience
from mirrord.errors import (
    BrokenError,
    DigestError,
    MirrordError,
    MissingError,
    RestartedError,
    ServerError,
    UntrustedError,
)
from mirrord.events import Events
from mirrord.model.digest import Digest

DATA = bytes(range(256)) * 12_000  # about 3 MB
DIGEST = Digest.of(DATA)
STEP = 300_000  # more than a piece: what was given is written at once
QUICK = Patience(window=0.05, first=0.05, soon=1.0, again=3600.0)
"""A source that stands still for two windows is slow."""


class Host:
    """A source at the port: a host of its own, which does what the test says and counts what it is asked for."""

    def __init__(self, name: str, data: bytes = DATA, *, error: MirrordError | None = None) -> None:
        self.name, self.data, self.error = name, data, error
        self.asked: list[int] = []
        self.stops_at = len(data) + 1  # and waits there for the gate
        self.gate = asyncio.Event()
        self.stopped = asyncio.Event()
        self.twice = asyncio.Event()  # asked
        self.breaks_at = len(data) + 1
        self.given = 0

    @contextlib.asynccontextmanager
    async def open(self, offset: int) -> AsyncIterator[tuple[None, AsyncIterator[bytes]]]:
        self.asked.append(offset)
        if len(self.asked) > 1:
            self.twice.set()
        if self.error:
            raise self.error
        yield None, self._chunks(offset)

    async def _chunks(self, offset: int) -> AsyncIterator[bytes]:
        for at in range(offset, len(self.data), STEP):
            if at >= self.stops_at:
                self.stopped.set()
                await self.gate.wait()
            if at >= self.breaks_at:
                raise BrokenError(f"{self.name}: reset")
            await asyncio.sleep(0)
            yield self.data[at : at + STEP]

    def count(self, count: int) -> None:
        self.given += count

    def wanted(self, size: int = len(DATA)) -> BlobSource:
        return BlobSource(DIGEST, size, self.open, on_bytes=self.count, name=self.name)


async def take(pool: SpoolPool, wanted: BlobSource, consumer: str = "t") -> bytes:
    """Read as an upload does: from the start again when what came was wrong."""
    async with pool.reader(wanted, consumer) as reader:
        while True:
            try:
                return b"".join([chunk async for chunk in reader.chunks()])
            except RestartedError:
                continue


@pytest.fixture
def pool(tmp_path: Path) -> SpoolPool:
    return SpoolPool(tmp_path, 100 << 20, Events())


@pytest.fixture
def hasty(tmp_path: Path) -> SpoolPool:
    return SpoolPool(tmp_path, 100 << 20, Events(), patience=QUICK)


async def behind(pool: SpoolPool, evil: Host, good: Host, size: int = len(DATA)) -> tuple[bytes, object]:
    """Let `evil` be the first in line and `good` the second; return what the two mirrors got."""
    async with asyncio.timeout(60):
        first = asyncio.create_task(take(pool, evil.wanted(size), "evil"))
        mine = await asyncio.create_task(take(pool, good.wanted(), "good"))
        return mine, (await asyncio.gather(first, return_exceptions=True))[0]


async def test_who_delivers_is_the_only_one_asked(pool: SpoolPool) -> None:
    """Two mirrors with a source each, three targets each: one GET, as long as the source delivers."""
    one, two = Host("one"), Host("two")
    found = await asyncio.gather(
        *(take(pool, host.wanted(), f"{host.name}{n}") for n in range(3) for host in (one, two))
    )
    assert set(found) == {DATA}
    assert (one.asked, two.asked) == ([0], [])


@pytest.mark.parametrize("stops_at", [0, 3 * STEP], ids=["dead", "stalled"])
async def test_a_slow_source_is_left_for_the_next_one(hasty: SpoolPool, stops_at: int) -> None:
    """The healthy mirror goes on by its own source from the byte reached, and feeds the other one, too."""
    evil, good = Host("evil"), Host("good")
    evil.stops_at = stops_at
    assert await behind(hasty, evil, good) == (DATA, DATA)
    assert (evil.asked, good.asked) == ([0], [stops_at])
    assert (evil.given, good.given) == (stops_at, len(DATA) - stops_at)


@pytest.mark.parametrize(
    "error",
    [
        MissingError("evil: status 404", 404),
        UntrustedError("evil: 169.254.169.254 is an address of this machine", "address"),
        ValueError("evil: nobody foresaw this"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_is_told_to_its_own_mirror_only(pool: SpoolPool, error: MirrordError) -> None:
    """What is final for one source is told to the readers who have it, at once; the others get the blob."""
    evil, good = Host("evil", error=error), Host("good")
    got, told = await behind(pool, evil, good)
    assert got == DATA
    assert isinstance(told, MirrordError)
    assert "evil" in str(told) or "ValueError" in str(told)
    assert "good" not in str(told)
    assert (evil.asked, good.asked) == ([0], [0])


@pytest.mark.parametrize("error", [ServerError("evil: status 500"), BrokenError("evil: reset")])
async def test_a_source_that_breaks_gives_way(pool: SpoolPool, error: MirrordError) -> None:
    """What another try may heal costs the healthy mirror nothing: it goes on, and the other one is served as well."""
    evil, good = Host("evil", error=error), Host("good")
    assert await behind(pool, evil, good) == (DATA, DATA)
    assert (evil.asked, good.asked) == ([0], [0])


async def test_a_source_that_breaks_on_its_way_is_gone_on_from(pool: SpoolPool) -> None:
    """A reset in the middle: the other source is asked for the rest."""
    evil, good = Host("evil"), Host("good")
    evil.breaks_at = 4 * STEP
    assert await behind(pool, evil, good) == (DATA, DATA)
    assert (evil.asked, good.asked) == ([0], [4 * STEP])


async def test_everybody_gets_the_error_of_the_own_source(pool: SpoolPool) -> None:
    """When no source has it, each mirror hears of its own host."""
    hosts = [Host(name, error=MissingError(f"{name}: status 404", 404)) for name in ("one", "two", "three")]
    ends = await asyncio.gather(*(take(pool, host.wanted(), host.name) for host in hosts), return_exceptions=True)
    assert [str(end) for end in ends] == [f"{host.name}: status 404" for host in hosts]
    assert [host.asked for host in hosts] == [[0]] * 3


async def test_wrong_bytes_cost_no_more_than_a_new_beginning(pool: SpoolPool) -> None:
    """A source that brings other content twice is out; the healthy one brings the blob from its first byte."""
    evil, good = Host("evil", bytes(len(DATA))), Host("good")
    got, told = await behind(pool, evil, good)
    assert got == DATA
    assert told == DATA or (isinstance(told, DigestError) and "evil" in str(told))
    assert good.asked == [0]
    assert evil.asked in ([0], [0, 0])


async def test_wrong_bytes_alone_name_their_source(pool: SpoolPool) -> None:
    """A mirror whose only source lies twice hears which one."""
    evil = Host("evil", bytes(len(DATA)))
    with pytest.raises(DigestError, match=f"evil: {DIGEST}"):
        await take(pool, evil.wanted())
    assert evil.asked == [0, 0]


async def test_a_wrong_beginning_is_not_the_fault_of_who_goes_on(hasty: SpoolPool) -> None:
    """Wrong bytes, then a stall: who takes over brings the rest, sees the mismatch, and brings all of it alone."""
    evil, good = Host("evil", b"x" * STEP + DATA[STEP:]), Host("good")
    evil.stops_at = 4 * STEP
    assert await behind(hasty, evil, good) == (DATA, DATA)
    assert (evil.asked, good.asked) == ([0], [4 * STEP, 0])


async def test_a_wrong_end_is_not_the_fault_of_who_began(pool: SpoolPool) -> None:
    """A healthy source that broke, then wrong bytes: each brings the blob alone from then on, until one is right."""
    evil, good = Host("evil", DATA[:STEP] + bytes(len(DATA) - STEP)), Host("good")
    good.breaks_at = 5 * STEP
    async with asyncio.timeout(60):
        mine = asyncio.create_task(take(pool, good.wanted(), "good"))
        other = asyncio.create_task(take(pool, evil.wanted(), "evil"))
        await evil.twice.wait()
        good.breaks_at = len(DATA) + 1
        assert await mine == DATA
        await asyncio.gather(other, return_exceptions=True)
    assert good.asked == [0, 0]


@pytest.mark.parametrize("size", [len(DATA) * 10, len(DATA) - 1], ids=["larger", "smaller"])
async def test_a_wrong_size_is_a_spool_of_its_own(pool: SpoolPool, size: int) -> None:
    """Who was told a wrong size fails by itself; the healthy mirror does not wait for that."""
    evil, good = Host("evil"), Host("good")
    evil.stops_at = STEP
    async with asyncio.timeout(60):
        first = asyncio.create_task(take(pool, evil.wanted(size), "evil"))
        await evil.stopped.wait()
        assert await take(pool, good.wanted(), "good") == DATA
        evil.gate.set()
        with pytest.raises((DigestError, BrokenError), match="evil"):
            await first
    assert good.asked == [0]


async def test_a_mirror_that_leaves_does_not_stop_the_others(hasty: SpoolPool) -> None:
    """The reader whose source brings the blob goes away: the source goes on, and when it stops the next one does."""
    first, second = Host("first"), Host("second")
    first.stops_at = 2 * STEP
    async with asyncio.timeout(60):
        leaving = asyncio.create_task(take(hasty, first.wanted(), "first"))
        await first.stopped.wait()
        staying = asyncio.create_task(take(hasty, second.wanted(), "second"))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == DATA
    assert (first.asked, second.asked) == ([0], [2 * STEP])


async def test_the_last_chunk_waits_for_the_digest_across_sources(pool: SpoolPool) -> None:
    """However many sources brought it, nobody sees as many bytes as the blob has before they are known to be right."""
    evil, liar, seen = Host("evil"), Host("liar", bytes(len(DATA))), 0
    evil.breaks_at = 4 * STEP

    async def watch() -> None:
        nonlocal seen
        async with pool.reader(evil.wanted(), "evil") as reader:
            while True:
                count = 0
                try:
                    async for chunk in reader.chunks():
                        count += len(chunk)
                        seen = max(seen, count)
                except RestartedError:
                    continue
                return

    async with asyncio.timeout(60):
        ends = await asyncio.gather(watch(), take(pool, liar.wanted(), "liar"), return_exceptions=True)
    assert [type(end) for end in ends] == [BrokenError, DigestError]
    assert [name in str(end) for name, end in zip(("evil", "liar"), ends, strict=True)] == [True, True]
    assert seen < len(DATA)
