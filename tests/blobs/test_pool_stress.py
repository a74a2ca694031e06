"""The pool under many parties, a small budget, breaking sources and readers that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.blobs import eviction
from mirrord.blobs.content_cache import ContentCache, open_cache
from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source import BlobSource
from mirrord.errors import BrokenError, DetachedError, RestartedError
from mirrord.events import Events
from mirrord.model.digest import Digest

BUDGET = 400_000
PARTIES = 4
BLOBS = 12


class Shaky:
    """A source whose reads break now and then; the moment is drawn from the test's own dice."""

    def __init__(self, data: bytes, dice: random.Random) -> None:
        self.data, self.dice = data, dice

    @contextlib.asynccontextmanager
    async def open(self, offset: int) -> AsyncIterator[tuple[None, AsyncIterator[bytes]]]:
        yield None, self._chunks(offset)

    async def _chunks(self, offset: int) -> AsyncIterator[bytes]:
        for at in range(offset, len(self.data), 10_000):
            for _ in range(self.dice.randrange(3)):
                await asyncio.sleep(0)
            if self.dice.random() < 0.02:
                raise BrokenError("reset")
            yield self.data[at : at + 10_000]


async def take(pool: SpoolPool, wanted: BlobSource, consumer: str, pace: int) -> bytes:
    """Read one blob the way an upload does: begin again when restarted or sent away."""
    away = False
    while True:
        try:
            async with (
                pool.defer(consumer, "m/") if away else contextlib.nullcontext(),
                pool.reader(wanted, consumer) as reader,
            ):
                parts = []
                async for chunk in reader.chunks():
                    parts.append(chunk)
                    for _ in range(pace):
                        await asyncio.sleep(0)
                return b"".join(parts)
        except DetachedError:
            away = True
        except (RestartedError, BrokenError):
            continue


@pytest.mark.parametrize("seed", range(8))
async def test_everybody_gets_everything_within_the_budget(tmp_path: Path, seed: int) -> None:
    """Every consumer gets every blob whole, the folder never holds more than the budget, and nothing hangs."""
    dice = random.Random(seed)
    blobs = [dice.randbytes(dice.randrange(1, 150_000)) for _ in range(BLOBS)]
    pool = SpoolPool(tmp_path, BUDGET, Events(), grace=0.01)
    largest = 0

    async def consumer(name: str, pace: int) -> None:
        nonlocal largest
        order = dice.sample(range(BLOBS), BLOBS)
        with pool.uploading(name, "m/"):
            for group in (order[:4], order[4:8], order[8:]):
                found = await asyncio.gather(
                    *(
                        take(
                            pool, BlobSource(Digest.of(blobs[n]), len(blobs[n]), Shaky(blobs[n], dice).open), name, pace
                        )
                        for n in group
                    )
                )
                assert found == [blobs[n] for n in group]
                largest = max(largest, sum(file.stat().st_size for file in tmp_path.iterdir()))

    async with asyncio.timeout(60):
        await asyncio.gather(*(consumer(f"p{n}", pace) for n, pace in enumerate((0, 0, 3, 200)[:PARTIES])))
    assert largest <= BUDGET
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("read ") and not task.done()]


@pytest.mark.parametrize("seed", range(8))
async def test_clients_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Clients begin anywhere and leave at any moment, and the cache evicts: no byte is wrong, and totals add up."""
    dice = random.Random(seed)
    blobs = [dice.randbytes(dice.randrange(1, 150_000)) for _ in range(BLOBS)]
    (tmp_path / "spool").mkdir()
    pool = SpoolPool(tmp_path / "spool", BUDGET, Events(), grace=0.01)
    whole = 0

    async def client(cache: ContentCache) -> None:
        nonlocal whole
        data = dice.choice(blobs)
        digest, offset, leaves = Digest.of(data), dice.randrange(len(data)), dice.choice((0.0, 0.1, 1.0))
        got = b""
        if await cache.store.find(digest) is not None:
            return
        source = BlobSource(digest, len(data), Shaky(data, dice).open)
        try:
            async with pool.reader(source, "client", offset=offset, client=True, keep=cache.keep) as reader:
                async for chunk in reader.chunks():
                    got += chunk
                    for _ in range(dice.randrange(4)):
                        await asyncio.sleep(0)
                    if dice.random() < leaves:
                        break
                else:
                    assert got == data[offset:]
                    whole += 1
        except BrokenError:  # its source broke too often
            pass
        assert data[offset:].startswith(got)

    async with asyncio.timeout(60), open_cache(tmp_path / "cache", pool) as cache:
        await cache.limits(BUDGET)
        for _ in range(20):
            await asyncio.gather(*(client(cache) for _ in range(10)))
            assert pool.cache.used <= BUDGET
        await pool.aclose()
        await cache.store.aclose()
        monkeypatch.setattr(eviction, "JUST", -1.0)
        await cache.store.evict()
        files = [file for file in (tmp_path / "cache" / "blobs").rglob("*") if file.is_file()]
        assert cache.standing().size == sum(file.stat().st_size for file in files) <= BUDGET
        assert {Digest.of(file.read_bytes()).hex for file in files} == {file.name for file in files}
    assert whole
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("read ") and not task.done()]
