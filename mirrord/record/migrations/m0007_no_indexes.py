"""Indexes of charts are no items: nobody counts or lists them any more."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door

revision: Final = "0007"
down_revision: Final = "0006"

_INDEX: Final = "mirror = standing.mirror AND item = 'index' AND digest = ''"  # only they have no digest


def upgrade() -> None:
    """Take them out of the items and their numbers."""
    listed = f"EXISTS (SELECT 1 FROM known WHERE {_INDEX} AND (standing.target = '' OR target = standing.target))"  # noqa: S608 - fixed words
    less = ", ".join(f"{name} = CASE WHEN {name} > 0 THEN {name} - 1 ELSE 0 END" for name in ("items", "counted"))
    op.execute(f"UPDATE standing SET {less} WHERE {listed}")  # noqa: S608 - fixed words
    op.execute("DELETE FROM known WHERE item = 'index' AND digest = ''")
