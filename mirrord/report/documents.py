"""Plans, runs and events as JSON documents, and back. Pure.

Used wherever a run is shown to machines (`--json`), and between a daemon and the command line: what comes
over the control socket becomes the same values again, so the command line need not care who did the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from mirrord.events import (
    BytesRead,
    BytesSent,
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
from mirrord.model import Action, Outcome, Plan, Receipt, Run, Step
from mirrord.syncer import Backup

Document = dict[str, Any]

_FLAT: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(BytesRead, BytesSent, RateLimit, Reloaded, RequestDone),
        *(Retrying, RunSkipped, RunStarted, TrustRefused),
    )
}


def backup_document(backup: Backup) -> Document:
    """Write a backup as a document."""
    return asdict(backup)


def plan_document(plan: Plan) -> Document:
    """Write a plan as a document."""
    return {
        "mirror": plan.mirror,
        "kind": plan.kind,
        "at": plan.at.isoformat(),
        "steps": [_step(step) for step in plan.steps],
        "problems": list(plan.problems),
        "missing": list(plan.missing),
        "remarks": list(plan.remarks),
        "error": plan.error,
        "code": plan.code,
    }


def plan_from(document: Mapping[str, Any]) -> Plan:
    """Read what `plan_document` wrote."""
    return Plan(
        document["mirror"],
        document["kind"],
        datetime.fromisoformat(document["at"]),
        tuple(_step_from(step) for step in document["steps"]),
        **{key: tuple(document[key]) for key in ("problems", "missing", "remarks")},
        error=document["error"],
        code=document["code"],
    )


def run_document(run: Run) -> Document:
    """Write a run as a document; `result`, `counts`, `problems` and `remarks` are for readers and not read back."""
    return {
        "mirror": run.mirror,
        "kind": run.kind,
        "trigger": run.trigger,
        "result": run.result.value,
        "started": run.started.isoformat(),
        "finished": run.finished.isoformat(),
        "read": run.read,
        "error": run.error,
        "code": run.code,
        "counts": dict(sorted(run.counts.items())),
        "problems": list(run.problems),
        "remarks": list(run.remarks),
        "plan": None if run.plan is None else plan_document(run.plan),
        "receipts": [_receipt(receipt) for receipt in run.receipts],
    }


def run_from(document: Mapping[str, Any]) -> Run:
    """Read what `run_document` wrote."""
    return Run(
        document["mirror"],
        document["kind"],
        document["trigger"],
        datetime.fromisoformat(document["started"]),
        datetime.fromisoformat(document["finished"]),
        None if document["plan"] is None else plan_from(document["plan"]),
        tuple(_receipt_from(receipt) for receipt in document["receipts"]),
        document["read"],
        document["error"],
        document["code"],
    )


def event_document(event: Event) -> Document:
    """Write an event as a document whose `event` is the name of its class."""
    match event:
        case Planned(plan):
            return {"event": "Planned", "plan": plan_document(plan)}
        case StepDone(mirror, receipt):
            return {"event": "StepDone", "mirror": mirror, "receipt": _receipt(receipt)}
        case RunFinished(run):
            return {"event": "RunFinished", "run": run_document(run)}
        case _:
            return {"event": type(event).__name__, **event._asdict()}


def event_from(document: Mapping[str, Any]) -> Event | None:
    """Read what `event_document` wrote; None for an event that this version does not know."""
    fields = {key: value for key, value in document.items() if key != "event"}
    match document.get("event"):
        case "Planned":
            return Planned(plan_from(fields["plan"]))
        case "StepDone":
            return StepDone(fields["mirror"], _receipt_from(fields["receipt"]))
        case "RunFinished":
            return RunFinished(run_from(fields["run"]))
        case str(name) if name in _FLAT:
            event: Event = _FLAT[name](**fields)
            return event
        case _:
            return None


def _step(step: Step) -> Document:
    document = asdict(replace(step, named=()))  # what is to be remembered is the record's business
    del document["named"]
    return document | {"action": step.action.value, "names": list(step.names), "stays": sorted(step.stays)}


def _step_from(document: Mapping[str, Any]) -> Step:
    names, stays = tuple(document["names"]), frozenset(document["stays"])
    fields = {"action": Action(document["action"]), "names": names, "stays": stays, "left": tuple(document["left"])}
    return Step(**dict(document) | fields)


def _receipt(receipt: Receipt) -> Document:
    return asdict(receipt) | {"step": _step(receipt.step), "outcome": receipt.outcome.value}


def _receipt_from(document: Mapping[str, Any]) -> Receipt:
    fields = dict(document) | {"step": _step_from(document["step"]), "outcome": Outcome(document["outcome"])}
    fields |= {"left": tuple(document["left"])}
    return Receipt(**fields)
