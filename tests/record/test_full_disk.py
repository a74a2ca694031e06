"""The record on a disk that is really full: what is held for it is given up, and what cannot be written is owed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from mirrord.blobs import reserve
from mirrord.errors import StorageError, UnreachableError
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.record.sql_store import SqlStore
from mirrord.record.store import open_store
from tests.support.disks import fill, small_disk

MIB = 1 << 20
NOW = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    try:
        with small_disk(tmp_path / "disk", reserve.RESERVE + 40 * MIB) as made:
            yield made
    except UnreachableError as error:
        pytest.skip(str(error))


def large(mirror: str, minute: int = 0) -> Run:
    """Return a run that takes megabytes to write down."""
    steps = [Step(Action.COPY, f"{'v' * 1000}{n}", f"sha256:{n}", "t", (), "not there") for n in range(2000)]
    at = NOW + timedelta(minutes=minute)
    plan = Plan(mirror, "image", at, tuple(steps))
    return Run(mirror, "image", "schedule", at, at, plan=plan, receipts=tuple(Receipt(s, Outcome.DONE) for s in steps))


def opened(disk: Path, relief: Callable[[], bool]) -> asyncio.Task[SqlStore]:
    return asyncio.ensure_future(open_store(disk / "mirrord.db", NOW, relief))


async def test_what_is_held_is_given_up_for_it(disk: Path) -> None:
    """Whoever filled the disk, a run is written down: with the room that lay in a file for that (F8)."""
    store = await opened(disk, partial(reserve.give_up, disk))
    reserve.keep(disk)
    fill(disk / "filler")
    assert reserve.free(disk) == 0
    await store.add_run(large("m"))
    assert len(await store.memory("m")) == 2000
    with pytest.raises(StorageError, match="reserved for the database; free some space"):
        reserve.keep(disk)
    (disk / "filler").unlink()
    reserve.keep(disk)
    assert (disk / reserve.FILE).stat().st_blocks * 512 == reserve.HELD
    await store.close()


async def test_what_cannot_be_written_is_written_when_it_can_be(disk: Path) -> None:
    """Without any room a run fails to be recorded, and so do the next ones; when there is room all of them are."""
    store = await opened(disk, lambda: False)
    fill(disk / "filler")
    for minute in range(2):
        with pytest.raises(StorageError, match="full"):
            await store.add_run(large("m", minute))
    with pytest.raises(StorageError, match="full"):
        await store.check()
    assert await store.runs("m") == []
    (disk / "filler").unlink()
    await store.check()
    assert [run.started for run in await store.runs("m")] == [NOW + timedelta(minutes=1), NOW]
    assert len(await store.memory("m")) == 2000
    await store.close()


async def test_a_full_disk_that_has_a_reserve_can_be_opened(disk: Path) -> None:
    """A process that was killed left its reserve: the next one begins a record on a disk that is full otherwise."""
    reserve.keep(disk)
    fill(disk / "filler")
    store = await opened(disk, partial(reserve.give_up, disk))
    await store.add_run(large("m"))
    assert [run.mirror for run in await store.runs("m")] == ["m"]
    assert len(await store.memory("m")) == 2000
    await store.close()


async def test_a_change_that_can_never_be_made_is_not_owed(tmp_path: Path) -> None:
    """What fails for another reason than the disk does not stand in the way of later runs."""
    store = await open_store(tmp_path / "mirrord.db", NOW)
    bad = Run("m", "image", "schedule", NOW, NOW, read=1 << 80)  # no integer of SQLite's
    with pytest.raises((StorageError, OverflowError)):
        await store.add_run(bad)
    await store.check()
    await store.add_run(Run("m", "image", "schedule", NOW, NOW))
    assert len(await store.runs("m")) == 1
    await store.close()
