"""The tables of the record, by the names of their columns; `migrations` creates and documents them.

Times are whole microseconds since 1970 (UTC): exact, comparable, and the same in every database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from sys import intern
from typing import Any, Final

from sqlalchemy import (  # noqa: TID251 - this is the door
    RowMapping,
    TableClause,
    column,
    table,
)

from mirrord.model.ledger import Settled
from mirrord.model.run import Result
from mirrord.names.natural import natural_key

REVISION: Final = "0017"
"""The newest migration, which a record must have before it is used."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def row_of(value: Any) -> dict[str, Any]:
    """Return the fields of a value as column values; those of a tuple of words as one text."""
    return {field.name: _column_value(getattr(value, field.name)) for field in fields(value)}


def _column_value(one: Any) -> Any:
    if isinstance(one, datetime):
        return micros(one)
    if isinstance(one, date):
        return days_since_1970(one)
    return ",".join(one) if isinstance(one, tuple) and all(isinstance(word, str) for word in one) else one


def value_of(kind: Any, row: RowMapping, **more: Any) -> Any:
    """Return the value of a row; `more` are fields without a column, or with another value there."""
    read = {key: _READ[key](value) if key in _READ and value is not None else value for key, value in row.items()}
    read |= more
    return kind(**{field.name: read[field.name] for field in fields(kind) if field.name in read})


def sort_of(item: str) -> str:
    """Return what items are sorted by, before their names: made of the name as it is written, and of that alone."""
    return natural_key(storable(item))


def storable(text: str) -> str:
    """Escape unpaired surrogates: names and texts from other hosts may have them, and no database can store them."""
    return text.encode("utf-8", "backslashreplace").decode()


def micros(at: datetime) -> int:
    """Return a time as a column value."""
    return (at - _EPOCH) // _MICROSECOND


def when(number: int) -> datetime:
    """Return the time of a column value."""
    return _EPOCH + number * _MICROSECOND


def days_since_1970(day: date) -> int:
    """Return a day as a column value."""
    return (day - _EPOCH.date()).days


@lru_cache(maxsize=10_000)
def _words(text: str) -> tuple[str, ...]:
    """Return the words of a text; equal texts share one value, since thousands of items have the same platforms."""
    return tuple(filter(None, text.split(",")))


BOOLEANS: Final = ("stays", "copied")
"""Columns that SQLite keeps as 0 and 1."""
_TIMES = (
    "at",
    "run",
    "started",
    "finished",
    "created",
    "ahead",
    "published",
    "last_success",
    "last_attempt",
    "first_attempt",
    "since",
    "behind_since",
    "failing_since",
    "until",
    "asked",
    "ended",
)
_READ: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_TIMES, when),
    "result": Result,
    "outcome": Settled,
    **dict.fromkeys(BOOLEANS, bool),
    "platforms": _words,
    "signer": intern,  # one name for thousands of items
    "day": lambda number: _EPOCH.date() + timedelta(days=number),
}
"""Converters of columns; other columns need none."""


def _table(name: str, columns: str) -> TableClause:
    return table(name, *map(column, columns.split()))


alembic_version = _table("alembic_version", "version_num")
runs = _table("runs", "id mirror kind trigger started finished result read code error replica")
run_targets = _table(
    "run_targets",
    "run position target result planned kept done refused failed cancelled sent mounted code error",
)
known = _table("known", "mirror target item digest at place size platforms referrers signer origin sort")
names = _table("names", "mirror target name digest at stays beside created ahead published number place")
publishes = _table("publishes", "mirror number")
last_run = _table("last_run", "mirror target done deleted kept refused failed sent seconds troubles")
noted = _table("noted", "mirror what count first")
standing = _table(
    "standing",
    "mirror target last_success last_attempt first_attempt failures failing_since result code error items"
    " behind behind_since counted size until",
)
facts = _table("facts", "mirror name facts")
asked = _table("asked", "id image platforms who state reason text copied asked ended until")
ledger = _table("ledger", "id mirror target name place before after run at outcome")
behind = _table("behind", "mirror target item digest since code reason")
days = _table("days", "mirror day runs failed seconds longest read sent done deleted result")
