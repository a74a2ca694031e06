"""The number of items at each target, which a run that learns nothing of the target leaves as it was."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import BigInteger, Column  # noqa: TID251 - this is the door

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    """Add the number, and take it from the last run."""
    op.add_column("standing", Column("items", BigInteger, nullable=False, server_default="0"))
    last = "FROM last_run WHERE last_run.mirror = standing.mirror AND last_run.target = standing.target"
    op.execute(f"UPDATE standing SET items = (SELECT done + kept {last}) WHERE EXISTS (SELECT 1 {last})")  # noqa: S608 - fixed words
