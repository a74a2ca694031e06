"""What people read of plans and runs: as much as helps, and all that went wrong."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from select import PIPE_BUF

import pytest

from mirrord.cli.console import say_json, short
from mirrord.cli.progress import shown
from mirrord.cli.results import ALIKE, Show, say_plans, say_run, say_runs
from mirrord.events import BytesRead, BytesSent, Events, Planned, Retrying, StepDone
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.record.summary import RunSummary, causes

NOW = datetime(2026, 5, 1, tzinfo=UTC)
OID = "0123456789abcdef0123456789abcdef01234567"
FOLDED = Show.FOLDED


def step(number: int, action: Action = Action.COPY, size: int | None = None) -> Step:
    return Step(action, f"item{number}", "sha256:0", "one", (f"item{number}",), "not there", size)


def run_of(kind: str, steps: Sequence[Step], receipts: Sequence[Receipt]) -> Run:
    return Run("app", kind, "command", NOW, NOW, Plan("app", kind, NOW, tuple(steps)), tuple(receipts))


def test_a_plan_shows_bytes_where_they_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes have a column as soon as one step has some, and a sum; refusals are counted beside what is to do."""
    say_plans([Plan("app", "helm", NOW, (step(1, size=2048), step(2), step(3, Action.REFUSE)))], FOLDED, explain=False)
    text = capsys.readouterr().out
    assert "2 to do (at least 2.0 KiB), 0 up to date, 1 refused" in text
    assert "BYTES" in text
    say_plans([Plan("app", "helm", NOW, (step(1, size=2048), step(2, size=1024)))], FOLDED, explain=False)
    assert "2 to do (3.0 KiB), 0 up to date\n" in capsys.readouterr().out
    say_plans([Plan("app", "helm", NOW, (step(1),))], FOLDED, explain=False)
    assert "BYTES" not in capsys.readouterr().out


def test_several_plans_end_with_their_sum(capsys: pytest.CaptureFixture[str]) -> None:
    """What is to do and what is up to date is summed up by items; what cannot be planned is counted."""
    kept = replace(step(2, Action.KEEP), count=2500)
    good, bad = Plan("app", "git", NOW, (step(1), kept)), Plan("bad", "git", NOW, error="gone", code="missing")
    say_plans([good, bad, good], FOLDED, explain=False)
    assert capsys.readouterr().out.endswith("3 mirrors: 2 to do, 5000 up to date; 1 cannot be planned\n")


def test_a_long_plan_is_folded_by_target_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """Thousands of steps are a row for each target and reason, with the first names; `-v` has a row for each step."""
    new = [
        Step(Action.COPY, f"v{number}", OID, "one", (f"v{number}",), f"v{number} not there") for number in range(3000)
    ]
    old = [replace(one, target="two", reason=f"forced: {number:07x} is overwritten") for number, one in enumerate(new)]
    few = [replace(one, target="three", action=Action.DELETE) for one in new[:ALIKE]]
    plan = Plan("app", "git", NOW, (*new, *old, *few))
    say_plans([plan], FOLDED, explain=False)
    _, head, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 + ALIKE
    assert rows[0][head.index("NAMES") : head.index("DIGEST")].strip() == "v0, v1, v2 and 2997 more (-v shows all)"
    assert [row[head.index("REASON") :] for row in rows[:3]] == [
        *("not there", "forced: … is overwritten", "v0 not there")
    ]
    say_plans([plan], Show.ALL, explain=False)
    text = capsys.readouterr().out
    assert text.count("\n") == 2 + len(plan.steps)
    assert text.count(f" {OID} ") == len(plan.steps)


