"""One loop feeds a consumer from a spool, whatever happens to the spool, its source and the consumer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.source import BlobSource
from mirrord.errors import BrokenError, DigestError, RefusedError
from mirrord.events import Events
from mirrord.model.digest import Digest
from mirrord.transfer.feed import feed

DATA = bytes(range(256)) * 4096


class Host:
    """A source that gives wrong bytes as often as it is told to, and counts how often it was asked.

    Attributes:
        begun: set when somebody has taken its first bytes; it gives the others then.
    """

    def __init__(self, lies: int = 0) -> None:
        self.lies, self.asked = lies, 0
        self.begun = asyncio.Event()

    @contextlib.asynccontextmanager
    async def open(self, offset: int) -> AsyncIterator[tuple[None, AsyncIterator[bytes]]]:
        self.asked += 1
        yield None, self._chunks(bytes(len(DATA)) if self.asked <= self.lies else DATA, offset)

    async def _chunks(self, data: bytes, offset: int) -> AsyncIterator[bytes]:
        yield data[offset : offset + 300_000]
        await self.begun.wait()
        yield data[offset + 300_000 :]

    def source(self) -> BlobSource:
        return BlobSource(Digest.of(DATA), len(DATA), self.open)


class Consumer:
    """Takes what it is fed; breaks off, as an upload does, without a word about why."""

    def __init__(self, host: Host) -> None:
        self.host, self.times = host, 0
        self.taken: list[bytes] = []

    async def take(self, reader: SpoolReader) -> None:
        self.times += 1
        try:
            self.taken = []
            async for chunk in reader.chunks():
                self.taken.append(chunk)
                self.host.begun.set()
        except DigestError as error:
            raise BrokenError("the connection ended") from error


@pytest.fixture
def pool(tmp_path: Path) -> SpoolPool:
    return SpoolPool(tmp_path, 100 << 20, Events())


async def test_wrong_bytes_are_sent_again(pool: SpoolPool) -> None:
    """A consumer that was given wrong bytes gets the right ones from the start."""
    host = Host(lies=1)
    consumer = Consumer(host)
    await feed(pool, host.source(), "m/t", "m/", consumer.take)
    assert b"".join(consumer.taken) == DATA
    assert (host.asked, consumer.times) == (2, 2)


async def test_the_cause_is_told(pool: SpoolPool) -> None:
    """What the source did is told, and not that the upload broke for it."""
    host = Host(lies=9)
    with pytest.raises(DigestError, match="digest mismatch"):
        await feed(pool, host.source(), "m/t", "m/", Consumer(host).take)


async def test_a_consumer_that_fails_is_its_own_cause(pool: SpoolPool) -> None:
    """What a target says is raised as it is, and it is not asked again."""
    host, asked = Host(), 0
    host.begun.set()

    async def refuse(reader: SpoolReader) -> None:
        nonlocal asked
        asked += 1
        await reader.whole()
        raise RefusedError("no")

    with pytest.raises(RefusedError, match="no"):
        await feed(pool, host.source(), "m/t", "m/", refuse)
    assert (host.asked, asked) == (1, 1)


async def test_who_was_sent_away_comes_back(pool: SpoolPool) -> None:
    """A consumer that was sent away for the budget is fed again, and the source is not asked again for what is kept."""
    host = Host()
    host.begun.set()
    consumer = Consumer(host)

    async def take(reader: SpoolReader) -> None:
        if not consumer.times:
            consumer.times += 1
            await reader.whole()
            reader.detach()
            raise BrokenError("the connection ended")
        await consumer.take(reader)

    await feed(pool, host.source(), "m/t", "m/", take)
    assert b"".join(consumer.taken) == DATA
    assert (host.asked, consumer.times) == (1, 2)
