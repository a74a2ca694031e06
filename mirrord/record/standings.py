"""Derives how a mirror and its targets stand after a run, and the numbers of its day. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from mirrord.model.history import Behind, Day, LastRun, RunRecord, Standing, TargetRecord
from mirrord.model.run import APART, BESIDE, Result
from mirrord.record.summary import RunSummary

KEPT_DAYS: Final = 90
"""Days of which the numbers of a mirror are kept."""
_WORST = (Result.NOOP, Result.SUCCESS, Result.DEFERRED, Result.INTERRUPTED, Result.PARTIAL, Result.FAILED)
_NO_CHANGE: Mapping[str, Sequence[Behind]] = MappingProxyType({})
_GOOD = (Result.SUCCESS, Result.NOOP)
_BAD = (Result.FAILED, Result.PARTIAL)
_WRONG = timedelta(days=1)  # a time so far ahead of the clock was never true


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
    if record.trigger in BESIDE:
        return _without(before, summary)
    parts: list[tuple[str, RunRecord | TargetRecord]] = [("", record)]
    parts += ((entry.target, entry) for entry in record.targets)
    found = {name: before[name] for name in behind if name in before}
    for name, part in parts:
        standing = before.get(name, Standing(record.mirror, name))
        items = _items(standing.items, part.result, summary.last.get(name))
        after = advance(standing, part.result, record.finished, part.code, part.error)
        until = summary.until if part.result in (Result.DEFERRED, Result.INTERRUPTED) else None
        if record.trigger in APART:  # the mirror itself goes on when it would have
            until = standing.until
        found[name] = replace(after, items=items, until=until)
    for name, lacks in behind.items():
        since = min((one.since for one in lacks), default=None)
        found[name] = replace(found.get(name, Standing(record.mirror, name)), behind=len(lacks), behind_since=since)
    all_targets = [standing for name, standing in {**before, **found}.items() if name]
    late = [standing.behind_since for standing in all_targets if standing.behind_since]
    whole = replace(found[""], behind=sum(one.behind for one in all_targets), behind_since=min(late, default=None))
    return list((found | {"": whole}).values())


def _without(before: Mapping[str, Standing], summary: RunSummary) -> list[Standing]:
    """Return the standings of targets that have fewer items: beside the schedule nothing else changes."""
    gone = Counter(target for (target, _), seen in summary.learned.items() if seen is None)
    return [
        replace(before[name], items=max(0, before[name].items - lost)) for name, lost in gone.items() if name in before
    ]


def day_after(before: Day | None, summary: RunSummary) -> Day:
    """Add a run to the numbers of the day on which it ended; one of `BESIDE` is none of its runs."""
    record, last = summary.record, summary.last.values()
    ended = record.finished.astimezone(UTC).date()
    day = before or Day(ended)
    if record.trigger in BESIDE:
        return replace(day, deleted=day.deleted + sum(seen is None for seen in summary.learned.values()))
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
