"""The tables of the record, by the names of their columns; `migrations` makes them and says what each holds.

Times are whole microseconds since 1970 (UTC): exact, comparable, and the same in every database.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import TableClause, column, table  # noqa: TID251 - this is the door

REVISION: Final = "0002"
"""The newest of the migrations: what a record must have been brought to before it is used."""


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
standing = _table("standing", "mirror target last_success last_attempt failures result code error")
facts = _table("facts", "mirror name facts")
ledger = _table("ledger", "id mirror target name place before after run at outcome")
