"""Derives from a run what is recorded of it. Pure: the stores only keep the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain

from mirrord.errors import GuardError, MirrordError, RefusedError, kind_of
from mirrord.model.history import LastRun, Noted, RunRecord, TargetRecord
from mirrord.model.memory import LastSeen, NamedBuild
from mirrord.model.plan import Action, Step
from mirrord.model.run import BESIDE, ELSEWHERE, Outcome, Receipt, Result, Run
from mirrord.record.behind import Lacking, not_reached
from mirrord.record.learned import learned, unmeasured

_LONGEST = 1000
_SENTENCE, _LISTED = 600, 20  # the longest have a digest to paste, and names of 100 characters


@dataclass(frozen=True, slots=True)
class RunSummary:
    """All that is recorded of a run."""

    record: RunRecord
    learned: Mapping[tuple[str, str], LastSeen | None]  # by target and item, its present state; None if deleted
    names: Mapping[tuple[str, str], NamedBuild]  # by target and name, its build
    last: Mapping[str, LastRun]  # by target, the result of the run
    noted: Mapping[str, Noted]  # by the field of `Standing`, problems and remarks of the survey
    lacking: Lacking  # what targets have not
    unmeasured: bool  # whether content was written or found whose size the run did not learn
    until: datetime | None = None  # `Run.until`

    @classmethod
    def of(cls, run: Run, replica: str = "") -> RunSummary:
        """Sum up a run of a replica; problems and remarks are recorded only if the survey succeeded.

        A run of `BESIDE` says only what it removed: the last run of the mirror is another one.
        """
        plan, parts = run.plan, dict[str, tuple[list[Step], list[Receipt]]]()
        for step in plan.steps if plan else ():
            parts.setdefault(step.target, ([], []))[0].append(step)
        for receipt in run.receipts:
            parts.setdefault(receipt.step.target, ([], []))[1].append(receipt)
        alone = plan and plan.denied and run.trigger not in ELSEWHERE and run.result is Result.NOOP
        if alone and not parts:  # all of it was taken down: every target is as it should be
            parts = {name: ([], []) for name in run.places}
        targets = tuple(_at_target(run, name, *part) for name, part in parts.items())
        beside = run.trigger in BESIDE
        last = {name: _last_run(run.took.get(name, 0.0), *part) for name, part in parts.items() if not beside}
        noted = {"problems": _noted(run.problems), "remarks": _noted(run.remarks)} if plan and not beside else {}
        return cls(
            *(_record(run, targets, replica), *learned(run), last, noted, Lacking.of(run, parts)),
            unmeasured=unmeasured(run),
            until=run.until,
        )


def _record(run: Run, targets: tuple[TargetRecord, ...], replica: str) -> RunRecord:
    code, error = run.code, run.error
    if not error:
        found = [(entry.code, entry.error) for entry in targets if entry.error]
        if run.plan is not None and run.plan.missing:
            found.append((run.plan.missing_code, run.plan.first_missing))
        code, error = _first(found)
    began, ended, error = run.started, run.finished, error[:_LONGEST]
    about = run.mirror, run.kind, run.trigger, began, ended, run.result
    return RunRecord(*about, run.read, code, error, targets, replica)


def _noted(texts: Sequence[str]) -> Noted:
    return Noted(len(texts), tuple(_sentence(text) for text in texts[:_LISTED]))


def _sentence(text: str) -> str:
    """Return a text as one line of limited length."""
    return " ".join(text[: 4 * _SENTENCE].split())[:_SENTENCE]


def _last_run(seconds: float, steps: Sequence[Step], receipts: Sequence[Receipt]) -> LastRun:
    """Count the results of a run at one target, with its errors."""
    counts: Counter[str] = Counter()
    for step in steps:
        if step.action in (Action.KEEP, Action.REFUSE):
            counts["kept" if step.action is Action.KEEP else "refused"] += _counted(
                step, good=step.action is Action.KEEP
            )
    for receipt in filter(lambda receipt: receipt.good or receipt.bad, receipts):
        deleted = receipt.outcome is Outcome.DONE and receipt.step.action is Action.DELETE
        counts["deleted" if deleted else receipt.outcome.value] += _counted(receipt.step, good=receipt.good)
    troubles = [_about(step, step.reason) for step in steps if step.action is Action.REFUSE]
    for one, *more in causes(receipt for receipt in receipts if receipt.bad):
        troubles.append(_about(one.step, one.detail or one.outcome.value, len(more)))
    sent, lines = sum(receipt.sent for receipt in receipts), tuple(_sentence(text) for text in troubles[:_LISTED])
    return LastRun(sent=sent, seconds=seconds, troubles=lines, **counts)


def _counted(step: Step, *, good: bool) -> int:
    """Count the items of a step; what is no item itself, such as an index, counts where it is wrong."""
    return step.count if good else max(1, step.count)


def causes(receipts: Iterable[Receipt]) -> list[list[Receipt]]:
    """Group what ended alike at one target, for the same reason: a cause that hundreds of refs share is one group."""
    found: dict[tuple[str, Outcome, str], list[Receipt]] = {}
    for receipt in receipts:
        reason = receipt.detail.removeprefix(f"{receipt.step.item}: ")
        found.setdefault((receipt.step.target, receipt.outcome, reason), []).append(receipt)
    return list(found.values())


def _about(step: Step, text: str, more: int = 0) -> str:
    """Prefix a text with its item and the number of others, unless it has the item or is about the whole target."""
    text = text.removeprefix(f"{step.item}: ")
    return text if step.whole else f"{step.item}{f' and {more} more' if more else ''}: {text}"


def _at_target(run: Run, target: str, steps: Sequence[Step], receipts: Sequence[Receipt]) -> TargetRecord:
    outcomes = [receipt.outcome for receipt in receipts]
    active = sum(step.active for step in steps)
    record = TargetRecord(
        target,
        Result.NOOP,
        planned=active,
        kept=sum(step.action is Action.KEEP for step in steps) + outcomes.count(Outcome.KEPT),
        done=outcomes.count(Outcome.DONE),
        refused=sum(step.action is Action.REFUSE for step in steps) + outcomes.count(Outcome.REFUSED),
        failed=outcomes.count(Outcome.FAILED),
        cancelled=max(0, active - len(receipts)),
        sent=sum(receipt.sent for receipt in receipts),
        mounted=sum(receipt.mounted for receipt in receipts),
    )
    code, error = _trouble(run, steps, receipts, record)
    return replace(record, result=_verdict(run, record, receipts), code=code, error=error[:_LONGEST])


def _verdict(run: Run, record: TargetRecord, receipts: Iterable[Receipt]) -> Result:
    if not record.refused and {kind_of(one.code).result for one in receipts if one.bad} == {Result.DEFERRED}:
        return Result.DEFERRED
    if record.failed or record.refused:
        return Result.PARTIAL if record.done or record.kept else Result.FAILED
    if record.cancelled:
        # The batch did not reach this target, for the reason that ended the run.
        return run.result if run.result in (Result.DEFERRED, Result.FAILED) else Result.INTERRUPTED
    return Result.SUCCESS if record.done else Result.NOOP


def _trouble(run: Run, steps: Sequence[Step], receipts: Sequence[Receipt], record: TargetRecord) -> tuple[str, str]:
    failed = (
        (one.code or MirrordError.code, _about(one.step, one.detail or one.outcome.value))
        for one in receipts
        if one.bad
    )
    refused = (
        (step.code or RefusedError.code, _about(step, step.reason)) for step in steps if step.action is Action.REFUSE
    )
    return _first(chain(failed, refused, [not_reached(run)] if record.cancelled else ()))


def _first(troubles: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return the first code with its message, of a guard if one has spoken: that is what somebody has to decide."""
    found = list(troubles)
    return next((one for one in found if one[0] == GuardError.code), found[0] if found else ("", ""))
