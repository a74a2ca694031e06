"""From an event to a log line: which events are worth one, at which level, with which fields. Pure.

Event names are stable dotted words; `NAMES` is the whole list. WARNING means that a person should act.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mirrord.events import (
    Event,
    Planned,
    RateLimit,
    Reloaded,
    RequestDone,
    Retrying,
    RunFinished,
    RunSkipped,
    RunStarted,
    StepDone,
    TrustRefused,
)
from mirrord.model.run import Outcome, Receipt, Result, Run

NAMES = frozenset(
    {
        "daemon.notice",  # something the operator should know, in `message`
        "daemon.ready",  # listening; `address`
        "daemon.stopped",  # the last line
        "daemon.stopping",  # a signal came; `signal`
        "http.request",  # one exchange (debug)
        "http.retry",  # tried again after `delay`
        "http.rate_limit",  # what a host says is left of a quota (debug)
        "library",  # a warning of a library we use, in `message`
        "reload.done",  # a new configuration is in use
        "reload.refused",  # the old one stays; `error`
        "run.finished",  # the one summary line of a run
        "run.planned",  # what it is about to do
        "run.skipped",  # a tick that did nothing; `reason`
        "run.started",
        "step.done",
        "step.failed",
        "step.left_out",  # what upstream has is wrong; `problem`
        "trust.refused",  # a secret was not sent, or an address not dialled
    }
)


@dataclass(frozen=True, slots=True)
class Line:
    """One log line before its time is added: level, event name, fields."""

    level: str
    name: str
    fields: dict[str, object] = field(default_factory=dict)


def line(event: Event) -> Line | None:  # noqa: C901, PLR0911 - one case an event reads best in one place
    """Return what to write about `event`, or None."""
    match event:
        case RunFinished(run):
            return _summary(run)
        case StepDone(mirror, receipt):
            return _step(mirror, receipt)
        case RunStarted(mirror, kind, trigger):
            return Line("info", "run.started", {"mirror": mirror, "kind": kind, "trigger": trigger})
        case Planned(plan):
            fields = {"mirror": plan.mirror, "steps": len(plan.steps), "active": len(plan.active)}
            fields |= {"problems": list(plan.problems), "missing": list(plan.missing)}
            return Line("warning" if plan.missing else "info", "run.planned", fields)
        case RunSkipped(mirror, reason):
            return Line("info", "run.skipped", {"mirror": mirror, "reason": reason})
        case Reloaded(error):
            return Line("error", "reload.refused", {"error": error}) if error else Line("info", "reload.done")
        case TrustRefused(host, reason):
            return Line("warning", "trust.refused", {"host": host, "reason": reason})
        case Retrying(host, reason, delay):
            return Line("info", "http.retry", {"host": host, "reason": reason, "delay": round(delay, 3)})
        case RequestDone(host, method, status, seconds):
            fields = {"host": host, "method": method, "status": status, "seconds": round(seconds, 3)}
            return Line("debug", "http.request", fields)
        case RateLimit(host, remaining):
            return Line("debug", "http.rate_limit", {"host": host, "remaining": remaining})
        case _:
            return None  # bytes on their way: metrics count them


def _step(mirror: str, receipt: Receipt) -> Line:
    step = receipt.step
    fields: dict[str, object] = {"mirror": mirror, "target": step.target, "item": step.item}
    fields |= {"digest": step.digest, "outcome": receipt.outcome.value, "sent": receipt.sent}
    if receipt.problem:
        fields["problem"] = receipt.problem
    if receipt.good and not receipt.problem:
        return Line("info" if receipt.outcome is Outcome.DONE else "debug", "step.done", fields)
    if not receipt.bad:
        return Line("warning", "step.done" if receipt.good else "step.left_out", fields)
    return Line("warning", "step.failed", fields | {"error_code": receipt.code, "error": receipt.detail})


def _summary(run: Run) -> Line:
    fields: dict[str, object] = {
        "mirror": run.mirror,
        "kind": run.kind,
        "trigger": run.trigger,
        "result": run.result.value,
        "seconds": round((run.finished - run.started).total_seconds(), 3),
        "read": run.read,
        "sent": sum(receipt.sent for receipt in run.receipts),
        "steps": dict(sorted(run.counts.items())),
        "problems": len(run.problems),
    }
    if run.error:
        fields |= {"error_code": run.code, "error": run.error}
    return Line("warning" if run.result in (Result.FAILED, Result.PARTIAL) else "info", "run.finished", fields)
