"""The statements that several tables share. Blocking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Executable, TableClause, TextClause, select, text  # noqa: TID251 - this is the door

_AT_ONCE: Final = 10_000  # rows; two seconds of a slow server
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


def rows_with(table: TableClause, **key: str) -> Any:
    """Select the rows of a table with these values."""
    return where(select(table), table, key)


def where(query: Any, table: TableClause, key: Mapping[str, str]) -> Any:
    """Restrict a query to rows with these values."""
    return query.where(*(table.c[name] == value for name, value in key.items()))


def put(link: Connection, table: TableClause, key: str, rows: Sequence[Mapping[str, Any]], only: str = "") -> None:
    """Insert or replace rows by their key columns; each row has all columns. What is there is replaced `only` where."""
    execute_many(link, _putting(table, key, only), rows)


def execute_many(link: Connection, statement: Executable, rows: Sequence[Mapping[str, Any]]) -> None:
    """Execute a statement for each of these rows: many at once, and not so many that a server takes it for hanging."""
    for start in range(0, len(rows), _AT_ONCE):
        link.execute(statement, rows[start : start + _AT_ONCE])


@cache
def _putting(table: TableClause, key: str, only: str) -> TextClause:
    columns = [column.name for column in table.c]
    quoted, values = ", ".join(f'"{name}"' for name in columns), ", ".join(f":{name}" for name in columns)
    fresh = {name: f'excluded."{name}"' for name in columns if name not in key.split()}
    fresh |= _FRESH.get(table.name, {})
    changed, unique = ", ".join(f'"{name}" = {value}' for name, value in fresh.items()), ", ".join(key.split())
    where = f" WHERE {only}" if only else ""
    insert = f"INSERT INTO {table.name} ({quoted}) VALUES ({values})"  # noqa: S608 - names of our own tables
    return text(f"{insert} ON CONFLICT ({unique}) DO UPDATE SET {changed}{where}")
