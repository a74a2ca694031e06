"""The tables from before migrations. Such a record has some of them already; the missing ones are created."""

from __future__ import annotations

from typing import Any, Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, String, Text  # noqa: TID251 - this is the door

from mirrord.record.migrations import NUMBER, keys, numbers, serial

revision: Final = "0001"
down_revision: Final = None


def upgrade() -> None:
    """Create the missing tables."""
    op.create_table("schema", Column("version", Integer, nullable=False), if_not_exists=True)
    _table(
        "runs",
        serial("id"),
        *(Column(name, String(255), nullable=False) for name in ("mirror", "kind")),
        Column("trigger", String(64), nullable=False),
        *numbers("started", "finished"),
        Column("result", String(32), nullable=False),
        *numbers("read"),
        Column("code", String(64), nullable=False),
        Column("error", Text, nullable=False),
    )
    op.create_index("runs_by_mirror", "runs", ["mirror", "id"], if_not_exists=True)
    _table(
        "run_targets",
        Column("run", NUMBER, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        Column("position", Integer, primary_key=True),
        Column("target", String(255), nullable=False),
        Column("result", String(32), nullable=False),
        *numbers("planned", "kept", "done", "refused", "failed", "cancelled", "sent", "mounted"),
        Column("code", String(64), nullable=False),
        Column("error", Text, nullable=False),
    )
    _beliefs()
    _table(
        "last_run",
        *keys("mirror", "target"),
        *numbers("done", "deleted", "kept", "refused", "failed"),
        Column("troubles", Text, nullable=False),  # one sentence a line
    )
    _table(
        "noted",
        *keys("mirror"),
        Column("what", String(32), primary_key=True),
        *numbers("count"),
        Column("first", Text, nullable=False),  # one sentence a line
    )
    _table(
        "standing",
        *keys("mirror", "target"),
        Column("last_success", BigInteger),
        Column("last_attempt", BigInteger),
        Column("failures", Integer, nullable=False),
        Column("result", String(32)),
        Column("code", String(64), nullable=False),
        Column("error", Text, nullable=False),
    )


def _table(name: str, *columns: Any) -> None:
    op.create_table(name, *columns, if_not_exists=True)


def _beliefs() -> None:
    """Create the tables of `Memory`, and of the numbers of publishes."""
    _table(
        "known",
        *keys("mirror", "target"),
        Column("item", String(1024), primary_key=True),
        Column("digest", String(255), nullable=False),
        *numbers("at"),
        Column("place", Text, nullable=False),
    )
    _table(
        "names",
        *keys("mirror", "target", "name"),
        Column("digest", String(255), nullable=False),
        *numbers("at"),
        Column("stays", Boolean, nullable=False),
        Column("beside", Text, nullable=False),
        *(Column(name, BigInteger) for name in ("created", "ahead", "published")),
        *numbers("number"),
        Column("place", Text, nullable=False),
    )
    _table(
        "publishes",
        *keys("mirror"),
        *numbers("number"),  # of the last accepted one
    )
