"""Between the record's values and the rows of its tables: a field is the column of its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping  # noqa: TID251 - this is the door

from mirrord.model.ledger import Settled
from mirrord.model.run import Result

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def row_of(value: Any) -> dict[str, Any]:
    """Return the fields of a value as columns have them."""
    found = ((field.name, getattr(value, field.name)) for field in fields(value))
    return {name: micros(one) if isinstance(one, datetime) else one for name, one in found}


def value_of(kind: Any, row: RowMapping, **more: Any) -> Any:
    """Return the value of a row; `more` are the fields that no column has, or that are others there."""
    read = {key: value if value is None else _READ.get(key, _same)(value) for key, value in row.items()} | more
    return kind(**{field.name: read[field.name] for field in fields(kind) if field.name in read})


def micros(at: datetime) -> int:
    """Return a time as columns have it."""
    return (at - _EPOCH) // _MICROSECOND


def when(number: int) -> datetime:
    """Return the time that a column has."""
    return _EPOCH + number * _MICROSECOND


def _same(value: object) -> object:
    return value


_TIMES = ("at", "run", "started", "finished", "created", "ahead", "published", "last_success", "last_attempt")
_READ: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_TIMES, when),
    "result": Result,
    "outcome": Settled,
    "stays": bool,
}
"""How a column is read; others are what they are."""
