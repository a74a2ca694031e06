"""JSON Schema of documents for machines, made from the values that are written and from what their docstrings say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from mirrord.report.notices import Notification
from mirrord.report.status import Status

Schema = dict[str, Any]
STATUS_PATH: Final = "/api/v1/status.schema.json"
"""Where the schema of `/status` is served."""
UNWRITTEN: Final = {"AskedImage": {"after"}, "LastRun": {"troubles"}, "LastSeen": {"place"}}
"""Attributes that no document has, by class: `after` is a header, troubles are beside `last_run`, and places those of
today."""
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ATTRIBUTE = re.compile(r" {4}(\w{1,40}): (.*)")


class _FromDocstrings(GenerateJsonSchema):
    """Every key is there always, and has what the docstring of its class says of it; further ones may be added."""

    def dataclass_schema(self, schema: Any) -> Schema:
        """Return the schema of a class."""
        found, kind = super().dataclass_schema(schema), schema["cls"]
        found["description"] = cleandoc(kind.__doc__ or "").split("\n\n")[0]
        for name in UNWRITTEN.get(kind.__name__, ()):
            del found["properties"][name]
        said = {name: text for one in reversed(kind.__mro__) for name, text in _attributes(one.__doc__ or "").items()}
        for name, key in found["properties"].items():
            about = {"description": f"{said[name][:1].upper()}{said[name][1:]}"} if name in said else {}
            found["properties"][name] = {**about, **{word: value for word, value in key.items() if word != "default"}}
        return {**found, "required": list(found["properties"])}


def _attributes(docstring: str) -> Mapping[str, str]:
    """Return what a docstring says of each attribute of its class."""
    found, name = dict[str, str](), ""
    for line in cleandoc(docstring).partition("Attributes:\n")[2].splitlines():
        if match := _ATTRIBUTE.fullmatch(line):
            name, found[match[1]] = match[1], match[2]
        elif line.startswith(" " * 8) and name:
            found[name] += f" {line.strip()}"
        else:
            break
    return found


def status_schema() -> Schema:
    """Return the schema of `/status`."""
    made = TypeAdapter(Status).json_schema(mode="serialization", schema_generator=_FromDocstrings)
    return {"$schema": _DIALECT, "$id": STATUS_PATH, **_untitled(made), "title": "mirrord status"}


def notification_schema() -> Schema:
    """Return the schema of what a webhook gets (`notify:`)."""
    made = TypeAdapter(Notification).json_schema(mode="serialization", schema_generator=_FromDocstrings)
    return {"$schema": _DIALECT, **_untitled(made), "title": "mirrord notification"}


def schemas_of(kinds: Mapping[str, Any], template: str) -> tuple[Mapping[str, Schema], Mapping[str, Schema]]:
    """Return the schema of each of these types by name, and those that they refer to as `template` says, by class."""
    inputs: Sequence[Any] = [(name, "serialization", TypeAdapter(kind)) for name, kind in kinds.items()]
    made, shared = TypeAdapter.json_schemas(inputs, schema_generator=_FromDocstrings, ref_template=template)
    return {name: _untitled(schema) for (name, _), schema in made.items()}, _untitled(shared.get("$defs", {}))


def _untitled(node: Any) -> Any:
    """Leave out titles, which only repeat names."""
    if isinstance(node, dict):
        return {key: _untitled(value) for key, value in node.items() if key != "title" or not isinstance(value, str)}
    return [_untitled(one) for one in node] if isinstance(node, list) else node
