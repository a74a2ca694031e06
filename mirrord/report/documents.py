"""Plans, runs and events as JSON documents, by pydantic and the dataclasses themselves. Pure.

`run_document` and `plan_document` are for machines (`--json`). What goes over the control socket is written by `pieces`
and `event_document`, and is the same values again at the other end, by `Gathering` and `event_from`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, get_args

from pydantic import TypeAdapter

from mirrord.events import Event, Planned
from mirrord.model.plan import Plan
from mirrord.model.run import Run

Document = dict[str, Any]

PIECE = 500
"""Steps, receipts or problems in one document on the control socket: some 200 kB."""
_LISTS = ("steps", "problems", "missing", "remarks")  # of a plan; of a run `receipts`, too
_EVENTS = {kind.__name__: kind for kind in get_args(Event)}


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """Return what writes and reads values of a type; making it costs milliseconds."""
    return TypeAdapter(kind)


def plan_document(plan: Plan) -> Document:
    """Write a plan for machines."""
    document: Document = adapter(Plan).dump_python(plan, mode="json", exclude={"decisions"})
    return {**document, "at": plan.at.isoformat(), "steps": [_step(step) for step in document["steps"]]}


def run_document(run: Run) -> Document:
    """Write a run for machines, with what follows from its fields: `result`, `counts`, `problems` and `remarks`."""
    document: Document = adapter(Run).dump_python(run, mode="json", exclude={"plan", "places"})
    return {
        **document,
        "result": run.result.value,
        "started": run.started.isoformat(),
        "finished": run.finished.isoformat(),
        "counts": dict(sorted(run.counts.items())),
        "problems": list(run.problems),
        "remarks": list(run.remarks),
        "plan": None if run.plan is None else plan_document(run.plan),
        "receipts": [{**receipt, "step": _step(receipt["step"])} for receipt in document["receipts"]],
    }


def _step(document: Document) -> Document:
    del document["named"]  # what is to be remembered is the record's business
    return {**document, "stays": sorted(document["stays"])}


def pieces(value: object) -> Iterator[Document]:
    """Write a value as several documents, none of them long: a plan of 100 000 steps takes seconds."""
    plan = value.plan if isinstance(value, Run) else value if isinstance(value, Plan) else None
    lists: list[tuple[str, Sequence[object]]] = []
    if plan is not None:
        lists = [(name, getattr(plan, name)) for name in _LISTS]
        plan = _bare(plan)
    if isinstance(value, Run):
        lists.append(("receipts", value.receipts))
        value = replace(value, plan=plan, receipts=())
    for name, items in lists:
        for at in range(0, len(items), PIECE):
            yield {"piece": name, "items": _dumped(items[at : at + PIECE])}
    yield {"whole": _dumped(plan if isinstance(value, Plan) else value)}


def _bare(plan: Plan) -> Plan:
    return replace(plan, steps=(), problems=(), missing=(), remarks=(), decisions=None)


def _dumped(value: object) -> Any:
    return adapter(Any).dump_python(value, mode="json")


class Gathering:
    """Joins again what `pieces` has written of one value after the other."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.wholes: list[Any] = []
        self._lists: dict[str, list[Any]] = {}

    def take(self, document: Mapping[str, Any]) -> None:
        """Take the next document."""
        if "piece" in document:
            self._lists.setdefault(document["piece"], []).extend(document["items"])
            return
        whole, lists = document["whole"], self._lists
        self._lists = {}
        if "receipts" in lists:
            whole["receipts"] = lists.pop("receipts")
        if lists:
            whole.get("plan", whole).update(lists)
        self.wholes.append(whole)


def event_document(event: Event) -> Document:
    """Write an event; of a plan without its lists, which come with the run at its end."""
    told = Planned(_bare(event.plan)) if isinstance(event, Planned) else event
    return {"event": type(event).__name__, "fields": _dumped(told)}


def event_from(document: Mapping[str, Any]) -> Event:
    """Read what `event_document` wrote."""
    event: Event = adapter(_EVENTS[document["event"]]).validate_python(document["fields"])
    return event
