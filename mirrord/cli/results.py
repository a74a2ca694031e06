"""What people see of plans and runs, and the exit codes of the commands that made them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from mirrord.cli.console import plain, say, short, size, table
from mirrord.errors import BusyError, MirrordError, StorageError, TransportError, kind_of
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.record.summary import causes

MOST: Final = 60  # rows about what went well
NAMED: Final = 3  # items that are named where many have one cause
_MARKS = {Outcome.KEPT: "there", Outcome.LEFT_OUT: "left out", Outcome.FAILED: "FAILED"}  # else the outcome's own word


def mark(receipt: Receipt) -> str:
    """Say in a word what became of a step."""
    if receipt.step.action is Action.DELETE and receipt.outcome is Outcome.DONE:
        return "deleted"
    return _MARKS.get(receipt.outcome, receipt.outcome.value)


def names_of(step: Step, left: Sequence[str] = ()) -> str:
    """Write what a step calls its content: `main-0123abc, main`, or that it has no name there; without names `left`."""
    return ", ".join(name for name in step.names if name not in left) or "(by digest)"


def say_plan(plan: Plan, *, explain: bool) -> None:
    """Print a plan: what would be done, and with `explain` also what is left alone."""
    if plan.error:
        say(f"{plan.mirror} ({plan.kind}): cannot be planned")
        say(f"error: {plan.error}")
        return
    steps = [step for step in plan.steps if explain or step.action is not Action.KEEP]
    counts = Counter(step.action for step in plan.steps)
    refused = f", {counts[Action.REFUSE]} refused" if counts[Action.REFUSE] else ""
    say(f"{plan.mirror} ({plan.kind}): {len(plan.active)} to do, {counts[Action.KEEP]} up to date{refused}")
    if steps:
        sized = any(step.size is not None for step in steps)
        rows = []
        for step in steps:
            count = [size(step.size) if step.size is not None else ""] if sized else []
            rows.append((step.action.value, step.target, names_of(step), short(step.digest), *count, step.reason))
        table(("ACTION", "TARGET", "NAMES", "DIGEST", *(["BYTES"] if sized else []), "REASON"), rows)
    _say_beside(plan)


def _say_beside(decided: Plan | Run) -> None:
    """Print what a plan or a run says beside its steps."""
    plan = decided if isinstance(decided, Plan) else decided.plan
    texts = (("missing", plan.missing if plan else ()), ("problem", decided.problems), ("remark", decided.remarks))
    for word, sentences in texts:
        for sentence in sentences[:MOST]:
            say(f"{word}: {plain(sentence)}")
        if len(sentences) > MOST:
            say(f"and {len(sentences) - MOST} more; --json has them all")


def _folded(receipts: Sequence[Receipt]) -> Iterator[tuple[Receipt, str]]:
    """Yield receipts in their order with what they are about; what has one cause for its bad end is one."""
    bad = {id(same[0]): same for same in causes(receipt for receipt in receipts if receipt.bad)}
    for receipt in receipts:
        same = bad.get(id(receipt), [] if receipt.bad else [receipt])
        if same:
            names = ", ".join(names_of(other.step, other.left) for other in same[:NAMED])
            yield receipt, f"{names} and {len(same) - NAMED} more" if len(same) > NAMED else names


def say_run(run: Run, *, kept: bool = False) -> None:
    """Print what became of a run, with `kept` also where there was nothing to do."""
    seconds = (run.finished - run.started).total_seconds()
    keep = [step for step in run.plan.steps if step.action is Action.KEEP] if run.plan else []
    unchanged = f", {len(keep)} up to date" if keep else ""
    count = len(run.problems)
    counted = f", {count} problem{'' if count == 1 else 's'}" if count else ""
    say(f"{run.mirror}: {run.result.value} in {seconds:.1f} s, {size(run.read)} read{unchanged}{counted}")
    turn = {step: number for number, step in enumerate(run.plan.steps if run.plan else ())}
    receipts = (*run.receipts, *(Receipt(step, Outcome.KEPT) for step in keep if kept))
    receipts = tuple(sorted(receipts, key=lambda receipt: turn[receipt.step]))  # as planned, whoever was through first
    good = [receipt for receipt in receipts if receipt.good]
    few = set(map(id, good[:MOST]))  # all that failed is shown, and of what went well as much as fits two screens
    shown = [receipt for receipt in receipts if receipt.bad or id(receipt) in few]
    if shown:
        rows = []
        for receipt, names in _folded(shown):
            detail = "" if receipt.good else receipt.detail
            ended = (mark(receipt), size(receipt.sent), f"{receipt.seconds:.1f} s", detail)
            rows.append((receipt.step.target, names, short(receipt.step.digest), *ended))
        table(("TARGET", "NAMES", "DIGEST", "RESULT", "SENT", "TIME", ""), rows)
        if len(good) > MOST:
            say(f"and {len(good) - MOST} more that went well; --json has them all")
    for step in run.plan.steps if run.plan else ():
        if step.action is Action.REFUSE:
            reason = step.reason.removeprefix(f"{step.item}: ").removeprefix("refused: ")
            say(plain(f"refused: {step.target}: {step.item}: {reason}"))
    _say_beside(run)
    if run.error:
        say(f"error: {run.error}")


_RUNS_SAY = frozenset({TransportError.exit_code, StorageError.exit_code, BusyError.exit_code})
_EXITS = {Result.DEFERRED: 75, Result.INTERRUPTED: 130}


def plan_exit_code(plans: Sequence[Plan]) -> int:
    """Return the exit code of a command that made these plans, as the help of `mirrord plan` says."""
    if not plans or not all(plan.error for plan in plans):
        return 2 if any(plan.error or plan.missing for plan in plans) else 0
    return _common(plan.code for plan in plans)


def _common(codes: Iterable[str]) -> int:
    """Return what all that went wrong says, when that is one thing and more than that it did."""
    found = {kind_of(code).exit_code for code in codes if code}
    return found.pop() if len(found) == 1 and found <= _RUNS_SAY else MirrordError.exit_code


def exit_code(runs: Sequence[Run]) -> int:
    """Return the exit code of a command that made these runs (DESIGN, Command line).

    69 when nothing was reachable, 74 when it was our own disk, 75 when everything was put off; 1 when nothing at all
    came of it.
    """
    results = {run.result for run in runs}
    if results <= {Result.SUCCESS, Result.NOOP}:
        return 0
    if results & {Result.SUCCESS, Result.NOOP, Result.PARTIAL}:
        return 2
    if results != {Result.FAILED}:
        return _EXITS[results.pop()] if len(results) == 1 else 1
    return _common(code for run in runs for code in (run.code, *(receipt.code for receipt in run.receipts)))
