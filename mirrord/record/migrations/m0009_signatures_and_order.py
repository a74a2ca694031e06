"""What is known of signatures of items and of changed indexes, and items sorted by the numbers in their names."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import BigInteger, Column, text  # noqa: TID251 - this is the door

from mirrord.record.migrations import words
from mirrord.record.tables import sort_of

revision: Final = "0009"
down_revision: Final = "0008"

_PART: Final = 10_000  # rows


def upgrade() -> None:
    """Add columns; nobody knows them of earlier items, but for the order, which their names have."""
    op.add_column("known", Column("referrers", BigInteger))
    op.add_column("known", Column("signer", words(), nullable=False, server_default=""))
    op.add_column("known", Column("origin", words(255), nullable=False, server_default=""))
    op.add_column("known", Column("sort", words(), nullable=False, server_default=""))
    link = op.get_bind()
    part = text(
        "SELECT mirror, target, item FROM known WHERE (mirror, target, item) > (:mirror, :target, :item) "
        "ORDER BY mirror, target, item LIMIT :limit"
    )
    fill = text("UPDATE known SET sort = :sort WHERE mirror = :mirror AND target = :target AND item = :item")
    after = {"mirror": "", "target": "", "item": ""}
    while names := link.execute(part, {**after, "limit": _PART}).mappings().all():
        link.execute(fill, [{**row, "sort": sort_of(row["item"])} for row in names])
        after = dict(names[-1])
    op.create_index("known_by_name", "known", ["mirror", "target", "sort"])
