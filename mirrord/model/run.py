"""Results: a receipt for each step, and a run for one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Final

from mirrord.errors import DeadlineError, kind_of
from mirrord.model.plan import Action, Plan, Step

RECOVERY: Final = "recovery"
"""Trigger of a repair without the source: it sends again what is recorded, and proves nothing new."""
BESIDE: Final = frozenset({"gc", "prune", RECOVERY, "restore", "takedown"})
"""Triggers of runs that do not bring a mirror up to date: it stands afterwards as before, without what they removed."""
APART: Final = frozenset({"publish", "asked"})
"""Triggers of runs about a part of what a mirror has: each has a source of its own."""
SHARING: Final = frozenset({"asked"})
"""Triggers of runs several of which may be under way, each about other items, which end or continue one by one."""
ELSEWHERE: Final = BESIDE | APART
"""Triggers of runs after which a schedule goes on as if there had been none."""


class Outcome(StrEnum):
    """How a step ended."""

    DONE = "done"
    KEPT = "kept"  # was already at the target
    LEFT_OUT = "left_out"  # it is wrong upstream: a problem, and no failure of this run
    REFUSED = "refused"  # forbidden by a rule, or rejected by the target; retrying will not help
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of a step."""

    step: Step
    outcome: Outcome
    detail: str = ""  # one sentence; redacted
    code: str = ""  # `MirrordError.code` of the error, or ""
    sent: int = 0  # bytes of content written to the target for this step
    mounted: int = 0  # blobs that needed no upload (mounted, or already there)
    seconds: float = 0.0  # wall time from the start of its batch to the end of this step
    # what was left out during the step because it is wrong upstream, one sentence, or "" (see `Plan.problems`)
    problem: str = ""
    remark: str = ""  # what was corrected during the step, one sentence, or ""
    # names of the step that were not moved after all; `remark` has the reason
    left: tuple[str, ...] = ()
    size: int | None = None  # as `LastSeen.size`: of the whole content, whether it was sent or was there
    platforms: tuple[str, ...] = ()  # as `LastSeen.platforms`
    referrers: int | None = None  # as `LastSeen.referrers`

    @property
    def good(self) -> bool:
        """Whether the target has what was planned."""
        return self.outcome in (Outcome.DONE, Outcome.KEPT)

    @property
    def bad(self) -> bool:
        """Whether it counts against the run."""
        return self.outcome in (Outcome.FAILED, Outcome.REFUSED)


class Result(StrEnum):
    """The result of a whole run (the label of `mirrord_sync_runs_total`)."""

    SUCCESS = "success"
    NOOP = "noop"
    PARTIAL = "partial"
    FAILED = "failed"
    DEFERRED = "deferred"  # a host limits the rate, and everything else is done: it will work later
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Run:
    """One pass over one mirror. Values derived from its receipts are computed once; see `add_up`."""

    mirror: str
    kind: str
    trigger: str  # what started it: `schedule`, `command`, `publish`, `asked`, `repair`, or one of `BESIDE`
    started: datetime  # UTC
    finished: datetime  # UTC
    plan: Plan | None = None  # the plan, or None if the survey failed
    receipts: tuple[Receipt, ...] = ()  # one for each active step that was started
    read: int = 0  # content bytes read from the source
    error: str = ""  # why the run as a whole failed, or ""
    code: str = ""  # `MirrordError.code` of that, or ""
    places: Mapping[str, str] = field(default_factory=dict)  # target name → `LastSeen.place`
    took: Mapping[str, float] = field(default_factory=dict)  # target name → `LastRun.seconds`
    until: datetime | None = None  # when a deferred run goes on, or None: at its next regular time

    @cached_property
    def result(self) -> Result:
        """The result, from failures, refusals and missing items in plan, receipts and error; problems do not count."""
        if self.code == DeadlineError.code and any(receipt.good for receipt in self.receipts):
            return Result.PARTIAL
        if self.error or self.plan is None:
            return Result(kind_of(self.code).result)
        refused = any(step.action is Action.REFUSE for step in self.plan.steps)
        bad = [receipt for receipt in self.receipts if receipt.bad]
        codes = {*(receipt.code for receipt in bad), *({self.plan.missing_code} if self.plan.missing else ())}
        if not refused and {kind_of(code).result for code in codes} == {Result.DEFERRED}:
            return Result.DEFERRED
        good = any(receipt.good for receipt in self.receipts)
        if bad or refused or self.plan.missing:
            kept = any(step.action is Action.KEEP for step in self.plan.steps)
            return Result.PARTIAL if kept or good else Result.FAILED
        return Result.SUCCESS if good else Result.NOOP

    @cached_property
    def problems(self) -> tuple[str, ...]:
        """What was skipped because it is wrong upstream, in the plan or at execution; each once."""
        found = [receipt.problem for receipt in self.receipts if receipt.problem]
        return tuple(dict.fromkeys((*(self.plan.problems if self.plan else ()), *found)))

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """What is worth knowing but no problem, from the plan and the execution; each once."""
        found = [receipt.remark for receipt in self.receipts if receipt.remark]
        return tuple(dict.fromkeys((*(self.plan.remarks if self.plan else ()), *found)))

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Receipts by outcome."""
        return Counter(receipt.outcome.value for receipt in self.receipts)

    @cached_property
    def sent(self) -> int:
        """Bytes of content written to all targets."""
        return sum(receipt.sent for receipt in self.receipts)

    @cached_property
    def codes(self) -> frozenset[str]:
        """The error codes of the run as a whole and of its steps."""
        return frozenset((self.code, *(receipt.code for receipt in self.receipts))) - {""}

    @cached_property
    def deleted(self) -> int:
        """Items deleted, each counted at each target."""
        done = (one.step for one in self.receipts if one.outcome is Outcome.DONE)
        return sum(step.count for step in done if step.action is Action.DELETE)

    @cached_property
    def forbidden(self) -> int:
        """Steps that a rule forbids in the plan, and those that were refused at execution."""
        planned = sum(step.action is Action.REFUSE for step in self.plan.steps) if self.plan else 0
        return planned + self.counts.get(Outcome.REFUSED.value, 0)

    @property
    def idle(self) -> int:
        """Inactive steps of the plan."""
        return len(self.plan.steps) - len(self.plan.active) if self.plan else 0

    def add_up(self) -> Run:
        """Compute all derived values and return self: for many thousands of receipts this is work for a thread."""
        _ = (
            self.result,
            self.problems,
            self.remarks,
            self.counts,
            self.sent,
            self.codes,
            self.idle,
            self.deleted,
            self.forbidden,
        )
        return self
