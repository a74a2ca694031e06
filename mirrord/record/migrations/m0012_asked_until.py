"""When an image that somebody asked for goes on, so that all replicas know it, and a restart, too."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import BigInteger, Column  # noqa: TID251 - this is the door

revision: Final = "0012"
down_revision: Final = "0011"


def upgrade() -> None:
    """Add the column; what waits now is tried at once."""
    op.add_column("asked", Column("until", BigInteger))
