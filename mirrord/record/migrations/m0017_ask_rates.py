"""How often somebody may ask any replica for images; one machine keeps that in memory."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import Column, DateTime, Text  # noqa: TID251 - this is the door

revision: Final = "0017"
down_revision: Final = "0016"


def upgrade() -> None:
    """Make the table where there can be several replicas."""
    if op.get_bind().dialect.name == "postgresql":
        op.create_table(
            "ask_rates",
            Column("who", Text, primary_key=True),
            Column("free", DateTime(timezone=True), nullable=False),  # when all that it may ask for is free again
        )
