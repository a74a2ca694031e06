"""Exit codes follow from the codes of what went wrong, for every command alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mirrord.cli.exits import exit_code, plan_exit_code
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run(*codes: str, error: str = "") -> Run:
    """Return a run with a receipt for each code, "" for what went well, or one that failed as a whole."""
    step = Step(Action.COPY, "v1", f"sha256:{'0' * 64}", "t", ("v1",), "")
    steps = tuple(replace(step, item=str(number)) for number in range(len(codes)))
    pairs = zip(steps, codes, strict=True)
    receipts = [Receipt(step, Outcome.FAILED if code else Outcome.DONE, code=code) for step, code in pairs]
    plan = None if error else Plan("m", "image", NOW, steps)
    return Run("m", "image", "command", NOW, NOW, plan, tuple(receipts), error=error, code=error)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([run("broken")], 69),
        ([run("unreachable", "broken", "stalled")], 69),
        ([run(error="broken")], 69),
        ([run("broken"), run(error="unreachable")], 69),
        ([run("storage")], 74),
        ([run(error="storage")], 74),
        ([run("storage", "broken")], 1),
        ([run("denied")], 1),
        ([run("broken", "denied")], 1),
        ([run("throttled")], 75),
        ([run(error="throttled")], 75),
        ([run("broken", "")], 2),
        ([run("broken"), run("")], 2),
        ([run(""), run()], 0),
    ],
)
def test_what_runs_end_with(runs: list[Run], expected: int) -> None:
    """One cause for all that went wrong is that cause's code: 69, 74 or 75; several are 1, and some success is 2."""
    assert exit_code(runs) == expected


def plan(*actions: Action, error: str = "") -> Plan:
    """Return a plan with a step for each action, or one that failed."""
    steps = tuple(Step(action, str(number), "", "t", (), "") for number, action in enumerate(actions))
    return Plan("m", "git", NOW, steps, error=error, code=error)


@pytest.mark.parametrize(
    ("plans", "expected"),
    [
        ([], 0),
        ([plan()], 0),
        ([plan(Action.COPY, Action.KEEP)], 0),
        ([plan(Action.REFUSE, Action.REFUSE)], 1),
        ([plan(Action.REFUSE, Action.KEEP)], 2),
        ([plan(Action.REFUSE), plan(Action.COPY)], 2),
        ([plan(Action.REFUSE), plan(error="unreachable")], 1),
        ([plan(error="unreachable")], 69),
    ],
)
def test_a_plan_ends_as_its_run_would(plans: list[Plan], expected: int) -> None:
    """A gate needs to see refusals: all refused is 1, a part is 2."""
    assert plan_exit_code(plans) == expected
