"""What people read of plans and runs: as much as helps, and all that went wrong."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from select import PIPE_BUF

import pytest

from mirrord.cli.console import say_json
from mirrord.cli.progress import shown
from mirrord.cli.results import MOST, say_plan, say_run
from mirrord.events import Events, StepDone
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def step(number: int, action: Action = Action.COPY, size: int | None = None) -> Step:
    return Step(action, f"item{number}", "sha256:0", "one", (f"item{number}",), "not there", size)


def test_a_plan_shows_bytes_where_they_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes have a column as soon as one step has some; refusals are counted beside what is to do."""
    say_plan(Plan("app", "helm", NOW, (step(1, size=2048), step(2), step(3, Action.REFUSE))), explain=False)
    text = capsys.readouterr().out
    assert "2 to do, 0 up to date, 1 refused" in text
    assert "BYTES" in text
    assert "2.0 KiB" in text
    say_plan(Plan("app", "helm", NOW, (step(1),)), explain=False)
    assert "BYTES" not in capsys.readouterr().out


def test_a_long_run_is_cut_and_failures_never_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Of thousands of good receipts a screenful is shown, with the number of the others; every bad one is shown."""
    steps = tuple(step(number) for number in range(MOST + 40))
    outcomes = [Outcome.FAILED if number % 10 == 9 else Outcome.DONE for number in range(len(steps))]
    receipts = tuple(Receipt(one, outcome, one.item) for one, outcome in zip(steps, outcomes, strict=True))
    say_run(Run("app", "git", "command", NOW, NOW, Plan("app", "git", NOW, steps), receipts))
    text = capsys.readouterr().out
    assert text.count("FAILED") == outcomes.count(Outcome.FAILED)
    assert f"and {outcomes.count(Outcome.DONE) - MOST} more that went well" in text


def test_a_deletion_is_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    """What went is told from what came, while it happens and in the table; one that failed is FAILED."""
    steps = (step(1), step(2, Action.DELETE), step(3, Action.DELETE))
    receipts = [Receipt(one, Outcome.DONE, one.item) for one in steps[:2]] + [Receipt(steps[2], Outcome.FAILED, "no")]
    events = Events()
    with shown(events, quiet=False):
        for receipt in receipts:
            events.emit(StepDone("app", receipt))
    said = capsys.readouterr()
    assert [line.partition(":")[0] for line in (said.err or said.out).splitlines()] == ["done", "deleted", "FAILED"]
    say_run(Run("app", "git", "command", NOW, NOW, Plan("app", "git", NOW, steps), tuple(receipts)))
    assert [line.split()[3] for line in capsys.readouterr().out.splitlines()[2:]] == ["done", "deleted", "FAILED"]


def test_one_cause_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """What failed alike is one row with the first names, and one line while it happens; other words are another."""
    steps = tuple(step(number) for number in range(10))
    details = ["waits"] * 6 + ["full"] + ["waits"] * 2 + ["moved"]
    receipts = tuple(Receipt(one, Outcome.FAILED, told) for one, told in zip(steps, details, strict=True))
    say_run(Run("app", "git", "command", NOW, NOW, Plan("app", "git", NOW, steps), receipts))
    rows = [line for line in capsys.readouterr().out.splitlines() if "FAILED" in line]
    assert [row.split()[-1] for row in rows] == ["waits", "full", "moved"]
    assert f"{steps[0].item}, {steps[1].item}, {steps[2].item} and 5 more" in rows[0]
    events = Events()
    with shown(events, quiet=False):
        for receipt in receipts:
            events.emit(StepDone("app", receipt))
    assert [line.split(": ")[-1] for line in capsys.readouterr().err.splitlines()] == ["waits", "full", "moved"]


def test_a_run_tells_its_problems(capsys: pytest.CaptureFixture[str]) -> None:
    """What was left out is counted beside the result and told once; what is missing has a word of its own."""
    steps = (step(1), step(2), step(3, Action.REFUSE))
    plan = Plan("app", "helm", NOW, steps, ("odd 1.0.0: has no version",), ("gone: is not there",), ("x: put right",))
    left = Receipt(steps[1], Outcome.LEFT_OUT, "no chart", problem="item2: no chart")
    say_run(Run("app", "helm", "command", NOW, NOW, plan, (Receipt(steps[0], Outcome.DONE), left)))
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.endswith(", 2 problems")
    assert lines[-5:] == [
        "refused: one: item3: not there",
        "missing: gone: is not there",
        "problem: odd 1.0.0: has no version",
        "problem: item2: no chart",
        "remark: x: put right",
    ]
    assert not any("left out" in line for line in lines)


def test_long_json_comes_in_parts_that_a_pipe_takes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """No write is longer than what a pipe takes whole: what is left over would be lost where Python does not buffer."""
    written: list[str] = []

    class Pipe:
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    document = {"names": [f"item{number} \x7fä" for number in range(20_000)]}
    monkeypatch.setattr(sys, "stdout", Pipe())
    say_json(document)
    assert max(len(part.encode()) for part in written) <= PIPE_BUF
    assert json.loads("".join(written)) == document
    assert "".join(written).endswith("}\n")
