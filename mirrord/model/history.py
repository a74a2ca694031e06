"""What is recorded of runs: each run, the last one at each target, and the standing of a mirror."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from mirrord.model.memory import LastSeen
from mirrord.model.run import Result


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """The result of one run at one target."""

    target: str
    result: Result  # for this target alone
    planned: int = 0  # steps that had something to do
    kept: int = 0  # steps that found the content present, in the plan or at execution
    done: int = 0  # steps that wrote
    refused: int = 0  # steps that a rule forbade, in the plan or at execution
    failed: int = 0
    cancelled: int = 0  # steps that were stopped or not started
    sent: int = 0  # content bytes written
    mounted: int = 0  # blobs mounted without sending a byte
    code: str = ""  # code of the first error, or ""
    error: str = ""  # its message, or ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run, as recorded."""

    mirror: str
    kind: str
    trigger: str  # what started it
    started: datetime  # UTC
    finished: datetime  # UTC
    result: Result
    read: int = 0  # content bytes read from the source
    code: str = ""  # code of the first error, or ""
    error: str = ""  # its message, or ""
    targets: tuple[TargetRecord, ...] = ()  # in the order of the plan
    id: int = field(default=0, compare=False)  # number in the record, increasing; 0 before it is recorded


@dataclass(frozen=True, slots=True)
class LastRun:
    """The result of the last run at one target, in items."""

    done: int = 0  # written
    deleted: int = 0
    kept: int = 0  # up to date
    refused: int = 0  # forbidden by a rule of ours or of the target
    failed: int = 0
    # one line for each of the first causes of refusals and failures, quoting the target
    troubles: tuple[str, ...] = ()
    sent: int = 0  # content bytes written
    seconds: float = 0.0  # from the start of the first transfer of the run to the end of the last step at this target


@dataclass(frozen=True, slots=True)
class Noted:
    """Problems or remarks of a run: their number, and at most the first twenty."""

    count: int = 0
    first: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Behind:
    """An item that a target should have and does not have."""

    target: str
    item: str
    digest: str  # the content that it should have; "" if unknown
    since: datetime  # when a run first found it behind; stays until the target has the item
    code: str = ""  # code of the last error, `refused` where a rule forbids it, or "interrupted"
    reason: str = ""  # its message, one line


@dataclass(frozen=True, slots=True)
class Day:
    """The runs of a mirror that ended on one day in UTC."""

    day: date
    runs: int = 0
    failed: int = 0  # those of them that failed in whole or in part
    seconds: float = 0.0  # of all runs together
    longest: float = 0.0  # seconds of the longest run
    read: int = 0  # content bytes read from the source
    sent: int = 0  # content bytes written to all targets
    done: int = 0  # items written, each counted at each target
    deleted: int = 0  # items deleted; 0 for days before this was recorded, and then included in `done`
    result: Result = Result.NOOP  # the worst result


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item of a mirror and its recorded state, by target."""

    item: str
    at: Mapping[str, LastSeen] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """The present state of a mirror, or of one of its targets."""

    mirror: str
    target: str = ""  # name of the target, or "" for the mirror as a whole
    last_success: datetime | None = None  # end of the last successful run, or None; never decreases
    last_attempt: datetime | None = None  # end of the last run with any result, or None
    failures: int = 0  # failed or partial runs since the last success
    result: Result | None = None  # of the last run, or None
    code: str = ""  # error code of the last run, or "" after a success
    error: str = ""  # its message
    items: int = 0  # items known to be present; for the mirror, those known by name at any of its targets
    last: LastRun | None = None  # the last run there; None for the mirror as a whole, and if unknown
    # of the mirror: what the last run skipped because it is wrong at the source
    problems: Noted = Noted()
    remarks: Noted = Noted()  # of the mirror: remarks of the last run that are not problems
    size: int = 0  # known bytes of its items, each digest once; for the mirror, where that is most
    behind: int = 0  # items that it should have and has not; for the mirror, the sum over its targets
    behind_since: datetime | None = None  # since when the oldest of them is behind; None if none is
