"""Answers of APIs, read with suspicion. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from mirrord.errors import ContentError
from mirrord.wire.number import whole


def text(document: object, *keys: str) -> str | None:
    """Return the text (or number) that stands below these keys, or None when there is none."""
    for key in keys:
        document = document.get(key) if isinstance(document, Mapping) else None
    if isinstance(document, int) and not isinstance(document, bool):
        return str(document)
    return document if isinstance(document, str) and document else None


def needed(document: object, host: str, *keys: str) -> str:
    """Return the text below these keys.

    Raises:
        ContentError: there is none.
    """
    value = text(document, *keys)
    if value is None:
        raise ContentError(f"{host}: the answer of its API has no {'.'.join(keys)}; has the API changed?")
    return value


def number(document: object, host: str, *keys: str) -> int:
    """Return the number below these keys.

    Raises:
        ContentError: there is none.
    """
    value = whole(needed(document, host, *keys))
    if value is None:
        raise ContentError(f"{host}: the answer of its API has no number as {'.'.join(keys)}; has the API changed?")
    return value


def mapping(value: object) -> Mapping[str, object]:
    """Return an object of JSON, {} for anything else."""
    return value if isinstance(value, dict) else {}


def identifier(document: object) -> str:
    """Return the `id` of an entry; "" if it is no number: it becomes a part of a path."""
    found = mapping(document).get("id")
    return str(found) if isinstance(found, int) and not isinstance(found, bool) else ""
