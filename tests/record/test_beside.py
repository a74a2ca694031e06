"""A run beside the schedule changes what targets have, and not how their mirror stands."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import BESIDE, Outcome, Receipt, Result, Run
from mirrord.record.store import Store

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PLACES = {"hub": "s > docker.io/a", "coding": "s > c/a"}


def run(trigger: str, *receipts: Receipt, error: str = "", missing: tuple[str, ...] = ()) -> Run:
    plan = Plan("app", "image", NOW, tuple(one.step for one in receipts), missing=missing)
    later = NOW + timedelta(hours=1)
    return Run("app", "image", trigger, later, later, plan, receipts, error=error, code="error", places=PLACES)


def receipt(item: str, target: str, action: Action = Action.COPY, outcome: Outcome = Outcome.DONE) -> Receipt:
    return Receipt(Step(action, item, f"sha256:{item}", target, (item,), "a reason"), outcome, code="refused")


@pytest.mark.parametrize("trigger", sorted(BESIDE))
@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.REFUSED])
async def test_a_mirror_stands_as_before(store: Store, trigger: str, outcome: Outcome) -> None:
    """Good or bad, it leaves result, times, failures, problems and the last run; items that are gone do not count."""
    copied = [receipt(item, target) for item in ("v1", "v2") for target in PLACES]
    failed = receipt("v3", "hub", outcome=Outcome.FAILED)
    await store.add_run(run("schedule", *copied, failed))
    before, behind = await store.standing("app"), await store.behind("app")
    assert [one.items for one in before] == [2, 2, 2]
    ended = run(trigger, receipt("v1", "hub", Action.DELETE, outcome), missing=("lists no tags at all",))
    await store.add_run(ended)
    gone = int(outcome is Outcome.DONE)
    expected = [replace(one, items=one.items - (one.target == "hub") * gone) for one in before]
    assert await store.standing("app") == expected
    assert await store.behind("app") == behind
    (day,) = await store.days("app")
    assert (day.runs, day.failed, day.deleted, day.result) == (1, 1, gone, Result.PARTIAL)
    assert [one.trigger for one in await store.runs("app")] == [trigger, "schedule"]
    known = await store.memory("app")
    assert (("hub", "v1") in known) is not gone
    assert ("coding", "v1") in known


async def test_a_recovery_leaves_the_record_as_it_was(store: Store) -> None:
    """What comes from another place may have lost its signatures there: how many there were stays known."""
    await store.add_run(run("schedule", replace(receipt("v1", "hub"), referrers=2)))
    before = await store.memory("app")
    await store.add_run(run("recovery", replace(receipt("v1", "hub"), referrers=0)))
    after = await store.memory("app")
    assert dict(after.items()) == dict(before.items())
    assert after["hub", "v1"].referrers == 2
