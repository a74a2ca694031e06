"""From text to models. Each of pydantic's errors becomes one line: the key, its line, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import wraps
from types import MappingProxyType
from typing import Any, Final, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, WithJsonSchema
from pydantic.errors import PydanticInvalidForJsonSchema

from mirrord.config.lines import Problems, Trail, Value, nearest
from mirrord.errors import MirrordError

M = TypeVar("M", bound=BaseModel)
P = ParamSpec("P")
R = TypeVar("R")
_QUOTED = re.compile(r"'([^']*)'")
_SECRET = re.compile("auth|secret|token|password|credential|key", re.IGNORECASE)
_NAMES = {"model_attributes_type": "model", "int_from_float": "int"}
_KINDS = {  # pydantic's word: ours, and an example
    "string": ("text", ""),
    "int": ("a whole number", "6"),
    "float": ("a number", "0.5"),
    "bool": ("true or false", "true"),
    "path": ("a path", "/srv/images"),
    **dict.fromkeys(("list", "tuple", "set"), ("a list", "[a, b]")),
    **dict.fromkeys(("dict", "model"), ("a mapping", "{key: value}")),
}
TEXTS: Final = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
"""The schema of a list of texts for which one text may stand: see `as_list`."""


def as_list(value: object) -> object:
    """Return a list of the one text that was written in place of a list."""
    return [value] if isinstance(value, str) else value


def known_keys(model: type[BaseModel]) -> set[str]:
    """Return every key of a model as people write it, nested ones with dots (`spool.budget`)."""
    shape = schema_of(model)

    def walk(trail: Trail) -> Iterator[str]:
        for name, _ in children(shape, trail):
            yield ".".join(map(str, (*trail, name)))
            yield from walk((*trail, name))

    return set(walk(()))


def schema_of(model: type[BaseModel]) -> Mapping[str, Any]:
    """Return the JSON schema of a model with its keys as people write them; empty when it has none."""
    try:
        return model.model_json_schema(by_alias=True)
    except PydanticInvalidForJsonSchema:
        return {}  # a syncer's model may have types without a schema; then there are no suggestions


def children(shape: Mapping[str, Any], trail: Trail) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the keys that the mapping at `trail` may have, each with its schema."""
    nodes = list(_forms(shape, shape))
    for part in trail:
        nodes = [form for node in nodes for below in _below(node, part) for form in _forms(shape, below)]
    for node in nodes:
        yield from node.get("properties", {}).items()


def _below(node: Mapping[str, Any], part: str | int) -> Iterator[Mapping[str, Any]]:
    if isinstance(part, int):
        candidates = [node.get("items")]
    else:
        candidates = [node.get("properties", {}).get(part), node.get("additionalProperties")]
    yield from (candidate for candidate in candidates if isinstance(candidate, Mapping))