def test_digests_have_twelve_digits_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """In tables and in sentences; `-v` has them whole."""
    whole = f"sha256:{'0123456789abcdef' * 4}"
    only = Step(Action.COPY, "v1", whole, "one", ("v1",), f"moves v1 from {whole}")
    say_plans([Plan("app", "image", NOW, (only,), remarks=(f"it is {whole} there",))], FOLDED, explain=False)
    text = capsys.readouterr().out
    assert text.count("sha256:0123456789ab\n") + text.count("sha256:0123456789ab ") == 3
    assert whole not in text
    say_plans([Plan("app", "image", NOW, (only,), remarks=(f"it is {whole} there",))], Show.ALL, explain=False)
    assert capsys.readouterr().out.count(whole) == 3
    git = replace(only, digest=OID, reason="created")
    say_plans([Plan("app", "git", NOW, (git,))], FOLDED, explain=False)
    assert capsys.readouterr().out.split()[-2] == OID[:12]


def test_what_is_to_be_pasted_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of configuration or a command in backquotes is complete in each output and in the record of status."""
    digest = f"sha256:{'0123456789abcdef' * 4}"
    accept = f'`accept: {{item1: {{0.3.0: "{digest}"}}}}`'
    reason = f"it is {digest}; take it by {accept} or by `mirrord sync item1 --allow`"
    only = replace(step(1, Action.REFUSE), reason=reason)
    run = run_of("helm", [only], [])
    say_run(run)
    say_plans([run.plan or Plan("app", "helm", NOW)], FOLDED, explain=False)
    text = capsys.readouterr().out
    assert (text.count(accept), text.count("it is sha256:0123456789ab;")) == (2, 2)
    say_run(run_of("helm", [only, replace(only, item="other")], []))
    text = capsys.readouterr().out
    assert (text.count(accept), text.count("`mirrord sync item1 --allow`")) == (1, 1), "folded"
    told = replace(only, reason=f"{'a' * 200} {reason}")
    assert accept in RunSummary.of(run_of("helm", [told], [])).last["one"].troubles[0]


def test_a_long_run_is_folded(capsys: pytest.CaptureFixture[str]) -> None:
    """Of thousands of receipts each target has a row for what went well, with its bytes, and one for each cause."""
    steps = tuple(step(number) for number in range(3000))
    outcomes = [Outcome.FAILED if number % 10 == 9 else Outcome.DONE for number in range(len(steps))]
    receipts = [Receipt(one, outcome, "full", sent=1024) for one, outcome in zip(steps, outcomes, strict=True)]
    run = run_of("git", steps, receipts)
    say_run(run)
    said, head, done, failed = capsys.readouterr().out.splitlines()
    assert said == "app: partial in 0.0 s, 0 B read, 2.9 MiB sent"
    names = slice(head.index("NAMES"), head.index("RESULT"))
    assert done[names].strip() == "item0, item1, item2 and 2697 more (-v shows all)"
    assert "  2.6 MiB  " in done
    assert failed[names].strip() == "item9, item19, item29 and 297 more (-v shows all)"
    say_run(run, Show.ALL)
    assert capsys.readouterr().out.count("\n") == 2 + len(steps)


def test_quiet_is_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of good runs; of others what failed or was refused or is missing, and neither good rows nor remarks."""
    steps = [step(1), step(2), step(3, Action.REFUSE)]
    receipts = [Receipt(steps[0], Outcome.DONE), Receipt(steps[1], Outcome.FAILED, "full")]
    bad = run_of("git", steps, receipts)
    assert bad.plan is not None
    bad = replace(bad, plan=replace(bad.plan, remarks=("odd",), problems=("odder",), missing=("gone",)))
    say_runs([run_of("git", [], []), bad], Show.FAILURES)
    _, _, row, *lines = capsys.readouterr().out.splitlines()
    assert row.split()[:2] == ["one", "item2"]
    assert lines == ["refused at one: item3: not there", "missing: gone"]


