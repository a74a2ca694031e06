"""Replicas that share the record, their leases on mirrors, and the runs that wait for one; one machine needs none."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import BigInteger, Column, DateTime, Text, text  # noqa: TID251 - this is the door
from sqlalchemy.dialects.postgresql import JSONB  # noqa: TID251 - this is the door

revision: Final = "0011"
down_revision: Final = "0010"


def upgrade() -> None:
    """Make the tables where there can be several replicas."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "replicas",
        Column("replica", Text, primary_key=True),
        Column("boot", Text, nullable=False),
        Column("version", Text, nullable=False),
        Column("started", DateTime(timezone=True), nullable=False),
        Column("seen", DateTime(timezone=True), nullable=False),
        Column("running", JSONB, nullable=False),
    )
    op.create_table(
        "leases",
        Column("mirror", Text, primary_key=True),
        Column("replica", Text, nullable=False),  # that has it, or had it last
        Column("boot", Text, nullable=False),  # "" while nobody has it
        Column("fence", BigInteger, nullable=False),
        Column("until", DateTime(timezone=True), nullable=False),
        Column("doubt", DateTime(timezone=True), nullable=False),  # until when the record is not to be trusted
    )
    op.create_table(
        "queued_runs",
        Column("id", BigInteger, primary_key=True, autoincrement=True),
        Column("mirror", Text, nullable=False),
        Column("trigger", Text, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        Column("state", Text, nullable=False),  # queued, running, ended
        Column("prefers", Text, nullable=False),  # the replica that is to run it while that is alive, or ""
        Column("boot", Text, nullable=False, server_default=text("''")),  # that runs it, or ran it last
        Column("job", BigInteger),  # of the queue; NULL until it has one
    )
    op.create_index("queued_runs_of_mirror", "queued_runs", ["mirror", "id"])
    op.create_index(
        "queued_runs_open", "queued_runs", ["mirror"], unique=True, postgresql_where=text("state <> 'ended'")
    )
