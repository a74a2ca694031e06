"""Facts that kinds store between runs, and the ledger of moves."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import Column, text  # noqa: TID251 - this is the door

from mirrord.record.migrations import keys, numbers, serial, words

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Create both, and let versions without migrations report that they are too old for this record."""
    op.create_table(
        "facts",
        *keys("mirror", "name"),
        Column("facts", words(), nullable=False),  # a JSON object of strings
    )
    op.create_table(
        "ledger",
        serial("id"),
        *(Column(name, words(255), nullable=False) for name in ("mirror", "target")),
        *(Column(name, words(), nullable=False) for name in ("name", "place")),
        Column("before", words(255)),  # the old digest; null for none or unknown
        Column("after", words(255)),  # the new digest; null for a deletion
        *numbers("run", "at"),  # start of the run, and time of the entry
        Column("outcome", words(32), nullable=False),
    )
    op.create_index("ledger_by_name", "ledger", ["mirror", "target", "name", "id"])
    for name, columns, rows in (
        ("ledger_open", ["mirror"], "outcome = 'open'"),
        ("ledger_gone", ["mirror", "at"], "after IS NULL"),
    ):
        op.create_index(name, "ledger", columns, sqlite_where=text(rows), postgresql_where=text(rows))
    op.execute("DELETE FROM schema")
    op.execute("INSERT INTO schema (version) VALUES (2)")
