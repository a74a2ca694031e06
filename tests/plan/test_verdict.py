"""How a run ended, told from its plan and its receipts alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mirrord.model import Action, Outcome, Plan, Receipt, Result, Run, Step

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COPY = Step(Action.COPY, "v1", "sha256:x", "a", ("v1",), "not there")
KEEP = Step(Action.KEEP, "v1", "sha256:x", "b", ("v1",), "already there")
REFUSE = Step(Action.REFUSE, "v1", "sha256:x", "c", ("v1",), "never moves")
DONE = Receipt(COPY, Outcome.DONE)
FAILED = Receipt(COPY, Outcome.FAILED, code="server")
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
        ((REFUSE,), (), "", "", Result.FAILED),
        ((REFUSE, COPY), (DONE,), "", "", Result.PARTIAL),
        ((COPY,), (), "the source is gone", "unreachable", Result.FAILED),
        ((), (), "come back later", "throttled", Result.DEFERRED),
        ((COPY,), (DONE,), "stopped half-way", "interrupted", Result.INTERRUPTED),
    ],
)
def test_verdict(steps: tuple[Step, ...], receipts: tuple[Receipt, ...], error: str, code: str, result: Result) -> None:
    """A run is what its steps, receipts and error make it, nothing else."""
    run = Run("m", "image", "command", NOW, NOW, Plan("m", "image", NOW, steps), receipts, error=error, code=code)
    assert run.result is result
