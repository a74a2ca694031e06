"""Which replica carried out a run; one machine has no name among others."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import Column, text  # noqa: TID251 - this is the door

from mirrord.record.migrations import words

revision: Final = "0015"
down_revision: Final = "0014"


def upgrade() -> None:
    """Add the column; runs of before, and of replicas that are older, leave it empty."""
    op.add_column("runs", Column("replica", words(255), nullable=False, server_default=text("''")))
