"""Copies a whole record from one database to another. Blocking."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, TableClause, func, insert, select  # noqa: TID251 - this is the door

from mirrord.errors import StorageError, UsageError
from mirrord.record import tables
from mirrord.record.database import Database
from mirrord.record.store import database_at
from mirrord.wire.database import DatabaseAddress

_TABLES: Final = (  # those that others point to come first
    *(tables.runs, tables.run_targets, tables.known, tables.names, tables.publishes, tables.last_run, tables.noted),
    *(tables.standing, tables.facts, tables.asked, tables.ledger, tables.behind, tables.days),
)
_PART: Final = 10_000  # rows


def copy_record(source: Path | DatabaseAddress, target: Path | DatabaseAddress, now: datetime) -> int:
    """Copy all rows to a record that has none, and return how many: all of them or none, counted at the end.

    Raises:
        UsageError: the source is not there, the target has rows, or another process uses one of them.
        StorageError: one of them cannot be used.
    """
    if isinstance(source, Path) and not source.is_file():
        raise UsageError(f"{source}: there is no record to copy")
    ends = [database_at(source), database_at(target)]
    try:
        for end in ends:
            if lost := end.open(now):
                raise StorageError(f"{end.place}: nothing was copied, {lost}")
            if end.shared():
                raise UsageError(f"{end.place}: another mirrord uses it; stop every mirrord first")
        from_, to = ends
        with from_.snapshot() as link:
            return to.write(lambda there: _copied(link, there, to))
    finally:
        for end in ends:
            end.close()


def _copied(link: Connection, there: Connection, to: Database) -> int:
    for table in _TABLES:
        if there.execute(select(table).limit(1)).first():
            raise UsageError(f"{to.place}: has a record already; name an empty database, or move `mirrord.db` away")
    counts = {table.name: _copy_table(link, there, table) for table in _TABLES}
    for name in ("runs", "ledger"):
        to.number_on(there, name)
    _check(counts, there, to.place)
    return sum(counts.values())


def _copy_table(link: Connection, there: Connection, table: TableClause) -> int:
    count = 0
    for rows in link.execution_options(yield_per=_PART).execute(select(table)).mappings().partitions():
        there.execute(insert(table), [_row(dict(row)) for row in rows])
        count += len(rows)
    return count


def _check(counts: Mapping[str, int], there: Connection, place: str) -> None:
    for table in _TABLES:
        found = there.execute(select(func.count()).select_from(table)).scalar()
        if found != counts[table.name]:
            raise StorageError(f"{place}: has {found} rows in {table.name} after {counts[table.name]} were copied")


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with the truth values that SQLite keeps as 0 and 1."""
    return {name: bool(value) if name in tables.BOOLEANS else value for name, value in row.items()}