def test_a_cause_is_one_whatever_ref_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Hosts and mirrord name the ref in each message: thousands of refs that one rule rejects are one row."""
    steps = [step(number) for number in range(3000)]
    receipts = [Receipt(one, Outcome.REFUSED, f"{one.item}: hook declined: {one.item} is protected") for one in steps]
    say_run(run_of("git", steps, receipts))
    _, head, *rows = capsys.readouterr().out.splitlines()
    assert [row[head.index("NAMES") :].split("  ")[0] for row in rows] == [
        "item0, item1, item2 and 2997 more (-v shows all)"
    ]
    assert rows[0].endswith("  hook declined: is protected")
    assert len(causes(receipts)) == 3000, "in other words"
    same = [replace(one, detail=f"{one.step.item}: hook declined") for one in receipts]
    assert [len(group) for group in causes(same)] == [3000], "status tells it once, too"


def test_refusals_for_one_reason_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Thousands of versions that are left alone for one reason are one line with the first names."""
    steps = [replace(step(number, Action.REFUSE), reason=f"item{number}: gone") for number in range(1000)]
    say_run(run_of("helm", steps, []))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "refused at one: item0, item1, item2 and 997 more (-v shows all): gone"
    ]


def test_a_refusal_of_a_whole_target_names_the_target_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """The step that stands for all refs of a target has no name of its own to print: target and reason say all."""
    steps = [replace(step(1, Action.REFUSE), target=target, whole=True) for target in ("gitee", "coding")]
    say_run(run_of("git", [steps[0], replace(step(2), target="coding")], []))
    assert capsys.readouterr().out.splitlines()[1:] == ["refused at gitee: not there"]
    say_run(run_of("git", steps, []))
    assert capsys.readouterr().out.splitlines()[1:] == ["refused at all targets: not there"]


def test_a_cause_at_the_source_is_told_once_for_all_targets(capsys: pytest.CaptureFixture[str]) -> None:
    """Refusals and failures of one item for one reason are one row with the targets; `-v` has a row for each."""
    one = step(1, Action.REFUSE)
    for targets, named in ((("one", "two", "three"), "all targets"), (("one", "three"), "one, three")):
        steps = [replace(one, target=target) for target in targets] + [replace(one, item="x", target="two")]
        say_plans([Plan("app", "git", NOW, tuple(steps))], FOLDED, explain=False)
        _, head, row, *_ = capsys.readouterr().out.splitlines()
        assert row[head.index("TARGET") : head.index("NAMES")].rstrip() == named
        say_run(run_of("git", steps, []))
        assert capsys.readouterr().out.splitlines()[1] == f"refused at {named}: item1: not there"
        receipts = [Receipt(each, Outcome.FAILED, "item1: damaged") for each in steps[:-1]]
        receipts.append(Receipt(steps[-1], Outcome.FAILED, "other words"))
        active = [replace(each, action=Action.COPY) for each in steps]
        receipts = [replace(it, step=each) for it, each in zip(receipts, active, strict=True)]
        say_run(run_of("git", active, receipts))
        _, _, row, other = capsys.readouterr().out.splitlines()
        assert (row.startswith(f"{named}  "), row.endswith("  damaged"), other.split()[0]) == (True, True, "two")
        say_run(run_of("git", active, receipts), Show.ALL)
        assert capsys.readouterr().out.count("damaged") == len(targets)


def test_a_deletion_is_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    """What was deleted is not called done; what could not be is FAILED."""
    steps = (step(1), step(2, Action.DELETE), step(3, Action.DELETE))
    receipts = [Receipt(one, Outcome.DONE, one.item) for one in steps[:2]] + [Receipt(steps[2], Outcome.FAILED, "no")]
    say_run(run_of("git", steps, receipts))
    assert [line.split()[3] for line in capsys.readouterr().out.splitlines()[2:]] == ["done", "deleted", "FAILED"]


def test_one_cause_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """What failed alike is one row with the first names; other words are another."""
    steps = tuple(step(number) for number in range(10))
    details = ["waits"] * 6 + ["full"] + ["waits"] * 2 + ["moved"]
    receipts = tuple(Receipt(one, Outcome.FAILED, told) for one, told in zip(steps, details, strict=True))
    say_run(run_of("git", steps, receipts))
    rows = [line for line in capsys.readouterr().out.splitlines() if "FAILED" in line]
    assert [row.split()[-1] for row in rows] == ["waits", "full", "moved"]
    assert f"{steps[0].item}, {steps[1].item}, {steps[2].item} and 5 more" in rows[0]


