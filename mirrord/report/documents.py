"""Plans, runs and events as JSON documents, and back. Pure.

Used wherever a run is shown to machines (`--json`), and between a daemon and the command line: what comes
over the control socket becomes the same values again, so the command line need not care who did the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
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
    RunSkipped,
    RunStarted,
    StepDone,
    TrustRefused,
)
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.syncer.values import Backup

Document = dict[str, Any]

PIECE = 500
"""Steps, receipts or problems in one document on the control socket: some 200 kB."""
_TEXTS = ("problems", "missing", "remarks")

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


def plan_pieces(plan: Plan) -> Iterator[Document]:
    """Write a plan as several documents, none of them long, however many steps it has; `Gathering` joins them."""
    yield from _pieces(plan)
    yield {"plan": plan_document(_bare(plan))}


def run_pieces(run: Run) -> Iterator[Document]:
    """Write a run as several documents, as `plan_pieces`."""
    if run.plan is not None:
        yield from _pieces(run.plan)
    yield from _cut("receipts", run.receipts, _receipt)
    yield {"run": run_document(replace(run, plan=run.plan and _bare(run.plan), receipts=()))}


def _pieces(plan: Plan) -> Iterator[Document]:
    yield from _cut("steps", plan.steps, _step)
    for name in _TEXTS:
        yield from _cut(name, getattr(plan, name), str)


def _cut(name: str, items: Sequence[Any], write: Callable[[Any], object]) -> Iterator[Document]:
    for at in range(0, len(items), PIECE):
        yield {"piece": name, "items": [write(one) for one in items[at : at + PIECE]]}


def _bare(plan: Plan) -> Plan:
    return replace(plan, steps=(), problems=(), missing=(), remarks=())


class Gathering:
    """Joins again what `plan_pieces` and `run_pieces` have written, one after the other."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._lists: dict[str, list[Any]] = {}

    def take(self, document: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Take the next document; return it whole, or None for a piece of one to come."""
        if "piece" in document:
            self._lists.setdefault(document["piece"], []).extend(document["items"])
            return None
        if not self._lists or not {"run", "plan"} & document.keys():
            return document
        lists, self._lists = self._lists, {}
        run = document.get("run")
        plan = run["plan"] if run else document["plan"]
        receipts = {"receipts": lists.pop("receipts", [])} if run else {}
        whole = plan and {**plan, **lists}
        return {"run": {**run, "plan": whole, **receipts}} if run else {"plan": whole}


def event_document(event: Event) -> Document:
    """Write an event as a document whose `event` is the name of its class.

    Of a plan the steps are left out, as of `RunFinished` everything: both come with the run at its end.
    """
    match event:
        case Planned(plan):
            return {"event": "Planned", "plan": plan_document(_bare(plan))}
        case StepDone(mirror, receipt):
            return {"event": "StepDone", "mirror": mirror, "receipt": _receipt(receipt)}
        case _:
            return {"event": type(event).__name__, **event._asdict()}


def event_from(document: Mapping[str, Any]) -> Event | None:
    """Read what `event_document` wrote; None for an event that this version does not know."""
    match document.get("event"):
        case "Planned":
            return Planned(plan_from(document["plan"]))
        case "StepDone":
            return StepDone(document["mirror"], _receipt_from(document["receipt"]))
        case str(name) if name in _FLAT:
            event: Event = _FLAT[name](**{key: value for key, value in document.items() if key != "event"})
            return event
        case _:
            return None


def _flat(value: Step | Receipt) -> Document:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _step(step: Step) -> Document:
    document = _flat(step) | {"action": step.action.value, "stays": sorted(step.stays)}
    del document["named"]  # what is to be remembered is the record's business
    return document | {"names": list(step.names), "left": list(step.left)}


def _step_from(document: Mapping[str, Any]) -> Step:
    names, stays = tuple(document["names"]), frozenset(document["stays"])
    changed = {"action": Action(document["action"]), "names": names, "stays": stays, "left": tuple(document["left"])}
    return Step(**dict(document) | changed)


def _receipt(receipt: Receipt) -> Document:
    document = _flat(receipt) | {"step": _step(receipt.step), "outcome": receipt.outcome.value}
    return document | {"left": list(receipt.left)}


def _receipt_from(document: Mapping[str, Any]) -> Receipt:
    changed = {"step": _step_from(document["step"]), "outcome": Outcome(document["outcome"])}
    return Receipt(**dict(document) | changed | {"left": tuple(document["left"])})
