"""Derives from a run what is recorded of it. Pure: the stores only keep the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from types import MappingProxyType
from typing import Final

from mirrord.errors import GuardError, MirrordError, RefusedError, kind_of
from mirrord.model.history import Behind, Day, LastRun, Noted, RunRecord, Standing, TargetRecord
from mirrord.model.memory import LastSeen, NamedBuild
from mirrord.model.plan import Action, Step
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.record.behind import Lacking, not_reached

KEPT_DAYS: Final = 90
"""Days of which the numbers of a mirror are kept."""
_WORST = (Result.NOOP, Result.SUCCESS, Result.DEFERRED, Result.INTERRUPTED, Result.PARTIAL, Result.FAILED)
_NO_CHANGE: Mapping[str, Sequence[Behind]] = MappingProxyType({})
_GOOD = (Result.SUCCESS, Result.NOOP)
_BAD = (Result.FAILED, Result.PARTIAL)
_LONGEST = 1000
_WRONG = timedelta(days=1)  # a time so far ahead of the clock was never true
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
    def of(cls, run: Run) -> RunSummary:
        """Sum up a run; problems and remarks are recorded only if the survey succeeded."""
        plan, parts = run.plan, dict[str, tuple[list[Step], list[Receipt]]]()
        for step in plan.steps if plan else ():
            parts.setdefault(step.target, ([], []))[0].append(step)
        for receipt in run.receipts:
            parts.setdefault(receipt.step.target, ([], []))[1].append(receipt)
        targets = tuple(_at_target(run, name, *part) for name, part in parts.items())
        last = {name: _last_run(run.took.get(name, 0.0), *part) for name, part in parts.items()}
        noted = {"problems": _noted(run.problems), "remarks": _noted(run.remarks)} if plan else {}
        return cls(
            *(_record(run, targets), *_learned(run), last, noted, Lacking.of(run, parts)),
            unmeasured=_unmeasured(run.receipts),
            until=run.until,
        )


def _record(run: Run, targets: tuple[TargetRecord, ...]) -> RunRecord:
    code, error = run.code, run.error
    if not error:
        found = [(entry.code, entry.error) for entry in targets if entry.error]
        if run.plan is not None and run.plan.missing:
            found.append((run.plan.missing_code, run.plan.first_missing))
        code, error = _first(found)
    began, ended, error = run.started, run.finished, error[:_LONGEST]
    return RunRecord(run.mirror, run.kind, run.trigger, began, ended, run.result, run.read, code, error, targets)


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


def _learned(run: Run) -> tuple[Mapping[tuple[str, str], LastSeen | None], Mapping[tuple[str, str], NamedBuild]]:
    """Return what a run proves: content at a target, or (None) its absence, and the builds of names.

    Good receipts prove it, and so do kept steps that the target itself has just confirmed. A step that was kept because
    of the record proves nothing: it must not refresh the record. Nor does a name that was left alone at execution.
    The moving name of a build is known beside the build: clients ask for either.
    """
    known: dict[tuple[str, str], LastSeen | None] = {}
    names: dict[tuple[str, str], NamedBuild] = {}
    kept = [step for step in run.plan.steps if step.action is Action.KEEP and step.confirmed] if run.plan else []
    looked = run.plan.at if run.plan else run.started
    seen = [(Receipt(step, Outcome.KEPT), looked) for step in kept]
    seen += [(receipt, run.finished) for receipt in run.receipts if receipt.good]
    measured = _measured(run.receipts)
    for receipt, at in seen:
        step, place = receipt.step, run.places.get(receipt.step.target, "")
        if step.action is Action.KEEP or not step.passing:
            gone = step.action is Action.DELETE
            size, platforms = measured.get(step.digest, (receipt.size, receipt.platforms))
            fresh = None if gone else LastSeen(step.digest, at, place, size, platforms)
            known[step.target, step.item] = fresh
        for named in step.named:
            if named.name in receipt.left:
                continue
            names[step.target, named.name] = replace(named, at=at, place=place)
            if not named.stays and named.name != step.item:
                size, platforms = measured.get(named.digest, (None, ()))
                known[step.target, named.name] = LastSeen(named.digest, at, place, size, platforms)
    return known, names


def _measured(receipts: Iterable[Receipt]) -> Mapping[str, tuple[int | None, tuple[str, ...]]]:
    """Return size and platforms by digest: what was measured on the way to one target holds at all of them."""
    found: dict[str, tuple[int | None, tuple[str, ...]]] = {}
    for one in receipts:
        if one.good and one.step.digest and (one.size is not None or one.platforms):
            size, platforms = found.get(one.step.digest, (None, ()))
            found[one.step.digest] = (one.size if size is None else size, platforms or one.platforms)
    return found


def _unmeasured(receipts: Sequence[Receipt]) -> bool:
    measured = _measured(receipts)
    return any(one.good and one.step.digest and one.step.digest not in measured for one in receipts)


def completed(seen: LastSeen, sizes: Mapping[str, tuple[int, tuple[str, ...]]]) -> LastSeen:
    """Return a state with size and platforms of the same content under another name, unless it has a size itself."""
    if seen.size is not None or seen.digest not in sizes:
        return seen
    size, platforms = sizes[seen.digest]
    return replace(seen, size=size, platforms=seen.platforms or platforms)


def standings_after(
    before: Mapping[str, Standing], summary: RunSummary, behind: Mapping[str, Sequence[Behind]] = _NO_CHANGE
) -> list[Standing]:
    """Update the standings of a mirror ("") and of a run's targets.

    Args:
        before: the standings of before, by target.
        summary: the run.
        behind: what is behind now, by target; targets that are not in it are as before.
    """
    record = summary.record
    parts: list[tuple[str, RunRecord | TargetRecord]] = [("", record)]
    parts += ((entry.target, entry) for entry in record.targets)
    found = {name: before[name] for name in behind if name in before}
    for name, part in parts:
        standing = before.get(name, Standing(record.mirror, name))
        items = _items(standing.items, part.result, summary.last.get(name))
        after = advance(standing, part.result, record.finished, part.code, part.error)
        until = summary.until if part.result is Result.DEFERRED else None
        if record.trigger == "publish":  # the mirror itself goes on when it would have
            until = standing.until
        found[name] = replace(after, items=items, until=until)
    for name, lacks in behind.items():
        since = min((one.since for one in lacks), default=None)
        found[name] = replace(found.get(name, Standing(record.mirror, name)), behind=len(lacks), behind_since=since)
    all_targets = [standing for name, standing in {**before, **found}.items() if name]
    late = [standing.behind_since for standing in all_targets if standing.behind_since]
    whole = replace(found[""], behind=sum(one.behind for one in all_targets), behind_since=min(late, default=None))
    return list((found | {"": whole}).values())


def day_after(before: Day | None, summary: RunSummary) -> Day:
    """Add a run to the numbers of the day on which it ended."""
    record, last = summary.record, summary.last.values()
    ended = record.finished.astimezone(UTC).date()
    day = before or Day(ended)
    lasted = max(0.0, (record.finished - record.started).total_seconds())
    return Day(
        ended,
        runs=day.runs + 1,
        failed=day.failed + (record.result in _BAD),
        seconds=day.seconds + lasted,
        longest=max(day.longest, lasted),
        read=day.read + record.read,
        sent=day.sent + sum(one.sent for one in last),
        done=day.done + sum(one.done for one in last),
        deleted=day.deleted + sum(one.deleted for one in last),
        result=max(day.result, record.result, key=_WORST.index),
    )


def _items(before: int, result: Result, last: LastRun | None) -> int:
    """Return the number of items at a target: as before, when the run was refused there or did not reach it."""
    if last is None or not (result in _GOOD or last.done or last.kept or last.deleted):
        return before
    return last.done + last.kept


def advance(standing: Standing, result: Result, at: datetime, code: str, error: str) -> Standing:
    """Update a standing after a run.

    A deferred or interrupted run is an attempt, and neither a success nor a failure.
    """
    attempt = _later(standing.last_attempt, at)
    first = min(standing.first_attempt or attempt, attempt)
    changed = replace(standing, last_attempt=attempt, first_attempt=first, result=result, code=code, error=error)
    if result in _GOOD:
        success = _later(standing.last_success, at)
        return replace(changed, last_success=success, failures=0, failing_since=None, code="", error="")
    if result not in _BAD:
        return changed
    since = min(standing.failing_since or attempt, attempt)
    return replace(changed, failures=standing.failures + 1, failing_since=since)


def _later(before: datetime | None, at: datetime) -> datetime:
    """Return the later time: a clock that was set back makes none older, unless it was wrong by more than a day."""
    return at if before is None or before > at + _WRONG else max(before, at)


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
