"""Runs in which a process was killed: found when the next one begins, and recorded once, as no failure."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirrord.errors import StorageError
from mirrord.model.ledger import LedgerEntry
from mirrord.model.remote import RunCutOff
from mirrord.model.run import Result, Run
from mirrord.record import cut_off
from mirrord.record.cut_off import RUNNING, CutOff, left_behind, marked, record_cut_off
from mirrord.record.leases import OwnLeases
from mirrord.record.store import Store, open_store
from tests.support.fleets import until

T0 = datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC)
LATER = T0 + timedelta(minutes=5)
KINDS = {"m": "image"}
CUT = CutOff("m", "command", T0, LATER)
BEFORE = Run("m", "image", "schedule", T0 - timedelta(hours=1), T0 - timedelta(minutes=59), error="no", code="server")


async def test_it_is_no_failure(store: Store, tmp_path: Path) -> None:
    """It is an attempt that ended with its last sign of life; failures of before are counted on, and nothing is due."""
    again = T0 + timedelta(hours=2)
    await store.add_run(BEFORE)
    await store.add_run(replace(BEFORE, code="throttled", until=again))
    [told] = await record_cut_off(store, [CUT, CutOff("gone", "command", T0, T0)], KINDS, tmp_path)
    assert told == RunCutOff("m", "image", "command", T0, 300.0)
    run = (await store.runs("m"))[0]
    about = run.trigger, run.started, run.finished, run.result, run.code, run.targets
    assert about == ("command", T0, LATER, Result.INTERRUPTED, "interrupted", ())
    [whole] = await store.standing("m")
    assert (whole.result, whole.failures, whole.last_attempt, whole.last_success) == ("interrupted", 1, LATER, None)
    assert whole.until == again
    assert (await store.days("m"))[-1].failed == 1
    assert await store.runs("gone") == []


async def test_once(store: Store, tmp_path: Path) -> None:
    """Two may find the same one; and one whose process was killed after it had recorded it is recorded already."""
    ended = Run("m", "image", "command", T0 + timedelta(seconds=1), LATER)
    for _ in range(2):
        await record_cut_off(
            store, [CUT, replace(CUT, began=T0 + timedelta(seconds=2), replica="one")], KINDS, tmp_path
        )
    assert [run.replica for run in await store.runs("m")] == ["one", ""]
    await store.add_run(replace(ended, mirror="n"))
    assert await record_cut_off(store, [replace(CUT, mirror="n")], {"n": "image"}, tmp_path) == ()
    assert len(await record_cut_off(store, [replace(CUT, mirror="n", trigger="prune")], {"n": "image"}, tmp_path)) == 1


async def test_it_began_when_its_moves_say(store: Store, tmp_path: Path) -> None:
    """Its moves in the ledger are those of the run in the history, so that it can be undone."""
    began = T0 + timedelta(milliseconds=3)
    moves = [LedgerEntry("m", "a", "v1", "here", None, "sha256:1", at, at) for at in (BEFORE.started, began)]
    await store.intend(moves)
    [told] = await record_cut_off(store, [CUT], KINDS, tmp_path)
    assert told.started == began == (await store.runs("m"))[0].started


async def test_marks(tmp_path: Path) -> None:
    """A mark is there while a run is under way, also one that is cancelled as it begins, and not of what shares."""
    folder = tmp_path / RUNNING
    leases, record = OwnLeases(folder), tmp_path / "mirrord.db"
    assert left_behind(tmp_path, record) == []
    async with leases.hold("m", trigger="schedule"), leases.hold("n", shared=True), leases.hold("o"):
        assert [file.name for file in folder.iterdir()] == ["m.schedule"]
        record.touch()
        sign = record.stat().st_mtime + 100
        os.utime(record, (sign, sign))
        [found] = left_behind(tmp_path, record)
        assert (found.mirror, found.trigger, found.replica) == ("m", "schedule", "")
        assert found.began.timestamp() == pytest.approx((folder / "m.schedule").stat().st_mtime)
        assert found.seen.timestamp() == pytest.approx(sign)
    assert left_behind(tmp_path, record) == []

    async def hold() -> None:
        async with marked(folder, "m", "schedule"):
            await asyncio.Event().wait()

    for _ in range(20):
        task = asyncio.create_task(hold())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert list(folder.iterdir()) == []
    task = asyncio.create_task(hold())
    await until(lambda: list(folder.iterdir()))
    task.cancel()
    await asyncio.wait([task])
    assert list(folder.iterdir()) == []


async def test_a_run_that_is_cancelled_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run of the mirror waits until the mark is gone, so that its own is not removed instead."""
    reached, go, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()
    mark, remove = tmp_path / RUNNING / "m.schedule", cut_off._remove

    def late(path: Path) -> None:
        loop.call_soon_threadsafe(reached.set)
        go.wait()
        remove(path)

    async def hold() -> bool:
        async with leases.hold("m", trigger="schedule"):
            return mark.exists()

    leases = OwnLeases(tmp_path / RUNNING)
    monkeypatch.setattr(cut_off, "_remove", late)
    first = asyncio.create_task(hold())
    await reached.wait()
    first.cancel()
    second = asyncio.create_task(hold())
    for _ in range(20):
        await asyncio.sleep(0)
    early = first.done()
    go.set()
    assert await second
    assert first.cancelled()
    assert not early


async def test_a_place_where_no_mark_can_be(tmp_path: Path) -> None:
    """It stops no run."""
    (tmp_path / RUNNING).write_text("a file")
    async with OwnLeases(tmp_path / RUNNING).hold("m", trigger="schedule") as lease:
        assert lease.mirror == "m"
    assert left_behind(tmp_path, tmp_path / "mirrord.db") == []


async def test_what_is_no_mark(tmp_path: Path) -> None:
    """It is passed over, and hides no mark."""
    folder = tmp_path / RUNNING
    folder.mkdir()
    (folder / "a.schedule").symlink_to("nowhere")
    (folder / "b.schedule").mkdir()
    (folder / "m.schedule").touch()
    assert [one.mirror for one in left_behind(tmp_path, tmp_path / "mirrord.db")] == ["m"]


async def test_a_record_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark stays until the next start, which records it."""
    mark = tmp_path / RUNNING / "m.command"
    mark.parent.mkdir()
    mark.touch()
    store = await open_store(tmp_path / "mirrord.db", T0)
    found = left_behind(tmp_path, tmp_path / "mirrord.db")

    async def full(*_: object, **__: object) -> None:
        raise StorageError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(store, "add_run", full)
        assert await record_cut_off(store, found, KINDS, tmp_path) == ()
    assert mark.exists()
    assert len(await record_cut_off(store, found, KINDS, tmp_path)) == 1
    assert not mark.exists()
    await store.close()


async def test_a_record_that_is_lost(tmp_path: Path) -> None:
    """Also without any sign of life a run that began is known, and nothing keeps mirrord from its start."""
    mark = tmp_path / RUNNING / "m.schedule"
    mark.parent.mkdir()
    mark.touch()
    [found] = left_behind(tmp_path, tmp_path / "mirrord.db")
    assert found.began == found.seen
    assert found.began.timestamp() == pytest.approx(mark.stat().st_mtime)
