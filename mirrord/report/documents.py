"""Plans, runs and events as JSON documents, by pydantic and the dataclasses themselves. Pure.

`run_document` and `plan_document` are the output of `--json`. On the control socket values are written by `pieces` and
`event_document`, and read by `Gathering` and `event_from`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

from mirrord.events import Event, Planned
from mirrord.model.plan import Plan, Step, TagVerdict
from mirrord.model.run import Receipt, Run

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Document = dict[str, Any]

PIECE = 500
"""Steps, receipts or problems in one document on the control socket: some 200 kB."""
_STEPS, _RECEIPTS, _TEXTS = tuple[Step, ...], tuple[Receipt, ...], tuple[str, ...]
_VERDICTS = tuple[TagVerdict, ...]
_LISTS = {"steps": _STEPS, "problems": _TEXTS, "missing": _TEXTS, "remarks": _TEXTS, "verdicts": _VERDICTS}
"""Of a plan, with their types; of a run `receipts`, too."""
_EVENTS = {kind.__name__: kind for kind in get_args(Event)}


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """Return what writes and reads values of a type; making it costs milliseconds, and pydantic tens of them."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - a command without `--json` writes no documents

    return TypeAdapter(kind)


def plan_document(plan: Plan) -> Document:
    """Write a plan for machines."""
    document: Document = adapter(Plan).dump_python(plan, mode="json", exclude={"decisions"})
    return {**document, "steps": [_step(step) for step in document["steps"]]}


def run_document(run: Run) -> Document:
    """Write a run for machines, with what follows from its fields: `result`, `counts`, `problems` and `remarks`."""
    document: Document = adapter(Run).dump_python(run, mode="json", exclude={"plan", "places", "receipts", "took"})
    plan = None if run.plan is None else plan_document(run.plan)
    turns = _turns(run.plan)
    steps = [plan["steps"][one] if plan and isinstance(one, int) else _step(one) for one in _of(run.receipts, turns)]
    return {
        **document,
        "result": run.result.value,
        "counts": dict(sorted(run.counts.items())),
        "problems": list(run.problems),
        "remarks": list(run.remarks),
        "plan": plan,
        "receipts": [
            {**receipt, "step": step} for receipt, step in zip(_bare_receipts(run.receipts), steps, strict=True)
        ],
    }


def _step(document: Any) -> Document:
    for name in ("named", "code", "whole", "source"):  # for the record, sentences, and turns of workers
        del document[name]
    document["stays"].sort()
    found: Document = document
    return found


def pieces(value: object) -> Iterator[Document]:
    """Write a value as several documents, none of them long: a plan of 100 000 steps takes seconds.

    A step is written once: a receipt has the number of the one in the plan that it is `of`.
    """
    plan = value.plan if isinstance(value, Run) else value if isinstance(value, Plan) else None
    for name, kind in _LISTS.items() if plan is not None else ():
        for part in _parts(getattr(plan, name)):
            yield {"piece": name, "items": adapter(kind).dump_python(part, mode="json")}
    if isinstance(value, Run):
        turns = _turns(plan)
        for part in _parts(value.receipts):
            yield {"piece": "receipts", "items": _bare_receipts(part), "of": _of(part, turns)}
        value = replace(value, plan=plan and _bare(plan), receipts=())
    yield {"whole": _dumped(_bare(value) if isinstance(value, Plan) else value)}


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[at : at + PIECE] for at in range(0, len(items), PIECE))


def _turns(plan: Plan | None) -> Mapping[int, int]:
    """Return, by identity, the number of each step: to compare steps costs more than to write them."""
    return {id(step): number for number, step in enumerate(plan.steps if plan else ())}


def _of(receipts: Sequence[Receipt], turns: Mapping[int, int]) -> list[int | Document]:
    """Return of each receipt the number of its step, or the step itself where the plan has another."""
    found = (turns.get(id(receipt.step)) for receipt in receipts)
    return [
        adapter(Step).dump_python(receipt.step, mode="json") if number is None else number
        for receipt, number in zip(receipts, found, strict=True)
    ]


def _bare_receipts(receipts: Sequence[Receipt]) -> list[Document]:
    documents: list[Document] = adapter(_RECEIPTS).dump_python(receipts, mode="json", exclude={"__all__": {"step"}})
    return documents


def _bare(plan: Plan) -> Plan:
    return replace(plan, steps=(), problems=(), missing=(), remarks=(), verdicts=(), decisions=None)


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
            name, items = document["piece"], document["items"]
            if name == "receipts":
                steps = self._lists.get("steps", [])
                for item, of in zip(items, document["of"], strict=True):
                    item["step"] = steps[of] if isinstance(of, int) else of
            read = adapter(_RECEIPTS if name == "receipts" else _LISTS[name]).validate_python(items)
            self._lists.setdefault(name, []).extend(read)
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
    bare = event._replace(plan=_bare(event.plan)) if isinstance(event, Planned) else event
    kind: Any = type(event)
    return {"event": kind.__name__, "fields": adapter(kind).dump_python(bare, mode="json")}


def event_from(document: Mapping[str, Any]) -> Event:
    """Read what `event_document` wrote."""
    event: Event = adapter(_EVENTS[document["event"]]).validate_python(document["fields"])
    return event
