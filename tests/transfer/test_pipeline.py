"""One pass over one mirror: whatever happens is told, remembered, and in the run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.errors import MissingError, StorageError
from mirrord.events import Event, Planned, RunFinished, RunStarted, StepDone
from mirrord.model.run import Outcome, Result, Run
from mirrord.pipeline import run_mirror
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.testing import build_image
from mirrord.wire.secret import Secret
from tests.support.layouts import write_layout
from tests.support.world import IMAGE, World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


@pytest.fixture
def told(world: World) -> list[Event]:
    events: list[Event] = []
    world.services.events.listen(events.append)
    return events


def mirror(world: World, *names: str, **keys: float) -> Mirror:
    """Publish a layout into the local store."""
    folder = write_layout(build_image(), world.folder / "build")
    return world.mirror({"layout": folder, "names": [*names]}, LOCAL, deadline=keys.get("deadline", 60.0))


def steps_told(events: list[Event]) -> list[type[Event]]:
    kinds = (RunStarted, Planned, StepDone, RunFinished)
    return [type(event) for event in events if isinstance(event, kinds)]


async def test_a_good_run(world: World, told: list[Event]) -> None:
    """Started, planned, a step done, finished: told in this order, and remembered."""
    run = await world.run(mirror(world, "main"))
    assert steps_told(told) == [RunStarted, Planned, StepDone, RunFinished]
    assert told[-1] == RunFinished(run)
    (record,) = await world.store.runs("app")
    assert (record.result, run.result) == (Result.SUCCESS, Result.SUCCESS)
    assert await world.store.memory("app")


async def test_a_source_that_is_not_there(world: World, told: list[Event]) -> None:
    """A source that cannot be read at all is the run's error, and a record."""
    gone = world.mirror({"layout": world.folder / "nowhere", "names": ["main"]}, LOCAL)
    run = await world.run(gone)
    assert (run.result, run.code, run.plan) == (Result.FAILED, MissingError.code, None)
    assert steps_told(told) == [RunStarted, RunFinished]
    assert [record.code for record in await world.store.runs("app")] == ["missing"]


async def test_a_cancelled_run_is_remembered(world: World, told: list[Event]) -> None:
    """A pass that is cancelled half-way is an interruption with the receipts it had, and the record has it."""
    target = await world.registry("one")
    held = target.faults.on("PUT", "/blobs/uploads/", times=None).hold()
    folder = write_layout(build_image(), world.folder / "build")
    running = asyncio.ensure_future(world.run(world.mirror({"layout": folder, "names": ["main"]}, target)))
    await held.reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    finished = told[-1]
    assert isinstance(finished, RunFinished)
    assert (finished.run.result, finished.run.code) == (Result.INTERRUPTED, "interrupted")
    assert [record.result for record in await world.store.runs("app")] == [Result.INTERRUPTED]
    assert target.tags == {}


async def test_a_bug_is_told_without_secrets(world: World, told: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    """What no syncer may raise is raised on, and in the record it is a bug, with secrets taken out."""
    secret = Secret("hunter2-and-more")

    def broken(*_: object) -> None:
        raise ZeroDivisionError(f"at {secret.reveal()}")

    monkeypatch.setattr(type(IMAGE), "plan", broken)
    with pytest.raises(ZeroDivisionError):
        await world.run(mirror(world, "main"))
    (record,) = await world.store.runs("app")
    assert record.result is Result.FAILED
    assert "a bug" in record.error
    assert secret.reveal() not in record.error
    assert isinstance(told[-1], RunFinished)


async def test_a_broken_record_fails_the_run(world: World, told: list[Event]) -> None:
    """A record that cannot be read or written fails the run, and is never passed over in silence."""
    world.store.broken = "disk full"
    run = await world.run(mirror(world, "main"))
    assert (run.result, run.code, run.error, run.plan) == (Result.FAILED, "storage", "disk full", None)
    assert told[-1] == RunFinished(run)


async def test_what_was_done_is_told_without_a_record(
    world: World, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk is full by the end of a run it fails for that, and still says what it did."""

    async def full(_: Run) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(world.store, "add_run", full)
    run = await world.run(mirror(world, "main"))
    assert (run.result, run.code, run.error) == (Result.FAILED, "storage", "disk full")
    assert [receipt.outcome for receipt in run.receipts] == [Outcome.DONE]
    assert told[-1] == RunFinished(run)


async def test_a_deadline(world: World) -> None:
    """A run past its deadline ends with what it had, and names the deadline."""
    target = await world.registry("one")
    target.faults.on("HEAD", "", times=None).hold()
    folder = write_layout(build_image(), world.folder / "build")
    late = world.mirror({"layout": folder, "names": ["main"]}, target, deadline=0.05)
    run = await run_mirror(late, IMAGE, world.services, world.store, "schedule", clock=lambda: world.now, parallel=1)
    assert (run.result, run.code, run.trigger, run.receipts) == (Result.FAILED, "deadline", "schedule", ())
    assert "deadline" in run.error


async def test_what_was_done_is_kept_as_receipts(world: World) -> None:
    """Receipts say what was sent, what was there already, and how long it took."""
    image = build_image()
    run = await world.run(mirror(world, "main"))
    (receipt,) = run.receipts
    assert (receipt.outcome, receipt.sent, receipt.mounted) == (Outcome.DONE, image.size, 0)
    assert receipt.seconds > 0
    again = await world.run(mirror(world, "again"))
    assert [(one.sent, one.mounted > 0) for one in again.receipts] == [(0, True)]
