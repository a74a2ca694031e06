"""The pool under many parties, a small budget, breaking sources and readers that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

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
