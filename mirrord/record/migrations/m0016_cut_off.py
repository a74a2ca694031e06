"""Of which run a lease is, so that the history shows one that a replica was killed in; one machine needs none."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import Column, DateTime, Text, text  # noqa: TID251 - this is the door

revision: Final = "0016"
down_revision: Final = "0015"


def upgrade() -> None:
    """Add the columns: what started the run, "" while there is none, and when it began by the clock of its replica."""
    if op.get_bind().dialect.name == "postgresql":
        op.add_column("leases", Column("trigger", Text, nullable=False, server_default=text("''")))
        op.add_column("leases", Column("began", DateTime(timezone=True)))
