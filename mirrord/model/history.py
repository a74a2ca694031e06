"""What is recorded of runs: each run, the last one at each target, and the standing of a mirror."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from mirrord.model.memory import LastSeen
from mirrord.model.run import Result
from mirrord.model.verification import TargetVerification


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """The result of one run at one target.

    Attributes:
        target: name of the target.
        result: for this target alone.
        planned: steps that had something to do.
        kept: steps that found the content present, in the plan or at execution.
        done: steps that wrote.
        refused: steps that a rule forbade, in the plan or at execution.
        failed: steps that failed.
        cancelled: steps that were stopped or not started.
        sent: content bytes written.
        mounted: blobs mounted without sending a byte.
        code: code of the first error, or "".
        error: its message, or "".
    """

    target: str
    result: Result
    planned: int = 0
    kept: int = 0
    done: int = 0
    refused: int = 0
    failed: int = 0
    cancelled: int = 0
    sent: int = 0
    mounted: int = 0
    code: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run, as recorded.

    Attributes:
        mirror: name of the mirror.
        kind: kind of artifact.
        trigger: what started it.
        started: when it began (UTC).
        finished: when it ended (UTC).
        result: of all targets together.
        read: content bytes read from the source.
        code: code of the first error, or "".
        error: its message, or "".
        targets: its results at each target, in the order of the plan.
        replica: which of several replicas carried it out; "" on one machine, and where that is unknown.
        id: number in the record, increasing; 0 before it is recorded.
    """

    mirror: str
    kind: str
    trigger: str
    started: datetime
    finished: datetime
    result: Result
    read: int = 0
    code: str = ""
    error: str = ""
    targets: tuple[TargetRecord, ...] = ()
    replica: str = ""
    id: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class LastRun:
    """The result of the last run at one target, in items.

    Attributes:
        done: items written.
        deleted: items deleted.
        kept: items that are up to date.
        refused: items forbidden by a rule of ours or of the target.
        failed: items that failed.
        troubles: one line for each of the first causes of refusals and failures, quoting the target.
        sent: content bytes written.
        seconds: time from the start of the first transfer of the run to the end of the last step at this target.
    """

    done: int = 0
    deleted: int = 0
    kept: int = 0
    refused: int = 0
    failed: int = 0
    troubles: tuple[str, ...] = ()
    sent: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Noted:
    """Problems or remarks of a run: their number, and at most the first twenty.

    Attributes:
        count: their number.
        first: the first of them, at most twenty.
    """

    count: int = 0
    first: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Behind:
    """An item that a target should have and does not have.

    Attributes:
        target: name of the target.
        item: name of the item.
        digest: the content that it should have; "" if unknown.
        since: when a run first found it behind; stays until the target has the item.
        code: code of the last error, `refused` where a rule forbids it, or "interrupted".
        reason: its message, one line.
    """

    target: str
    item: str
    digest: str
    since: datetime
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Day:
    """The runs of a mirror that ended on one day in UTC.

    Attributes:
        day: the date.
        runs: number of runs.
        failed: those of them that failed in whole or in part.
        seconds: duration of all runs together.
        longest: seconds of the longest run.
        read: content bytes read from the source.
        sent: content bytes written to all targets.
        done: items written, each counted at each target.
        deleted: items deleted; 0 for days before this was recorded, and then included in `done`.
        result: the worst result.
    """

    day: date
    runs: int = 0
    failed: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    read: int = 0
    sent: int = 0
    done: int = 0
    deleted: int = 0
    result: Result = Result.NOOP


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item of a mirror and its recorded state, by target.

    Attributes:
        item: name of the item.
        at: its state at each target that has it, by the target's name.
    """

    item: str
    at: Mapping[str, LastSeen] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """The present state of a mirror, or of one of its targets.

    Attributes:
        mirror: name of the mirror.
        target: name of the target, or "" for the mirror as a whole.
        last_success: end of the last successful run, or None; never decreases.
        last_attempt: end of the last run with any result, or None.
        first_attempt: end of the first run that is known, or None.
        failures: failed or partial runs since the last success.
        failing_since: end of the first of them; None if there is none, or the record does not have it.
        result: of the last run, or None.
        code: error code of the last run, or "" after a success.
        error: its message.
        items: items known to be present; for the mirror, those known by name at any of its targets.
        last: the last run there; None for the mirror as a whole, and if unknown.
        problems: of the mirror: what the last run skipped because it is wrong at the source.
        remarks: of the mirror: remarks of the last run that are not problems.
        size: known bytes of its items, each digest once; for the mirror, where that is most.
        behind: items that it should have and has not; for the mirror, the sum over its targets.
        behind_since: since when the oldest of them is behind; None if none is.
        until: when the last run goes on, if it was deferred and that is known, or None.
        verified: what the last verification found, of the mirror in sum; None if there was none.
    """

    mirror: str
    target: str = ""
    last_success: datetime | None = None
    last_attempt: datetime | None = None
    failures: int = 0
    result: Result | None = None
    code: str = ""
    error: str = ""
    items: int = 0
    last: LastRun | None = None
    problems: Noted = Noted()
    remarks: Noted = Noted()
    size: int = 0
    behind: int = 0
    behind_since: datetime | None = None
    first_attempt: datetime | None = None
    failing_since: datetime | None = None
    until: datetime | None = None
    verified: TargetVerification | None = None
