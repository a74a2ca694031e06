"""What is remembered of runs: each of them, the last one at each target, and how a mirror has been doing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mirrord.model.run import Result


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """What one run did at one target."""

    target: str
    result: Result  # the verdict for this target alone
    planned: int = 0  # steps that had something to do
    kept: int = 0  # steps that found the content there, by plan or by doing
    done: int = 0  # steps that wrote
    refused: int = 0  # steps that a rule forbade, by plan or by doing
    failed: int = 0
    cancelled: int = 0  # steps that were stopped, or never started
    sent: int = 0  # content bytes written
    mounted: int = 0  # blobs taken over without sending a byte
    code: str = ""  # error code of the first thing that went wrong, or ""
    error: str = ""  # the sentence to it, or ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run, as remembered."""

    mirror: str
    kind: str
    trigger: str  # who asked
    started: datetime  # UTC
    finished: datetime  # UTC
    result: Result
    read: int = 0  # content bytes read from the source
    code: str = ""  # error code of the first thing that went wrong, or ""
    error: str = ""  # the sentence to it, or ""
    targets: tuple[TargetRecord, ...] = ()  # in the order in which the plan named them


@dataclass(frozen=True, slots=True)
class LastRun:
    """What the last run did at one target, in items."""

    done: int = 0  # were written
    deleted: int = 0
    kept: int = 0  # were up to date
    refused: int = 0  # a rule of ours or of the target forbade them
    failed: int = 0
    # one line for each of the first causes of refusals and failures, in the target's own words
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Noted:
    """Sentences that a run left: how many there were, and the first of them, at most twenty."""

    count: int = 0
    first: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a mirror, or one of its targets, has been doing."""

    mirror: str
    target: str = ""  # name of the target, or "" for the mirror as a whole
    last_success: datetime | None = None  # end of the last good run, or None. Never goes back.
    last_attempt: datetime | None = None  # end of the last run of any result, or None
    failures: int = 0  # failed or partly failed runs since the last good one
    result: Result | None = None  # of the last run, or None
    code: str = ""  # error code of the last run, or "" when it was good
    error: str = ""  # the sentence to it
    items: int = 0  # how many items are known to be there (for the mirror: at any of its targets)
    last: LastRun | None = None  # what the last run did there; None for the mirror as a whole, and when nobody knows
    # of the mirror: what was left out at the last look at its source, because it is wrong there
    problems: Noted = Noted()
    remarks: Noted = Noted()  # of the mirror: what was worth knowing at the last look, and no problem
