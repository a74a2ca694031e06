"""The port of the record: what it remembers, as values. No database and no clock here.

What a mirror holds can always be read from its targets again; what only the record knows is history:
when something last worked, and for how long it has not, and what was moved where. Losing the record is therefore
never fatal; without ledger and baselines nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote, unquote, urlsplit

from mirrord.errors import ConfigError
from mirrord.model.history import RunRecord, Standing
from mirrord.model.ledger import LedgerEntry
from mirrord.model.memory import Memory
from mirrord.model.run import Run
from mirrord.record.sqlite import SqliteStore
from mirrord.syncer.values import Facts

KEEP: Final = 1000
"""Runs kept for each mirror; older ones are forgotten."""
MOVES: Final = 20
"""Entries of the ledger kept for each name; the newest one stays as long as the name stands for something of ours."""
FORGET: Final = timedelta(days=365)
"""After that it is forgotten that a name went."""


class Store(Facts, Protocol):
    """What a record MUST offer. Every method raises `StorageError` when the disk or the database fails.

    Implementations MUST never block the event loop, and MUST be usable from many tasks at once.
    """

    @property
    def lost(self) -> str:
        """Return what was lost when it was opened, one sentence, or ""."""

    async def memory(self, mirror: str) -> Memory:
        """Return what is known to be at the targets of `mirror`; empty when nothing is."""

    async def accept(self, mirror: str) -> int:
        """Count a publish to `mirror`, and return its number: 1 for the first one, always more than before."""

    async def add_run(self, run: Run) -> None:
        """Remember a run and, from its good receipts, what is now at the targets; all of it or nothing.

        Of names the last run decides: which build each stands for, and who put it there.
        """

    async def runs(self, mirror: str, limit: int = 20) -> Sequence[RunRecord]:
        """Return the newest `limit` runs of `mirror`, newest first."""

    async def standing(self, mirror: str | None = None) -> Sequence[Standing]:
        """Return the standing of a mirror and its targets, or of every mirror, sorted by mirror and target."""

    async def intend(self, entries: Iterable[LedgerEntry]) -> None:
        """Write down, durably, what is about to be moved."""

    async def settle(self, entries: Iterable[LedgerEntry]) -> None:
        """Write down what came of moves that were intended; what is not open any more is left as it is.

        It MAY become durable only with the next change: after a crash such a move is found open, and looked at.
        """

    async def moves(self, mirror: str, *, unsettled: bool = False) -> Sequence[LedgerEntry]:
        """Return what was moved, or with `unsettled` only what is open, newest first.

        Of each name at least the newest entry that was done is kept until the name is gone for `FORGET`.
        """

    async def unsettled(self) -> Collection[str]:
        """Return the mirrors of which a move is open."""

    async def check(self) -> None:
        """Show that the record can be written to."""

    async def close(self) -> None:
        """Release the record; it may not be used afterwards."""


async def open_store(url: str, now: datetime, relief: Callable[[], bool] = lambda: False) -> Store:
    """Open the record at a URL as its kind does (`SqliteStore.open`); ConfigError when there is no such kind."""
    found = urlsplit(url)
    if found.scheme != "sqlite" or found.netloc:
        raise ConfigError(f"{found.scheme}://{found.netloc}: not supported as a record; write sqlite:///PATH")
    return await SqliteStore.open(Path(unquote(found.path.removeprefix("/"), errors="surrogateescape")), now, relief)


def file_url(path: Path) -> str:
    """Return the URL of a record in a file."""
    return f"sqlite:///{quote(bytes(path))}"
