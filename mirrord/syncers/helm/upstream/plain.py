"""What documents are made of: texts, flags, lists and mappings, and what lies where something cannot be taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mirrord.errors import ContentError, TooLargeError

MAX_DEPTH: Final = 64
MAX_VALUES: Final = 4_000_000  # grafana's index has 0.2 million in 4 MB
MAX_TEXT: Final = 64 << 20  # characters that all aliases may stand for: what an index may have in bytes

FLAGS: Final = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}


class PlainScalar(str):
    """A text that was written without quotes and that YAML, or helm, takes for a number or a flag: `1.10`, `yes`."""

    __slots__ = ()

    @property
    def flag(self) -> bool | None:
        """The flag that it is, or None when it is a number."""
        return FLAGS.get(self)


@dataclass(frozen=True, slots=True)
class Poison:
    """Lies where something was written that is not taken."""

    what: str  # one clause, with the line where there is one


_Weight = tuple[int, int, int]
"""How many values, characters and levels."""

Plain = str | bool | None | Poison | list["Plain"] | dict[str, "Plain"]


class Aliases:
    """What anchors stand for; what aliases make of it stays within the bounds of a document without any."""

    def __init__(self) -> None:
        self._values: dict[str, Plain] = {}
        self._weights: dict[int, tuple[Plain, _Weight]] = {}  # by id; the values are held, so that no id comes again
        self._spent = [0, 0]

    def keep(self, anchor: str, value: Plain) -> None:
        """Remember what an anchor stands for from here on."""
        self._values[anchor] = value
        self._weights[id(value)] = value, self._weigh(value)

    def value(self, anchor: str, depth: int, line: int) -> Plain:
        """Return what an alias stands for, at this depth.

        Raises:
            ContentError: that would be nested too deep.
            TooLargeError: all aliases together stand for too much.
        """
        if anchor not in self._values:
            return Poison(f"alias *{anchor[:40]} at line {line} stands for nothing")
        value = self._values[anchor]
        count, text, height = self._weights[id(value)][1]
        if depth + height > MAX_DEPTH:
            raise ContentError(f"is nested more than {MAX_DEPTH} levels deep (line {line})")
        self._spent = [self._spent[0] + count, self._spent[1] + text]
        if self._spent[0] > MAX_VALUES or self._spent[1] > MAX_TEXT:
            raise TooLargeError(f"has aliases that stand for more than {MAX_VALUES} values or {MAX_TEXT} characters")
        return value

    def _weigh(self, value: Plain) -> _Weight:
        """Return how many values, characters and levels there are; what has an anchor itself is not walked again."""
        known = self._weights.get(id(value))
        if known is not None:
            return known[1]
        if not isinstance(value, dict | list):
            return 1, len(value) if isinstance(value, str) else 0, 0
        inner = [self._weigh(one) for one in (value.values() if isinstance(value, dict) else value)]
        keys = sum(map(len, value)) if isinstance(value, dict) else 0
        height = max((one[2] for one in inner), default=0) + 1
        return 1 + sum(one[0] for one in inner), keys + sum(one[1] for one in inner), height


def merge(into: dict[str, Plain], value: Plain, line: int) -> Poison | None:
    """Take over the keys of a mapping, or of several, that `into` does not have yet (YAML 1.1, merge key)."""
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, dict):
            return one if isinstance(one, Poison) else Poison(f"the key << at line {line} stands for no mapping")
        for key, inner in one.items():
            into.setdefault(key, inner)
    return None


def said(value: Plain) -> str:
    """Write a value for people: a text in quotes, and anything else in words."""
    if isinstance(value, str):
        return f"{str(value)[:80]!a}"
    if isinstance(value, Poison):
        return f"nothing that can be read ({value.what})"
    return {type(None): "nothing", bool: "true or false", list: "a list", dict: "a mapping"}[type(value)]
