"""Moves of names at targets: written down before they are made, and again when their outcome is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Settled(StrEnum):
    """The outcome of a move."""

    OPEN = "open"  # nobody has looked yet
    DONE = "done"  # the name stands for what it shall
    UNDONE = "undone"  # it stands for what it did before
    OTHER = "other"  # it stands for something else, or the outcome cannot be determined


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One name that was to be moved at one target."""

    mirror: str
    target: str
    name: str  # the tag, the ref, the chart version or the index
    place: str  # the target's address; the entry is not valid for another one
    before: str | None  # digest that it stood for; None when there was none, or nobody knew
    after: str | None  # digest that it shall stand for; None when it goes
    run: datetime  # when the run began that moved it
    at: datetime  # when that was written down
    outcome: Settled = Settled.OPEN  # what came of it


def settled(before: str | None, after: str | None, now: str | None) -> Settled:
    """Return what came of a move by what its name stands for now."""
    return Settled.DONE if now == after else Settled.UNDONE if now == before else Settled.OTHER
