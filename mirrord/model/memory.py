"""What the record knows of targets: evidence, not truth. Losing it breaks nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class LastSeen:
    """What we remember to have seen at a target."""

    digest: str  # the item's content there
    at: datetime  # when that was last confirmed by the target itself
    place: str = ""  # where that was (origin and address); it is not valid for another place


@dataclass(frozen=True, slots=True)
class NamedBuild:
    """Which build a name stands for at a target, and who put it there."""

    name: str
    digest: str  # what it stands for
    at: datetime  # when that was last confirmed by the target itself
    stays: bool = False  # it is the name of one build and never moves to another
    beside: str = ""  # the other name of that build: of a name that moves the one that stays, and the other way round
    created: datetime | None = None  # creation time of that build by its own metadata, or None
    # the newest annotated build that the mirror's own source gave it to; None when it never did
    ahead: datetime | None = None
    number: int = 0  # of the last publish that gave it; 0 when none did
    # when the publish was accepted that put it where it is; None when the mirror's own source did
    published: datetime | None = None
    place: str = ""  # as of `LastSeen`


class Memory(Mapping[tuple[str, str], LastSeen]):
    """(target name, item name) → what is known of it."""

    __slots__ = ("_known", "names")

    def __init__(
        self,
        known: Mapping[tuple[str, str], LastSeen] | None = None,
        names: Mapping[tuple[str, str], NamedBuild] | None = None,
    ) -> None:
        """Remember these."""
        self._known = known or {}
        self.names = names or {}  # (target name, name there) → which build it stands for; only of names that builds got

    def __getitem__(self, key: tuple[str, str]) -> LastSeen:
        """Return what is known of an item at a target."""
        return self._known[key]

    def get(self, key: tuple[str, str], default: Any = None) -> Any:
        """Return what is known of an item at a target: the dictionary's own, since plans ask for each item."""
        return self._known.get(key, default)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Iterate over targets and items."""
        return iter(self._known)

    def __len__(self) -> int:
        """Count the items, at each target for itself."""
        return len(self._known)


NO_MEMORY = Memory()
