"""How often somebody may ask for images, counted for all replicas together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mirrord.record.fleet_database import SharedDatabase

_HOUR: Final = 3600.0
_EXACT: Final = 0.001  # seconds: the database rounds each of many to a microsecond
_ONE_BY_ONE: Final = "SELECT pg_advisory_xact_lock(6386539, 0)"  # "ask": no other lock has these numbers
_TAKE: Final = """
WITH forgotten AS (DELETE FROM ask_rates WHERE free < now() AND who <> ALL(%(names)s)),
wait AS (
  SELECT coalesce(max(extract(epoch FROM free - now())), 0)::float8 + %(more)s AS seconds FROM ask_rates
  WHERE who = ANY(%(names)s) AND free > now()),
taken AS (
  INSERT INTO ask_rates (who, free)
  SELECT DISTINCT unnest(%(names)s::text[]), now() + make_interval(secs => %(each)s)
  FROM wait WHERE seconds <= %(exact)s
  ON CONFLICT (who) DO UPDATE SET free = greatest(ask_rates.free, now()) + make_interval(secs => %(each)s))
SELECT seconds FROM wait
"""


async def take_asks(database: SharedDatabase, names: Iterable[str], an_hour: int) -> float:
    """Count one image for each name, and return 0; or count nothing, and return after how many seconds to ask.

    As `AskRates.take` has it, by the time of the database. Of all replicas one counts at a time, so that none misses
    what another one counts. One image counts twice where the connection breaks before the answer is here.

    Args:
        database: of the replicas.
        names: of who asks.
        an_hour: how many images each of them may ask for in an hour.

    Raises:
        StorageError: as `SharedDatabase.do`.
    """
    each = _HOUR / an_hour
    about = {"names": [*names], "each": each, "more": each - _HOUR, "exact": _EXACT}
    seconds = float((await database.do(_TAKE, about, after=_ONE_BY_ONE))[0]["seconds"])
    return seconds if seconds > _EXACT else 0.0
