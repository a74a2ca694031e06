"""The tables from before migrations. Such a record has some of them already; the missing ones are created."""

from __future__ import annotations

from typing import Any, Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer  # noqa: TID251 - this is the door

from mirrord.record.migrations import NUMBER, keys, numbers, serial, words

revision: Final = "0001"
down_revision: Final = None


def upgrade() -> None:
    """Create the missing tables."""
    op.create_table("schema", Column("version", Integer, nullable=False), if_not_exists=True)
    _table(
        "runs",
        serial("id"),
        *(Column(name, words(255), nullable=False) for name in ("mirror", "kind")),
        Column("trigger", words(64), nullable=False),
        *numbers("started", "finished"),
        Column("result", words(32), nullable=False),
        *numbers("read"),
        Column("code", words(64), nullable=False),
        Column("error", words(), nullable=False),
    )
    op.create_index("runs_by_mirror", "runs", ["mirror", "id"], if_not_exists=True)
    _table(
        "run_targets",
        Column("run", NUMBER, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        Column("position", Integer, primary_key=True),
        Column("target", words(255), nullable=False),
        Column("result", words(32), nullable=False),
        *numbers("planned", "kept", "done", "refused", "failed", "cancelled", "sent", "mounted"),
        Column("code", words(64), nullable=False),
        Column("error", words(), nullable=False),
    )
    _beliefs()
    _table(
        "last_run",
        *keys("mirror", "target"),
        *numbers("done", "deleted", "kept", "refused", "failed"),
        Column("troubles", words(), nullable=False),  # one sentence a line
    )
    _table(
        "noted",
        *keys("mirror"),
        Column("what", words(32), primary_key=True),
        *numbers("count"),
        Column("first", words(), nullable=False),  # one sentence a line
    )
    _table(
        "standing",
        *keys("mirror", "target"),
        Column("last_success", BigInteger),
        Column("last_attempt", BigInteger),
        Column("failures", Integer, nullable=False),
        Column("result", words(32)),
        Column("code", words(64), nullable=False),
        Column("error", words(), nullable=False),
    )


def _table(name: str, *columns: Any) -> None:
    op.create_table(name, *columns, if_not_exists=True)


def _beliefs() -> None:
    """Create the tables of `Memory`, and of the numbers of publishes."""
    _table(
        "known",
        *keys("mirror", "target"),
        Column("item", words(1024), primary_key=True),
        Column("digest", words(255), nullable=False),
        *numbers("at"),
        Column("place", words(), nullable=False),
    )
    _table(
        "names",
        *keys("mirror", "target", "name"),
        Column("digest", words(255), nullable=False),
        *numbers("at"),
        Column("stays", Boolean, nullable=False),
        Column("beside", words(), nullable=False),
        *(Column(name, BigInteger) for name in ("created", "ahead", "published")),
        *numbers("number"),
        Column("place", words(), nullable=False),
    )
    _table(
        "publishes",
        *keys("mirror"),
        *numbers("number"),  # of the last accepted one
    )
