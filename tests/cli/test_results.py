"""How much of a run is printed when nothing in it is alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mirrord.cli.results import ROWS, Show, say_plans, say_run, say_runs
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run

T0 = datetime(2026, 5, 1, tzinfo=UTC)
MANY = 5000


def words(number: int) -> str:
    """Return a sentence that no other number shares."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number)) + " is wrong"


def test_the_sum_names_what_did_not_succeed(capsys: pytest.CaptureFixture[str]) -> None:
    """After many mirrors the last line names those that failed."""
    done = Run("a", "image", "command", T0, T0, Plan("a", "image", T0, ()), ())
    failed = [Run(name, "image", "command", T0, T0, None, (), 0, "x") for name in ("b", "c")]
    runs = [done, *failed]
    say_runs(runs, Show.FOLDED)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "3 mirrors: 1 noop, 2 failed (b, c); 0 B read, 0 B sent"


def test_signatures_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """The first line says how many came along: of each image once, also if a target failed."""
    digests = ("sha256:a", "sha256:a", "sha256:b")
    steps = [Step(Action.COPY, "v1", digest, f"t{at}", ("v1",), "new") for at, digest in enumerate(digests)]
    receipts = [
        Receipt(steps[0], Outcome.DONE, referrers=3),
        Receipt(steps[1], Outcome.FAILED, "down"),
        Receipt(steps[2], Outcome.DONE, referrers=1),
    ]
    say_run(Run("m", "image", "command", T0, T0, Plan("m", "image", T0, tuple(steps)), tuple(receipts)))
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith("0 B read, 0 B sent; signatures and attestations: 4")
    say_run(Run("m", "image", "command", T0, T0, Plan("m", "image", T0, ()), ()))
    assert "signatures" not in capsys.readouterr().out


def test_what_goes_on_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """A daemon continues what was deferred; without one, and after a copy, it says what to do instead."""
    run = Run("m", "image", "command", T0, T0, error="later", code="throttled", until=T0 + timedelta(hours=1))
    say_runs([run], Show.FOLDED)
    say_runs([run], Show.FOLDED, goes_on=False)
    say_run(run, copied=True)
    said = [line.partition("; ")[2] for line in capsys.readouterr().out.splitlines() if line.startswith("m: ")]
    again = "run it again after 2026-05-01 01:00 UTC"
    assert said == ["continues at 2026-05-01 01:00 UTC", again, again]


@pytest.mark.parametrize("show", [Show.FOLDED, Show.FAILURES, Show.ALL])
def test_reasons_of_which_no_two_are_alike(capsys: pytest.CaptureFixture[str], show: Show) -> None:
    """Thousands of different reasons are a limited number of rows, with the number of the rest; -v prints them all."""
    steps = [Step(Action.COPY, f"v{number}", "", "t", (f"v{number}",), "new") for number in range(MANY)]
    refused = [Step(Action.REFUSE, f"r{number}", "", "t", (f"r{number}",), words(number)) for number in range(MANY)]
    plan = Plan("m", "image", T0, (*steps, *refused))
    receipts = [Receipt(step, Outcome.FAILED, words(number)) for number, step in enumerate(steps)]
    say_run(Run("m", "image", "command", T0, T0, plan, tuple(receipts)), show)
    lines = capsys.readouterr().out.splitlines()
    if show is Show.ALL:
        assert len(lines) == 2 + 2 * MANY
    else:
        assert len(lines) == 2 + 2 * (ROWS + 1)
        assert f"and {MANY - ROWS} more (-v shows all)" in lines
        assert lines[-1] == f"refused: and {MANY - ROWS} more (-v shows all)"
    say_plans([Plan("m", "image", T0, tuple(refused))], show, explain=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + (MANY if show is Show.ALL else ROWS + 1)
