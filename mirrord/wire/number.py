"""Numbers that others wrote in headers, fields and answers. Pure."""

from __future__ import annotations

from typing import Final

DIGITS: Final = 18  # what fits into 63 bits whatever they are: no count of bytes or requests is longer


def whole(text: str, digits: int = DIGITS) -> int | None:
    """Return the number that `text` is, or None when it is none of at most so many ASCII digits.

    `str.isdigit` takes `²`, which `int` does not; `int` takes `1_0` and digits of every script, and raises for more
    than 4300 of them.
    """
    return int(text) if len(text) <= digits and text.isascii() and text.isdigit() else None
