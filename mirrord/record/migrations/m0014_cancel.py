"""Which run of a mirror is to end, so that the replica that runs it hears of it; one machine needs none."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import BigInteger, Column, text  # noqa: TID251 - this is the door

revision: Final = "0014"
down_revision: Final = "0013"


def upgrade() -> None:
    """Add the column: the fence of the lease whose run is to end."""
    if op.get_bind().dialect.name == "postgresql":
        op.add_column("leases", Column("cancel", BigInteger, nullable=False, server_default=text("0")))
