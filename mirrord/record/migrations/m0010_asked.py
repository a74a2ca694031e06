"""Images that people asked for, so that a restart forgets none."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import BigInteger, Boolean, Column, String, Text  # noqa: TID251 - this is the door

revision: Final = "0010"
down_revision: Final = "0009"


def upgrade() -> None:
    """Make the table; nobody has asked before."""
    op.create_table(
        "asked",
        Column("id", String(64), primary_key=True),
        Column("image", String(1024), nullable=False),
        Column("platforms", Text, nullable=False),
        Column("who", String(255), nullable=False),
        Column("state", String(32), nullable=False),
        Column("reason", String(64), nullable=False),
        Column("text", Text, nullable=False),
        Column("copied", Boolean, nullable=False),
        Column("asked", BigInteger, nullable=False),
        Column("ended", BigInteger),
    )
