"""When a mirror and its targets were first attempted: what never succeeds becomes stale, too."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import BigInteger, Column  # noqa: TID251 - this is the door

revision: Final = "0006"
down_revision: Final = "0005"


def upgrade() -> None:
    """Add the column; take the oldest runs that the record still has."""
    op.add_column("standing", Column("first_attempt", BigInteger))
    op.execute(
        "UPDATE standing SET first_attempt ="
        " (SELECT finished FROM runs WHERE runs.mirror = standing.mirror ORDER BY id LIMIT 1) WHERE target = ''"
    )
    op.execute(
        "UPDATE standing SET first_attempt = (SELECT finished FROM runs JOIN run_targets ON run = id"
        " WHERE runs.mirror = standing.mirror AND run_targets.target = standing.target ORDER BY id LIMIT 1)"
        " WHERE target <> ''"
    )
