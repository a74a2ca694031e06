"""What the last run did at each target is remembered in items, with the target's own words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirrord.model.history import LastRun, Noted
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.record.store import open_store
from mirrord.record.summary import RunSummary
from mirrord.report.board import Board
from mirrord.report.status import counted, status_document
from mirrord.syncer.values import Mirror, Target
from mirrord.syncers.image.spec import ImageSpec, ImageTarget
from tests.support.store import MemoryStore, age, before_failing_since

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def step(item: str, action: Action = Action.COPY, reason: str = "created", count: int = 1) -> Step:
    return Step(action, item, "0" * 40, "gitee", (item,), reason, count=count)


def ended(*more: Step) -> Run:
    """Return a run that wrote one ref, deleted one, and was refused one by the host."""
    main, old, wild = step("refs/heads/main"), step("refs/tags/old", Action.DELETE), step("refs/heads/wild")
    plan = Plan("crane", "git", NOW, (main, old, wild, *more))
    receipts = (
        Receipt(main, Outcome.DONE),
        Receipt(old, Outcome.DONE),
        Receipt(wild, Outcome.REFUSED, "GE007: protected branch\nsee the manual", "refused"),
    )
    return Run("crane", "git", "command", NOW, NOW, plan, receipts)


KEPT = step("refs", Action.KEEP, "3221 refs are as upstream", 3221)
EXPECTED = LastRun(1, 1, 3221, 1, 0, ("refs/heads/wild: GE007: protected branch see the manual",))


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
async def test_counts_and_words_of_the_last_run(kind: str, tmp_path: Path) -> None:
    """Written, deleted, up to date and refused items are counted for each target; a later run takes their place."""
    store = MemoryStore() if kind == "memory" else await open_store(tmp_path / "mirrord.db", NOW)
    await store.add_run(ended(KEPT))
    found = {entry.target: entry.last for entry in await store.standing()}
    assert found == {"": None, "gitee": EXPECTED}
    await store.add_run(Run("crane", "git", "command", NOW, NOW, Plan("crane", "git", NOW, (KEPT,))))
    assert {entry.target: entry.last for entry in await store.standing()}["gitee"] == LastRun(kept=3221)
    await store.close()


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
async def test_items_are_counted_until_a_run_learns_more(kind: str, tmp_path: Path) -> None:
    """A run that is refused as a whole, or does not reach the target, leaves its number of items as it was."""
    store = MemoryStore() if kind == "memory" else await open_store(tmp_path / "mirrord.db", NOW)
    target = Target("gitee", "image", "x", ImageTarget())
    mirror = Mirror("crane", "image", ImageSpec.model_validate({"from": {"repository": "a/b"}}), (target,))
    blocked, unread, gone = step("refs", Action.REFUSE, "blocked"), step("refs"), step("refs/tags/v1", Action.DELETE)
    few = step("refs", Action.KEEP, "7 refs are as upstream", 7)
    for steps, receipts, count in (
        ((KEPT,), (), 3221),
        ((blocked,), (), 3221),
        ((unread,), (Receipt(unread, Outcome.FAILED, "no connection", "unreachable"),), 3221),
        ((unread,), (), 3221),  # interrupted
        ((few, gone), (Receipt(gone, Outcome.DONE),), 7),
        ((blocked,), (), 7),
        ((gone,), (Receipt(gone, Outcome.DONE),), 0),
    ):
        await store.add_run(Run("crane", "git", "command", NOW, NOW, Plan("crane", "git", NOW, steps), receipts))
        (found,) = Board(await store.standing()).status("1", NOW, [mirror]).mirrors
        assert (found.items, found.targets[0].items) == (count, count), steps
    await store.close()


async def test_a_record_of_before_has_the_items_of_its_last_runs(tmp_path: Path) -> None:
    """A database from before the number of items was recorded takes it from the last run at each target."""
    path = tmp_path / "mirrord.db"
    store = await open_store(path, NOW)
    await store.add_run(ended(KEPT))
    await store.close()
    age(path)
    store = await open_store(path, NOW)
    refused = Plan("crane", "git", NOW, (step("refs", Action.REFUSE, "blocked"),))
    for _ in range(2):
        assert {entry.target: entry.items for entry in await store.standing()}["gitee"] == 3222
        await store.add_run(Run("crane", "git", "command", NOW, NOW, refused))
    await store.close()


async def test_a_ref_is_named_once() -> None:
    """Words that begin with the item they are about are not told with its name before them once more."""
    store, bad = MemoryStore(), step("refs/heads/dev")
    receipt = Receipt(bad, Outcome.REFUSED, "refs/heads/dev: hook declined", "refused")
    await store.add_run(Run("crane", "git", "command", NOW, NOW, Plan("crane", "git", NOW, (bad,)), (receipt,)))
    (found,) = [entry for entry in await store.standing() if entry.target]
    assert found.error == "refs/heads/dev: hook declined"
    assert found.last is not None
    assert found.last.troubles == ("refs/heads/dev: hook declined",)


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
async def test_what_was_refused_is_told_within_bounds(kind: str, tmp_path: Path) -> None:
    """Refusals of the plan and failures are counted all; twenty are told, each in one line of 600 characters."""
    store = MemoryStore() if kind == "memory" else await open_store(tmp_path / "mirrord.db", NOW)
    bad = tuple(step(f"refs/tags/v{number}") for number in range(30))
    whole = replace(step("refs", Action.REFUSE, "two\r\nlines\x85and\u2028more"), whole=True)
    steps = (whole, *bad, step("late"))
    receipts = tuple(Receipt(one, Outcome.FAILED, one.item + "x" * 1000, "server") for one in bad)
    await store.add_run(Run("crane", "git", "command", NOW, NOW, Plan("crane", "git", NOW, steps), receipts))
    last = {entry.target: entry.last for entry in await store.standing()}["gitee"]
    assert last is not None
    assert (last.done, last.kept, last.refused, last.failed) == (0, 0, 1, 30)
    assert last.troubles[0] == "two lines and more"
    assert [len(text) for text in last.troubles[1:]] == [600] * 19
    await store.close()


async def test_a_record_of_before_gets_what_it_lacks(tmp_path: Path) -> None:
    """A database from before these counts is taken as it is, and counts from the next run on."""
    path = tmp_path / "mirrord.db"
    store = await open_store(path, NOW)
    await store.add_run(ended())
    await store.close()
    age(path, "last_run")
    store = await open_store(path, NOW)
    assert {entry.target: entry.last for entry in await store.standing()} == {"": None, "gitee": None}
    await store.add_run(ended(KEPT))
    assert {entry.target: entry.last for entry in await store.standing()}["gitee"] == EXPECTED
    await store.close()


async def test_the_status_tells_them() -> None:
    """`/status` has the counts, and the sentences; people read them in words."""
    store = MemoryStore()
    await store.add_run(ended(KEPT))
    target = Target("gitee", "image", "x", ImageTarget())
    mirror = Mirror("crane", "image", ImageSpec.model_validate({"from": {"repository": "a/b"}}), (target,))
    now = Board(await store.standing()).status("1", NOW, [mirror])
    (found,) = status_document(now)["mirrors"]
    (there,) = found["targets"]
    counts = {"done": 1, "deleted": 1, "kept": 3221, "refused": 1, "failed": 0}
    assert there["last_run"] == {**counts, "sent": 0, "seconds": 0.0}
    assert there["troubles"] == list(EXPECTED.troubles)
    assert there["items"] == 3222
    last = now.mirrors[0].targets[0].last_run
    assert counted(last) == "1 written · 1 deleted · 3221 up to date · 1 refused"
    assert (found["last_run"], found["troubles"], found["items"], counted(None)) == (None, [], 3222, "")


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
async def test_problems_of_the_last_look(kind: str, tmp_path: Path) -> None:
    """Problems are counted and told until the next look that says otherwise; the run with them is a good one."""
    store = MemoryStore() if kind == "memory" else await open_store(tmp_path / "mirrord.db", NOW)
    problems = tuple(f"odd 1.0.{number}: is no\nchart" for number in range(30))
    plan = Plan("crane", "helm", NOW, (KEPT,), problems, remarks=("odd 2.0.0: put right",))
    await store.add_run(Run("crane", "helm", "command", NOW, NOW, plan))
    await store.add_run(Run("crane", "helm", "command", NOW, NOW, None, error="no connection", code="unreachable"))
    whole, there = await store.standing()
    assert (whole.problems.count, len(whole.problems.first)) == (30, 20)
    assert whole.problems.first[0] == "odd 1.0.0: is no chart"
    assert whole.remarks == Noted(1, ("odd 2.0.0: put right",))
    assert (whole.last_success, whole.failures) == (NOW, 1)
    assert there.problems == Noted()
    await store.add_run(Run("crane", "helm", "command", NOW, NOW, Plan("crane", "helm", NOW, (KEPT,))))
    assert (await store.standing())[0].problems == Noted()
    await store.close()


async def test_what_is_missing_is_the_error(tmp_path: Path) -> None:
    """What was asked for by name and is not there is the mirror's last error, until it is there."""
    store = MemoryStore()
    plan = Plan("crane", "image", NOW, (KEPT,), missing=("gone: is not there",))
    await store.add_run(Run("crane", "image", "command", NOW, NOW, plan))
    whole, _ = await store.standing()
    assert (whole.code, whole.error, whole.last_success) == ("content", "gone: is not there", None)
    await store.add_run(Run("crane", "image", "command", NOW, NOW, replace(plan, missing=("a", "b", "c"))))
    assert (await store.standing())[0].error == "a; and 2 more missing"


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
async def test_the_first_attempt(kind: str, tmp_path: Path) -> None:
    """The first run is remembered, whatever its result was, also by a record that did not have it as a column."""
    file = tmp_path / "mirrord.db"
    store = MemoryStore() if kind == "memory" else await open_store(file, NOW)
    for minute, error in enumerate(("429", "429", "")):
        at = NOW + timedelta(minutes=minute)
        plan = None if error else Plan("m", "image", at, (replace(step("v1"), target="a"),))
        await store.add_run(Run("m", "image", "schedule", at, at, plan, error=error, code="throttled" if error else ""))
        assert {one.first_attempt for one in await store.standing() if not one.target} == {NOW}
        if kind == "sqlite":
            await store.close()
            before_failing_since(file)
            store = await open_store(file, NOW)
    await store.close()


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
async def test_since_when_it_fails(kind: str, tmp_path: Path) -> None:
    """The first failure after a success is remembered until the next success, for the mirror and for each target."""
    file = tmp_path / "mirrord.db"
    store = MemoryStore() if kind == "memory" else await open_store(file, NOW)

    async def after(minute: int, *outcomes: Outcome, error: str = "", code: str = "") -> list[datetime | None]:
        at, copies = NOW + timedelta(minutes=minute), [replace(step("v1"), target=name) for name in ("a", "b")]
        receipts = [Receipt(one, outcome) for one, outcome in zip(copies, outcomes, strict=False)]
        plan = Plan("m", "image", at, tuple(copies)) if receipts else None
        await store.add_run(Run("m", "image", "schedule", at, at, plan, tuple(receipts), error=error, code=code))
        found = {one.target: one.failing_since for one in await store.standing()}
        return [found.get(name) for name in ("", "a", "b")]

    first = NOW + timedelta(minutes=1)
    assert await after(0, Outcome.DONE, Outcome.DONE) == [None, None, None]
    assert await after(1, Outcome.FAILED, Outcome.DONE) == [first, first, None]
    assert await after(2, error="429", code="throttled") == [first, first, None]
    assert await after(3, Outcome.FAILED, Outcome.FAILED) == [first, first, NOW + timedelta(minutes=3)]
    if kind == "sqlite":
        await store.close()
        before_failing_since(file)
        store = await open_store(file, NOW)
    assert await after(4, error="down", code="unreachable") == [first, first, NOW + timedelta(minutes=3)]
    assert await after(5, Outcome.DONE, Outcome.DONE) == [None, None, None]
    await store.close()


@pytest.mark.parametrize("where", ["step", "missing"])
def test_what_a_guard_says_goes_before_other_errors(where: str) -> None:
    """The error of a run is the guard's, however many steps failed before, so that it is notified as one."""
    blocked = replace(step("refs/heads/lost", Action.REFUSE, "upstream lost 9 of 10"), code="guard")
    run = ended(*([blocked] if where == "step" else []))
    if run.plan and where == "missing":
        run = replace(run, plan=replace(run.plan, missing=("upstream lost 9 of 10", "gone"), code="guard"))
    record = RunSummary.of(run).record
    assert (record.result, record.code) == (Result.PARTIAL, "guard")
    assert "upstream lost 9 of 10" in record.error
