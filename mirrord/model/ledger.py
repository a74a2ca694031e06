"""What was moved where, as it is written down: before it is done, and once more when it is known what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Settled(StrEnum):
    """What came of a move."""

    OPEN = "open"  # nobody has looked yet
    DONE = "done"  # the name stands for what it shall
    UNDONE = "undone"  # it stands for what it did before
    OTHER = "other"  # it stands for something else, or nobody can find out any more


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One name that was to be moved at one target."""

    mirror: str
    target: str
    name: str  # the tag, the ref, the chart version or the index
    place: str  # the target's address; an entry says nothing about another one
    before: str | None  # digest that it stood for; None when there was none, or nobody knew
    after: str | None  # digest that it shall stand for; None when it goes
    run: datetime  # when the run began that moved it
    at: datetime  # when that was written down
    outcome: Settled = Settled.OPEN  # what came of it


def settled(before: str | None, after: str | None, now: str | None) -> Settled:
    """Return what came of a move by what its name stands for now."""
    return Settled.DONE if now == after else Settled.UNDONE if now == before else Settled.OTHER
