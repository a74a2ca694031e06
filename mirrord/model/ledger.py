"""Moves of names at targets: written down before they are made, and again when their outcome is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Settled(StrEnum):
    """The outcome of a move."""

    OPEN = "open"  # not checked yet
    DONE = "done"  # the name points to the new digest
    UNDONE = "undone"  # it still points to the old digest
    OTHER = "other"  # it stands for something else, or the outcome cannot be determined


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One intended move of a name at one target.

    Attributes:
        mirror: name of the mirror.
        target: name of the target.
        name: the tag, the ref, the chart version or the index.
        place: the target's address; the entry is not valid for another one.
        before: its old digest; None for none or unknown.
        after: its new digest; None for a deletion.
        run: start of the run.
        at: when the entry was written.
        outcome: its outcome.
        id: number in the record, increasing; 0 before it is recorded.
    """

    mirror: str
    target: str
    name: str
    place: str
    before: str | None
    after: str | None
    run: datetime
    at: datetime
    outcome: Settled = Settled.OPEN
    id: int = field(default=0, compare=False)


def settled(before: str | None, after: str | None, now: str | None) -> Settled:
    """Return the outcome of a move, given the present digest of the name."""
    return Settled.DONE if now == after else Settled.UNDONE if now == before else Settled.OTHER
