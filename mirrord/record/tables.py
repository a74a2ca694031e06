"""The tables of the record, by the names of their columns; `migrations` creates and documents them.

Times are whole microseconds since 1970 (UTC): exact, comparable, and the same in every database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (  # noqa: TID251 - this is the door
    RowMapping,
    TableClause,
    column,
    table,
)

from mirrord.model.ledger import Settled
from mirrord.model.run import Result

REVISION: Final = "0003"
"""The newest migration, which a record must have before it is used."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def row_of(value: Any) -> dict[str, Any]:
    """Return the fields of a value as column values."""
    found = ((field.name, getattr(value, field.name)) for field in fields(value))
    return {name: micros(one) if isinstance(one, datetime) else one for name, one in found}


def value_of(kind: Any, row: RowMapping, **more: Any) -> Any:
    """Return the value of a row; `more` are fields without a column, or with another value there."""
    read = {key: _READ[key](value) if key in _READ and value is not None else value for key, value in row.items()}
    read |= more
    return kind(**{field.name: read[field.name] for field in fields(kind) if field.name in read})


def micros(at: datetime) -> int:
    """Return a time as a column value."""
    return (at - _EPOCH) // _MICROSECOND


def when(number: int) -> datetime:
    """Return the time of a column value."""
    return _EPOCH + number * _MICROSECOND


_TIMES = ("at", "run", "started", "finished", "created", "ahead", "published", "last_success", "last_attempt")
_READ: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_TIMES, when),
    "result": Result,
    "outcome": Settled,
    "stays": bool,
}
"""Converters of columns; other columns need none."""


def _table(name: str, columns: str) -> TableClause:
    return table(name, *map(column, columns.split()))


alembic_version = _table("alembic_version", "version_num")
runs = _table("runs", "id mirror kind trigger started finished result read code error")
run_targets = _table(
    "run_targets",
    "run position target result planned kept done refused failed cancelled sent mounted code error",
)
known = _table("known", "mirror target item digest at place")
names = _table("names", "mirror target name digest at stays beside created ahead published number place")
publishes = _table("publishes", "mirror number")
last_run = _table("last_run", "mirror target done deleted kept refused failed troubles")
noted = _table("noted", "mirror what count first")
standing = _table("standing", "mirror target last_success last_attempt failures result code error items")
facts = _table("facts", "mirror name facts")
ledger = _table("ledger", "id mirror target name place before after run at outcome")
