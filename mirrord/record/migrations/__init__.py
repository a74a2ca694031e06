"""From one version of the record's tables to the next, by Alembic; what a record of before lacks is made."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, String  # noqa: TID251 - this is the door

NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")
"""Of a column that counts by itself: SQLite does that only in one of exactly the type INTEGER."""


def serial(name: str) -> Column[int]:
    """Return a column that counts by itself."""
    return Column(name, NUMBER, primary_key=True, autoincrement=True)


def keys(*names: str) -> tuple[Column[str], ...]:
    """Return columns of names that make up a key."""
    return tuple(Column(name, String(255), primary_key=True) for name in names)


def numbers(*names: str) -> tuple[Column[int], ...]:
    """Return columns of whole numbers, none of which may be missing."""
    return tuple(Column(name, BigInteger, nullable=False) for name in names)
