"""Which keys may stand where in a model, asked of its JSON schema: for suggestions and for the reference manual."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

from mirrord.config.lines import Trail


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
        return {}  # a syncer's own model may hold what no schema can say: no suggestions then


def children(shape: Mapping[str, Any], trail: Trail) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the keys that may stand in the mapping at `trail`, each with its schema."""
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
