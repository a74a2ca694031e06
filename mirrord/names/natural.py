"""The order of names in which numbers count as numbers: v0.9.0 is before v0.10.0. Pure."""

from __future__ import annotations

import re
from typing import Final

_DIGITS: Final = re.compile(r"[0-9]+")
_LONG: Final = 9  # digits
_LONGEST: Final = 255  # characters of a key


def natural_key(text: str) -> str:
    """Return what sorts a text, as text, by the numbers in it.

    Each number has the count of its digits in front, without zeros that lead: of two numbers the longer one is greater.
    Numbers that differ only in such zeros have the same key, and so have texts that differ only after 200 characters
    or more.
    """
    return _DIGITS.sub(_counted, text)[:_LONGEST]


def natural_order(name: str) -> tuple[str, str]:
    """Return what sorts names by the numbers in them, and names of which that is the same by themselves."""
    return natural_key(name), name


def _counted(found: re.Match[str]) -> str:
    digits = found[0].lstrip("0") or "0"
    count = len(digits)
    return f"{count}{digits}" if count < _LONG else f"{_LONG}{count:010}{digits}"
