"""Since when a mirror or one of its targets fails."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import BigInteger, Column  # noqa: TID251 - this is the door

revision: Final = "0005"
down_revision: Final = "0004"

_FAILED: Final = "result IN ('failed', 'partial') AND finished > coalesce(standing.last_success, 0)"


def upgrade() -> None:
    """Add the column; of what fails now, take the first failed run after the last success that the record still has."""
    op.add_column("standing", Column("failing_since", BigInteger))
    runs = f"SELECT min(finished) FROM runs WHERE runs.mirror = standing.mirror AND {_FAILED}"  # noqa: S608 - fixed words
    op.execute(f"UPDATE standing SET failing_since = ({runs}) WHERE target = '' AND failures > 0")  # noqa: S608 - as above
    there = (
        "SELECT min(finished) FROM runs JOIN run_targets ON run = id WHERE runs.mirror = standing.mirror"  # noqa: S608 - as above
        f" AND run_targets.target = standing.target AND run_targets.{_FAILED}"
    )
    op.execute(f"UPDATE standing SET failing_since = ({there}) WHERE target <> '' AND failures > 0")  # noqa: S608 - as above
