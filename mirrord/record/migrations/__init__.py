"""Migrations of the record's tables, by Alembic; tables missing in an older record are created."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, String, Text  # noqa: TID251 - this is the door
from sqlalchemy.types import TypeEngine  # noqa: TID251 - this is the door

NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")
"""The type of an autoincrement column: SQLite requires exactly INTEGER."""


_BYTES: Final = Text(collation="C")


def words(length: int | None = None) -> TypeEngine[str]:
    """Return the type of a text: PostgreSQL compares it byte by byte, as SQLite does, and does not limit it either."""
    return (String(length) if length else Text()).with_variant(_BYTES, "postgresql")


def serial(name: str) -> Column[int]:
    """Return an autoincrement column."""
    return Column(name, NUMBER, primary_key=True, autoincrement=True)


def keys(*names: str) -> tuple[Column[str], ...]:
    """Return the columns of a key of names."""
    return tuple(Column(name, words(255), primary_key=True) for name in names)


def numbers(*names: str) -> tuple[Column[int], ...]:
    """Return integer columns that are not null."""
    return tuple(Column(name, BigInteger, nullable=False) for name in names)
