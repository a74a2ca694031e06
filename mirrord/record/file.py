"""The database file, and the statements that several tables share. Blocking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from sqlalchemy import Connection, Engine, RowMapping, TableClause, TextClause, select, text  # noqa: TID251 - this is the door

from mirrord.record.engine import bring_up, open_engine, storage_errors

_T = TypeVar("_T")
_SAME = "CASE WHEN known.digest = excluded.digest"
_SAME_PLACE = f"{_SAME} AND known.place = excluded.place"
_FRESH: Final[Mapping[str, Mapping[str, str]]] = {
    "known": {
        "size": f"{_SAME} THEN coalesce(excluded.size, known.size) ELSE excluded.size END",
        "referrers": f"{_SAME_PLACE} THEN coalesce(excluded.referrers, known.referrers) ELSE excluded.referrers END",
        **{
            name: f"{_SAME} AND excluded.{name} = '' THEN known.{name} ELSE excluded.{name} END"
            for name in ("platforms", "signer", "origin")
        },
    },
    "standing": {"counted": "standing.counted", "size": "standing.size"},
}
"""Columns whose value of before stays: of the same content what is known of it, and sums that are written elsewhere."""


class DatabaseFile:
    """One open database."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self._path = path
        self._engine = engine

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open, check, and create missing tables. Raises as `open_engine` and `bring_up`."""
        engine = open_engine(path)
        opened = cls(path, engine)
        try:
            opened._write(lambda link: bring_up(link, path))
        except BaseException:
            engine.dispose()
            raise
        return opened

    def close(self) -> None:
        """Close the file; the write-ahead log is merged into it."""
        self._engine.dispose()

    def check(self) -> None:
        """Check that the record can be written."""
        self._write(lambda link: link.exec_driver_sql("PRAGMA user_version = 1"))

    def _read(self, query: Any) -> Sequence[RowMapping]:
        with storage_errors(self._path), self._engine.connect() as link:
            return link.execute(query).mappings().all()

    def _write(self, change: Callable[[Connection], _T]) -> _T:
        with storage_errors(self._path), self._engine.begin() as link:
            return change(link)


def rows_with(table: TableClause, **key: str) -> Any:
    """Select the rows of a table with these values."""
    return where(select(table), table, key)


def where(query: Any, table: TableClause, key: Mapping[str, str]) -> Any:
    """Restrict a query to rows with these values."""
    return query.where(*(table.c[name] == value for name, value in key.items()))


def put(link: Connection, table: TableClause, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert or replace rows by their key columns; each row has all columns."""
    if rows:
        link.execute(_putting(table, key), rows)


@cache
def _putting(table: TableClause, key: str) -> TextClause:
    columns = [column.name for column in table.c]
    quoted, values = ", ".join(f'"{name}"' for name in columns), ", ".join(f":{name}" for name in columns)
    fresh = {name: f'excluded."{name}"' for name in columns if name not in key.split()}
    fresh |= _FRESH.get(table.name, {})
    changed, unique = ", ".join(f'"{name}" = {value}' for name, value in fresh.items()), ", ".join(key.split())
    return text(f"INSERT INTO {table.name} ({quoted}) VALUES ({values}) ON CONFLICT ({unique}) DO UPDATE SET {changed}")  # noqa: S608 - names of our own tables
