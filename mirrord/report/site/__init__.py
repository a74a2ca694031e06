"""What a project's site says of its mirrors: where the copies are, how to use them, and how fresh they are.

`describing` decides all of it as texts in one language; `markdown` and `html` only write them down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table; `code` is what a machine reads, `link` the address of a page for people, or ""."""

    text: str
    link: str = ""
    code: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table, and a sentence below it, or ""."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    below: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """What one target has of a kind."""

    title: str
    table: Table


@dataclass(frozen=True, slots=True)
class Tab:
    """How to use a mirror at one target: one command a line."""

    title: str
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MirrorPart:
    """One mirror: the tabs of its targets, and its items as far as they are known."""

    name: str
    tabs: tuple[Tab, ...]
    items: Table | None


@dataclass(frozen=True, slots=True)
class KindPart:
    """All mirrors of a kind."""

    title: str
    tip: str
    groups: tuple[Group, ...]
    use: str  # heading of the mirrors
    mirrors: tuple[MirrorPart, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """The whole document; `others` are the files beside it that say the same, by their language."""

    language: str
    title: str
    description: str
    about: tuple[str, ...]
    tip: str  # heading of the tips
    kinds: tuple[KindPart, ...]
    disclaimer: str = ""
    takedown: tuple[str, Cell] | None = None  # what is said, and the address of the operator
    others: Mapping[str, str] = field(default_factory=dict)
