"""Which configuration each replica has, so that it can be said where they differ."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import Column, Text, text  # noqa: TID251 - this is the door

revision: Final = "0013"
down_revision: Final = "0012"


def upgrade() -> None:
    """Add the column where there can be several replicas; those that are older leave it empty."""
    if op.get_bind().dialect.name == "postgresql":
        op.add_column("replicas", Column("configuration", Text, nullable=False, server_default=text("''")))
