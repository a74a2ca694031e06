"""What is remembered of runs: each of them, the last one at each target, and how a mirror has been doing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mirrord.model.run import Result


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """What one run did at one target.

    Attributes:
        result: the verdict for this target alone.
        planned: steps that had something to do.
        kept: steps that found the content there, by plan or by doing; so `refused`.
        cancelled: steps that were stopped, or never started.
        sent: content bytes written.
        mounted: blobs taken over without sending a byte.
        code: error code of the first thing that went wrong, or "".
        error: the sentence to it, or "".
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
    """One run, as remembered, with what `Run` says of it; `targets` in the order in which the plan named them."""

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


@dataclass(frozen=True, slots=True)
class LastRun:
    """What the last run did at one target, in items.

    Attributes:
        refused: a rule of ours or of the target forbade them.
        troubles: one line for each of the first causes of refusals and failures, in the target's own words.
    """

    done: int = 0
    deleted: int = 0
    kept: int = 0
    refused: int = 0
    failed: int = 0
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Noted:
    """Sentences that a run left: how many there were, and the first of them, at most twenty."""

    count: int = 0
    first: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a mirror, or one of its targets, has been doing.

    Attributes:
        target: name of the target, or "" for the mirror as a whole.
        last_success: end of the last good run, or None. Never goes back.
        last_attempt: end of the last run of any result, or None.
        failures: failed or partly failed runs since the last good one.
        result: of the last run, or None.
        code: error code of the last run, or "" when it was good.
        error: the sentence to it.
        items: how many items are known to be there (for the mirror: at any of its targets).
        last: what the last run did there; None for the mirror as a whole, and when nobody knows.
        problems: of the mirror: what was left out at the last look at its source, because it is wrong there.
        remarks: of the mirror: what was worth knowing at the last look, and no problem.
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