def _forms(shape: Mapping[str, Any], node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Follow references and unions to what a node may be."""
    if reference := node.get("$ref"):
        yield from _forms(shape, shape["$defs"][reference.rpartition("/")[2]])
        return
    yield node
    for union in ("anyOf", "oneOf", "allOf"):
        for form in node.get(union, ()):
            yield from _forms(shape, form)


def validator(read: Callable[P, R]) -> Callable[P, R]:
    """Return `read` for pydantic, which reports ValueErrors: a MirrordError is raised as one with the same message."""

    @wraps(read)
    def validate(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return read(*args, **kwargs)
        except MirrordError as error:
            raise ValueError(str(error)) from error

    return validate


class InnerError(ValueError):
    """What is wrong with a key below the model whose validator raises it."""

    def __init__(self, trail: Trail, what: str) -> None:
        """Keep where it is."""
        super().__init__(what)
        self.trail = trail


class Strict(BaseModel):
    """A part of the configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class _Fault:
    """One of pydantic's errors; `branch` is the alternative of a union that it belongs to, and where the union is."""

    trail: Trail
    type: str
    message: str
    context: Mapping[str, Any]
    got: object
    branch: tuple[Trail, str] | None


def check(
    model: type[M],
    value: Value,
    trail: Trail,
    problems: Problems,
    *,
    beside: type[BaseModel] | None = None,
    examples: Mapping[str, str] = MappingProxyType({}),
) -> M | None:
    """Validate the value at `trail`, or note everything that is wrong with it and return None.

    A model may have `hints`: keys of other programs (with dots, without places in lists), and what to write.

    Args:
        model: what the value has to be.
        value: as read, scalars as text.
        trail: where it was written.
        problems: collects what is wrong.
        beside: another model whose keys the same mapping may have, for suggestions.
        examples: of values for keys of the outermost mapping, better than those of the model.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = [_fault(value, details) for details in error.errors(include_url=False)]
    models = [found for found in (model, beside) if found]
    shapes = [schema_of(found) for found in models]
    hints = {key: hint for found in models for key, hint in getattr(found, "hints", {}).items()}
    for fault in _likeliest(faults):
        known = {name: node for shape in shapes for name, node in children(shape, fault.trail[:-1])}
        inner = {name for shape in shapes for name, _ in children(shape, fault.trail)}
        if len(fault.trail) == 1 and (better := examples.get(str(fault.trail[0]))):
            known |= {str(fault.trail[0]): {"examples": [better]}}
        hint = (
            hints.get(".".join(one for one in fault.trail if isinstance(one, str)))
            if fault.type == "extra_forbidden"
            else None
        )
        problems.add(trail + fault.trail, f"unknown key; {hint}" if hint else _tell(fault, known, inner))
    return None


def _fault(value: Value, details: Mapping[str, Any]) -> _Fault:
    """Follow pydantic's location through the value; a part that is not in the value names an alternative of a union."""
    trail: Trail = ()
    branch: tuple[Trail, str] | None = None
    context = details.get("ctx", {})
    error = context.get("error")
    here: object = value
    for position, part in enumerate(details["loc"]):
        last = position == len(details["loc"]) - 1
        inside = isinstance(part, str) and isinstance(here, dict) and part in here
        inside = inside or (isinstance(part, int) and isinstance(here, list) and part < len(here))
        if inside:
            here = here[part]  # type: ignore[index]  # checked just above
            trail = (*trail, part)
        elif last and details["type"] == "missing":
            trail = (*trail, part)
        elif branch is None:
            branch = (trail, str(part))
    trail += error.trail if isinstance(error, InnerError) else ()
    return _Fault(trail, details["type"], details["msg"], context, here, branch)


def _likeliest(faults: list[_Fault]) -> list[_Fault]:
    """Keep, for each union, only the errors of the alternative that the operator most likely meant."""
    forms: dict[Trail, dict[str, list[_Fault]]] = {}
    for fault in faults:
        if fault.branch:
            forms.setdefault(fault.branch[0], {}).setdefault(fault.branch[1], []).append(fault)
    kept = {trail: min(branches, key=lambda name: _distance(branches[name])) for trail, branches in forms.items()}
    likely = [fault for fault in faults if fault.branch is None or kept[fault.branch[0]] == fault.branch[1]]
    # A list whose only entry is wrong is counted as empty, too.
    above = {fault.trail[:length] for fault in likely for length in range(len(fault.trail))}
    return [fault for fault in likely if not (fault.type == "too_short" and fault.trail in above)]


def _distance(faults: list[_Fault]) -> tuple[int, int, float]:
    """Order alternatives: fewest errors first, then the deepest errors, then the likeliest typo."""
    missing = [str(fault.trail[-1]) for fault in faults if fault.type == "missing"]
    extra = [str(fault.trail[-1]) for fault in faults if fault.type == "extra_forbidden"]
    likeness = (SequenceMatcher(None, one, other).ratio() for one in missing for other in extra)
    depth = max(len(fault.trail) for fault in faults)
    return len(faults), -depth, -max(likeness, default=0.0)


def _tell(fault: _Fault, known: Mapping[str, Mapping[str, Any]], inner: set[str]) -> str:
    """Describe the problem and the fix, given the schemas of the sibling keys and the names of the inner keys."""
    name = str(fault.trail[-1]) if fault.trail else ""
    wanted = _NAMES.get(fault.type, fault.type.rpartition("_")[0])
    kind, usual = _KINDS.get(wanted, ("", ""))
    example = next(iter(known.get(name, {}).get("examples", ())), f"{{{min(inner)}: …}}" if inner else usual)
    such = f", such as {example}" if example else ""
    if fault.type == "extra_forbidden":
        return f"unknown key; {nearest(name, {key for key in known if key != name})}"
    if fault.type == "missing":
        return f"is missing; write {name}: {example or '…'}"
    if fault.got is None:
        return f"is empty; write a value{such}, or remove the key"
    if fault.type.endswith("too_short"):
        return f"is empty; write at least one{such}"
    if kind and fault.type.endswith(("_type", "_parsing", "_float")):
        return f"{_got(fault)} is not {kind}; write {kind}{such}"
    return _tell_value(fault)


def _tell_value(fault: _Fault) -> str:
    """Describe why a value of the right type is wrong."""
    if fault.type == "value_error":
        return str(fault.context.get("error", fault.message))
    if fault.type in ("literal_error", "enum"):
        words = _QUOTED.findall(str(fault.context.get("expected", "")))
        return f"{_got(fault)} is not allowed; {nearest(str(fault.got), set(words))}"
    message = fault.message.removeprefix("Input should be ").removeprefix("Value should ")
    return f"{_got(fault)} is not allowed; write a value {message[:1].lower()}{message[1:]}"


def _got(fault: _Fault) -> str:
    """Return what was written, unless it may be a secret."""
    if isinstance(fault.got, dict | list):
        return "a mapping" if isinstance(fault.got, dict) else "a list"
    secret = any(isinstance(part, str) and _SECRET.search(part) for part in fault.trail)
    return "this value" if secret or not isinstance(fault.got, str) else repr(fault.got[:60])
