"""Whether a client takes a manifest as it is: none is ever converted, since that would change its digest. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_MOST: Final = 64  # entries that are read; clients send about ten
_LONGEST: Final = 8192  # characters


def accepts(fields: Sequence[str], media_type: str) -> bool:
    """Return whether the fields `Accept` of a request have a type (RFC 9110 section 12.5.1).

    Several fields are one list. A client that sends none takes everything. An entry with a weight of 0 does not count;
    other weights and parameters do not matter, since there is only one form.
    """
    joined = ",".join(fields)[:_LONGEST]
    entries = [entry for entry in joined.split(",")[:_MOST] if entry.strip()]
    whole = media_type.lower()
    group = f"{whole.partition('/')[0]}/*"
    return not entries or any(_type_of(entry) in ("*/*", group, whole) for entry in entries)


def _type_of(entry: str) -> str:
    """Return the type of an entry, "" for one that is refused."""
    kind, *parameters = (part.strip().lower() for part in entry.split(";"))
    refused = any(name.strip() == "q" and not value.strip("0. ") for name, _, value in map(_parted, parameters))
    return "" if refused else kind


def _parted(parameter: str) -> tuple[str, str, str]:
    return parameter.partition("=")
