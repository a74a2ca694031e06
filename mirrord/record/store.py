"""The port of the record. No database and no clock here.

The content of a mirror can always be read from its targets again; only the record has the history: last success,
failures, and moves. Losing the record is therefore never fatal; without ledger and baselines nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from mirrord.model.ledger import LedgerEntry
from mirrord.model.memory import Memory
from mirrord.model.run import Run
from mirrord.syncer.values import Facts
from mirrord.wire.database import DatabaseAddress

if TYPE_CHECKING:
    from mirrord.model.history import Behind, Day, ItemRow, RunRecord, Standing
    from mirrord.model.request import AskRecord
    from mirrord.record.database import Database
    from mirrord.record.sql_store import SqlStore

KEEP: Final = 1000
"""Runs kept for each mirror; older ones are deleted."""
MOVES: Final = 20
"""Entries of the ledger kept for each name; the newest one stays as long as the name exists."""
ASKED: Final = 10_000
"""Images kept that people asked for; older ones that ended are deleted."""
PAGE: Final = 1000
"""The largest number of rows that one call returns, whatever its limit."""
FORGET: Final = timedelta(days=365)
"""Age after which entries of deleted names are removed."""


class Store(Facts, Protocol):
    """A record. Every method raises `StorageError` if the disk or the database fails.

    Implementations MUST never block the event loop, and MUST be usable from many tasks at once.

    Attributes:
        replica: what runs are recorded of: the name of this process among several, or "".
    """

    replica: str

    @property
    def lost(self) -> str:
        """Return what was lost at opening, one sentence, or ""."""

    @property
    def away(self) -> str:
        """Return why the record cannot be used at the moment, and is tried again; or ""."""

    async def memory(self, mirror: str) -> Memory:
        """Return the recorded state of the targets of `mirror`, which may be empty."""

    async def accept(self, mirror: str) -> int:
        """Number a publish to `mirror`: 1 for the first one, then increasing."""

    async def add_run(self, run: Run, *, of: str | None = None) -> None:
        """Record a run and, from its good receipts, the state of the targets; all of it or nothing.

        The last run decides which build each name points to, and what moved it there. `of` is the replica that ran it,
        where that was another process, which may have recorded it already.
        """

    async def runs(self, mirror: str, limit: int = 20, before: int | None = None) -> Sequence[RunRecord]:
        """Return the newest `limit` runs of `mirror`, newest first; with `before` only runs with smaller numbers."""

    async def days(self, mirror: str) -> Sequence[Day]:
        """Return the days on which runs of `mirror` ended, oldest first: of the 90 days up to its last run."""

    async def behind(self, mirror: str, limit: int = 100, after: tuple[str, str] | None = None) -> Sequence[Behind]:
        """Return what the targets of `mirror` should have and have not, the oldest first.

        With `after`, a target and an item, only what follows them, by target and item.
        """

    async def items(self, mirror: str, limit: int = 100, after: str = "", find: str = "") -> Sequence[ItemRow]:
        """Return the known items of `mirror` by name, with their state at each target, also at former places.

        Args:
            mirror: the mirror.
            limit: the most items.
            after: only items with greater names.
            find: only items whose names contain this text; letters of ASCII match in either case.
        """

    async def standing(self, mirror: str | None = None) -> Sequence[Standing]:
        """Return the standing of a mirror and its targets, or of every mirror, sorted by mirror and target."""

    async def intend(self, entries: Iterable[LedgerEntry]) -> None:
        """Record intended moves durably."""

    async def settle(self, entries: Iterable[LedgerEntry]) -> None:
        """Record outcomes of intended moves; settled ones are not changed.

        It MAY become durable only with the next change: after a crash such a move is open and checked.
        """

    async def moves(
        self,
        mirror: str,
        *,
        unsettled: bool = False,
        limit: int | None = None,
        before: int | None = None,
        name: str = "",
    ) -> Sequence[LedgerEntry]:
        """Return the moves, or with `unsettled` the open ones, newest first.

        With `limit` at most so many, with `before` only those with smaller numbers, with `name` only those of that
        name. The newest completed entry of each name is kept until the name has been deleted for `FORGET`.
        """

    async def newest_moves(self, mirror: str) -> Sequence[LedgerEntry]:
        """Return for each name at each place of a target the newest move that was not undone."""

    async def brought(self, target: str) -> frozenset[str]:
        """Return each digest that names had at targets of this name, of whatever mirror, as far as moves are kept."""

    async def unsettled(self) -> Collection[str]:
        """Return the mirrors with open moves."""

    async def note_asked(self, *requests: AskRecord) -> None:
        """Record durably how far images are that somebody asked for; where that fails it is tried again later.

        What has ended by then stays as it is: of several replicas the first one ends an image.
        """

    async def open_requests(self) -> Sequence[AskRecord]:
        """Return the images that were asked for and have not ended, the oldest first."""

    async def request(self, number: str) -> AskRecord | None:
        """Return an image that was asked for by its id; None for one that is not known, or not any more."""

    async def check(self) -> None:
        """Check that the record can be written."""

    async def close(self) -> None:
        """Close the record; it must not be used afterwards."""


async def open_store(
    place: Path | DatabaseAddress, now: datetime, relief: Callable[[], bool] = lambda: False
) -> SqlStore:
    """Open or create the record in a file, or in a database of PostgreSQL.

    A damaged file (or one that is not a database) is moved aside, and a new one is created; `lost` reports that.
    `relief` frees space on a full disk, and returns whether it did. StorageError if the file is a directory, cannot be
    read or written or is in use; if the database does not answer for half a minute, or lets us not in; or if either
    comes from a newer mirrord.
    """
    from mirrord.record.sql_store import SqlStore  # noqa: PLC0415 - a copy has no record, and does not load this one

    return await SqlStore.open(lambda: database_at(place, relief), now)


def database_at(place: Path | DatabaseAddress, relief: Callable[[], bool] = lambda: False) -> Database:
    """Return the database of a record, which is still to be opened; see `open_store`. Loads SQLAlchemy."""
    if isinstance(place, Path):
        from mirrord.record.sqlite import SqliteFile  # noqa: PLC0415 - see above

        return SqliteFile(place, relief)
    from mirrord.record.postgresql import PostgresDatabase  # noqa: PLC0415 - of an extra

    return PostgresDatabase(place)
