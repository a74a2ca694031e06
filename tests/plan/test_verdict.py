"""How a run ended, told from its plan and its receipts alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.report.documents import plan_document

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COPY = Step(Action.COPY, "v1", "sha256:x", "a", ("v1",), "not there")
KEEP = Step(Action.KEEP, "v1", "sha256:x", "b", ("v1",), "already there")
REFUSE = Step(Action.REFUSE, "v1", "sha256:x", "c", ("v1",), "never moves")
DONE = Receipt(COPY, Outcome.DONE)
FAILED = Receipt(COPY, Outcome.FAILED, code="server")
LEFT_OUT = Receipt(COPY, Outcome.LEFT_OUT, problem="v1: is no chart")
THROTTLED = Receipt(COPY, Outcome.FAILED, code="throttled")


@pytest.mark.parametrize(
    ("steps", "receipts", "error", "code", "result"),
    [
        ((), (), "", "", Result.NOOP),
        ((KEEP,), (), "", "", Result.NOOP),
        ((COPY,), (DONE,), "", "", Result.SUCCESS),
        ((COPY, COPY), (DONE, FAILED), "", "", Result.PARTIAL),
        ((COPY, KEEP), (FAILED,), "", "", Result.PARTIAL),
        ((COPY,), (FAILED,), "", "", Result.FAILED),
        ((COPY,), (THROTTLED,), "", "", Result.DEFERRED),
        ((COPY, COPY), (THROTTLED, FAILED), "", "", Result.FAILED),
        ((COPY, COPY, KEEP), (DONE, THROTTLED), "", "", Result.DEFERRED),  # what was copied stays
        ((COPY, REFUSE), (THROTTLED,), "", "", Result.FAILED),
        ((REFUSE,), (), "", "", Result.FAILED),
        ((REFUSE, COPY), (DONE,), "", "", Result.PARTIAL),
        ((COPY,), (), "the source is gone", "unreachable", Result.FAILED),
        ((), (), "come back later", "throttled", Result.DEFERRED),
        ((COPY,), (DONE,), "stopped before its end", "interrupted", Result.INTERRUPTED),
        ((COPY, COPY), (DONE, LEFT_OUT), "", "", Result.SUCCESS),
        ((COPY, KEEP), (LEFT_OUT,), "", "", Result.NOOP),
        ((COPY, COPY), (FAILED, LEFT_OUT), "", "", Result.FAILED),
        ((COPY, KEEP), (FAILED, LEFT_OUT), "", "", Result.PARTIAL),
    ],
)
def test_verdict(steps: tuple[Step, ...], receipts: tuple[Receipt, ...], error: str, code: str, result: Result) -> None:
    """A run is what its steps, receipts and error make it, nothing else."""
    run = Run("m", "image", "command", NOW, NOW, Plan("m", "image", NOW, steps), receipts, error=error, code=code)
    assert run.result is result


@pytest.mark.parametrize(
    ("problems", "missing", "receipts", "result"),
    [
        (("bad 1.0: is no chart",), (), (), Result.NOOP),
        (("bad 1.0: is no chart",), (), (DONE,), Result.SUCCESS),
        ((), ("gone: is not there",), (DONE,), Result.PARTIAL),
        ((), ("gone: is not there",), (), Result.FAILED),
    ],
)
def test_what_is_wrong_upstream_is_no_failure(
    problems: tuple[str, ...], missing: tuple[str, ...], receipts: tuple[Receipt, ...], result: Result
) -> None:
    """What was left out because upstream has it wrong is counted and harmless; what was asked for by name is not."""
    plan = Plan("m", "helm", NOW, (COPY,), problems, missing)
    assert Run("m", "helm", "command", NOW, NOW, plan, receipts).result is result


def test_problems_of_plan_and_receipts_are_told_once() -> None:
    """A version that three targets lack is one problem; what was put right is a remark, and no problem."""
    plan = Plan("m", "helm", NOW, (COPY,), ("a: bad",), remarks=("b: put right",))
    receipts = (LEFT_OUT, LEFT_OUT, Receipt(COPY, Outcome.DONE, remark="c: follows"))
    run = Run("m", "helm", "command", NOW, NOW, plan, receipts)
    assert run.problems == ("a: bad", "v1: is no chart")
    assert run.remarks == ("b: put right", "c: follows")
    assert not LEFT_OUT.good
    assert not LEFT_OUT.bad


def test_the_decisions_of_a_kind_are_its_own() -> None:
    """What a plan carries for `open` is neither compared nor printed nor written down."""
    plain, laden = (Plan("m", "image", NOW, (COPY,), decisions=decisions) for decisions in (None, {"v1": "secret"}))
    assert plain == laden
    assert "secret" not in f"{laden}{plan_document(laden)}"
