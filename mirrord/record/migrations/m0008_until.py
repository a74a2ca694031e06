"""When a deferred run goes on, so that it does after a restart, too."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import BigInteger, Column  # noqa: TID251 - this is the door

revision: Final = "0008"
down_revision: Final = "0007"


def upgrade() -> None:
    """Add the column; nobody knows it of earlier runs."""
    op.add_column("standing", Column("until", BigInteger))
