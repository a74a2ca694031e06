"""Migrations of the record's tables, by Alembic; tables missing in an older record are created."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, String  # noqa: TID251 - this is the door

NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")
"""The type of an autoincrement column: SQLite requires exactly INTEGER."""


def serial(name: str) -> Column[int]:
    """Return an autoincrement column."""
    return Column(name, NUMBER, primary_key=True, autoincrement=True)


def keys(*names: str) -> tuple[Column[str], ...]:
    """Return the columns of a key of names."""
    return tuple(Column(name, String(255), primary_key=True) for name in names)


def numbers(*names: str) -> tuple[Column[int], ...]:
    """Return integer columns that are not null."""
    return tuple(Column(name, BigInteger, nullable=False) for name in names)
