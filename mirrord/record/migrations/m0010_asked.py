"""Images that people asked for, so that a restart forgets none."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import BigInteger, Boolean, Column  # noqa: TID251 - this is the door

from mirrord.record.migrations import words

revision: Final = "0010"
down_revision: Final = "0009"


def upgrade() -> None:
    """Make the table; nobody has asked before."""
    op.create_table(
        "asked",
        Column("id", words(64), primary_key=True),
        Column("image", words(1024), nullable=False),
        Column("platforms", words(), nullable=False),
        Column("who", words(255), nullable=False),
        Column("state", words(32), nullable=False),
        Column("reason", words(64), nullable=False),
        Column("text", words(), nullable=False),
        Column("copied", Boolean, nullable=False),
        Column("asked", BigInteger, nullable=False),
        Column("ended", BigInteger),
    )
