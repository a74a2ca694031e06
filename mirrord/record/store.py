"""The port of the record: what it remembers, as values. No database and no clock here.

What a mirror holds can always be read from its targets again; what only the record knows is history:
when something last worked, and for how long it has not. Losing the record is therefore never fatal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mirrord.model.history import RunRecord, Standing
from mirrord.model.memory import Memory
from mirrord.model.run import Run

KEEP = 1000
"""Runs kept for each mirror; older ones are forgotten."""


class Store(Protocol):
    """What a record MUST offer. Every method raises `StorageError` when the disk or the database fails.

    Implementations MUST never block the event loop, and MUST be usable from many tasks at once.
    """

    async def memory(self, mirror: str) -> Memory:
        """Return what is known to be at the targets of `mirror`; empty when nothing is."""
        ...

    async def accept(self, mirror: str) -> int:
        """Count a publish to `mirror`, and return its number: 1 for the first one, always more than before."""
        ...

    async def add_run(self, run: Run) -> None:
        """Remember a run and, from its good receipts, what is now at the targets; all of it or nothing.

        Of names the last run decides: which build each stands for, and who put it there.
        """
        ...

    async def runs(self, mirror: str, limit: int = 20) -> Sequence[RunRecord]:
        """Return the newest `limit` runs of `mirror`, newest first."""
        ...

    async def standing(self) -> Sequence[Standing]:
        """Return the standing of every mirror and of every target, sorted by mirror and target."""
        ...

    async def check(self) -> None:
        """Show that the record can be written to."""
        ...

    async def close(self) -> None:
        """Release the record; it may not be used afterwards."""
        ...