def test_a_long_run_in_a_pipe_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every ten seconds a line counts steps, bytes read and sent, and failures of each run; a host is named once."""
    steps, seconds = tuple(step(number) for number in range(4)), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    events = Events()
    with shown(events, quiet=False):
        events.emit(Planned(Plan("app", "git", NOW, steps), {"one": len(steps)}))
        for number, outcome in enumerate((Outcome.DONE, Outcome.FAILED, Outcome.DONE, Outcome.DONE)):
            events.emit(Retrying("a.example", "throttled", 1.0))
            seconds[0] += 5.5
            if number == 2:
                events.emit(BytesRead("app/one", 8192))
            events.emit(BytesSent("app/one", 1024))
            events.emit(StepDone("app", Receipt(steps[number], outcome)))
    assert capsys.readouterr().err.splitlines() == [
        "a.example: throttled; trying again",
        "app: 1/4 steps, 2.0 KiB sent",
        "app: 3/4 steps, 8.0 KiB read, 4.0 KiB sent, 1 failed",
    ]


def test_a_run_tells_its_problems(capsys: pytest.CaptureFixture[str]) -> None:
    """What was left out is counted beside the result and told once; what is missing has a word of its own."""
    steps = (step(1), step(2), step(3, Action.REFUSE))
    plan = Plan("app", "helm", NOW, steps, ("odd 1.0.0: has no version",), ("gone: is not there",), ("x: put right",))
    left = Receipt(steps[1], Outcome.LEFT_OUT, "no chart", problem="item2: no chart")
    say_run(Run("app", "helm", "command", NOW, NOW, plan, (Receipt(steps[0], Outcome.DONE), left)))
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.endswith(", 2 problems")
    assert lines[-5:] == [
        "refused at one: item3: not there",
        "missing: gone: is not there",
        "problem: odd 1.0.0: has no version",
        "problem: item2: no chart",
        "remark: x: put right",
    ]
    assert not any("left out" in line for line in lines)


def test_many_sentences_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """Of many problems the first are printed, with the number of the others; `-v` has them all."""
    plan = Plan("app", "helm", NOW, problems=tuple(f"chart{number} is odd in {number}" for number in range(ALIKE + 5)))
    say_plans([plan], FOLDED, explain=False)
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines), lines[-1]) == (ALIKE + 2, "problem: and 5 more (-v shows all)")
    say_plans([plan], Show.ALL, explain=False)
    assert capsys.readouterr().out.count("problem: chart") == ALIKE + 5


def test_sentences_of_one_kind_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Thousands of archives that are missing upstream, each named in its problem, are one line; others stay apart."""
    texts = [f"app-1.{number}.0: h: GET /app-1.{number}.0.tgz: status 404" for number in range(1000)]
    say_plans([Plan("app", "helm", NOW, problems=("x: odd", *texts, "no name"))], FOLDED, explain=False)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "problem: x: odd",
        "problem: app-1.0.0, app-1.1.0, app-1.2.0 and 997 more (-v shows all): h: GET /….tgz: status 404",
        "problem: no name",
    ]


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


@pytest.mark.parametrize(
    ("digest", "table"),
    [
        (f"sha256:{'0123456789abcdef' * 4}", "sha256:0123456789ab"),
        (OID, "0123456789ab"),
        ("refs/heads/main", "refs/heads/main"),
        ("sha256:0", "sha256:0"),
        ("", ""),
    ],
)
def test_only_digests_are_shortened(digest: str, table: str) -> None:
    """Digests and object ids are shortened in tables; the branch that HEAD names is not cut to another name."""
    assert short(digest) == table
