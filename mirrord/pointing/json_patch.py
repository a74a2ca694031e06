"""The part of JSON Patch (RFC 6902) that is answered to Kubernetes: `add` and `replace`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

Path: TypeAlias = "tuple[str | int, ...]"
Operation: TypeAlias = "Mapping[str, Any]"


class PatchError(ValueError):
    """An operation cannot be applied."""


def pointer(path: Path) -> str:
    """Return the JSON Pointer (RFC 6901) of a value: keys of objects, and indexes in arrays."""
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in path)


def apply(document: object, operations: Iterable[Operation]) -> None:
    """Apply operations to a document, which they change.

    Raises:
        PatchError: one cannot be applied; those before it are.
    """
    for operation in operations:
        first, *tokens = str(operation["path"]).split("/")
        if first or not tokens:
            raise PatchError(f"{operation['path']!r} is not the path of a value in the document")
        *way, last = (token.replace("~1", "/").replace("~0", "~") for token in tokens)
        parent = document
        for token in way:
            parent = _step(parent, token)
        _set(parent, last, operation)


def _step(parent: object, token: str) -> object:
    if isinstance(parent, dict) and token in parent:
        return parent[token]
    if isinstance(parent, list):
        return parent[_index(token, len(parent))]
    raise PatchError(f"there is no {token!r} in the document")


def _set(parent: object, last: str, operation: Operation) -> None:
    if operation["op"] == "replace":
        _step(parent, last)
    if isinstance(parent, dict) and operation["op"] in ("add", "replace"):
        parent[last] = operation["value"]
    elif isinstance(parent, list) and operation["op"] == "replace":
        parent[_index(last, len(parent))] = operation["value"]
    else:
        raise PatchError(f"{operation['op']!r} is not known at {operation['path']!r}")


def _index(token: str, length: int) -> int:
    """Return an index in an array; RFC 6901 §4 has no leading zero and no sign."""
    if token.isascii() and token.isdigit() and len(token) <= 9 and str(int(token)) == token and int(token) < length:
        return int(token)
    raise PatchError(f"{token!r} is not an index of an array of {length}")
