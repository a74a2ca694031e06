"""Sizes and platforms of items, what targets lack and since when, and one row for each day of a mirror."""

from __future__ import annotations

from typing import Final

from alembic import op  # noqa: TID251 - this is the door
from sqlalchemy import BigInteger, Column, Float, Integer, text  # noqa: TID251 - this is the door

from mirrord.record.migrations import keys, numbers, words

revision: Final = "0004"
down_revision: Final = "0003"

_WORST: Final = ("noop", "success", "deferred", "interrupted", "partial", "failed")


def upgrade() -> None:
    """Add columns, tables and indexes; fill the days from the runs."""
    op.add_column("known", Column("size", BigInteger))
    op.add_column("known", Column("platforms", words(), nullable=False, server_default=""))  # with commas between
    op.create_index("ledger_by_mirror", "ledger", ["mirror", "id"])
    # Of two indexes that serve a query alike SQLite takes the newer one: for open entries the one that has only those.
    op.drop_index("ledger_open", "ledger")
    still = text("outcome = 'open'")
    op.create_index("ledger_open", "ledger", ["mirror", "id"], sqlite_where=still, postgresql_where=still)
    op.add_column("last_run", Column("sent", BigInteger, nullable=False, server_default="0"))
    op.add_column("last_run", Column("seconds", Float, nullable=False, server_default="0"))
    op.add_column("standing", Column("behind", BigInteger, nullable=False, server_default="0"))
    op.add_column("standing", Column("behind_since", BigInteger))
    op.add_column("standing", Column("counted", BigInteger, nullable=False, server_default="0"))  # rows of `known`
    op.add_column("standing", Column("size", BigInteger, nullable=False, server_default="0"))  # their bytes
    for where, count in (("target <> ''", "*"), ("target = ''", "DISTINCT item")):
        there = "" if count != "*" else " AND known.target = standing.target"
        known = f"SELECT count({count}) FROM known WHERE known.mirror = standing.mirror{there}"  # noqa: S608 - fixed words
        op.execute(f"UPDATE standing SET counted = ({known}) WHERE {where}")  # noqa: S608 - fixed words
    op.create_table(
        "behind",
        *keys("mirror", "target"),
        Column("item", words(1024), primary_key=True),
        Column("digest", words(255), nullable=False),
        *numbers("since"),
        Column("code", words(64), nullable=False),
        Column("reason", words(), nullable=False),
    )
    op.create_index("behind_by_age", "behind", ["mirror", "since"])
    op.create_table(
        "days",
        *keys("mirror"),
        Column("day", Integer, primary_key=True, autoincrement=False),  # since 1970 (UTC)
        *numbers("runs", "failed"),
        *(Column(name, Float, nullable=False) for name in ("seconds", "longest")),
        *numbers("read", "sent", "done", "deleted"),
        Column("result", words(32), nullable=False),
    )
    _fill_days()


def _fill_days() -> None:
    """Add up the runs of each of the last 90 days that a mirror ran; deletions were counted as done."""
    rank = " ".join(f"WHEN '{result}' THEN {number}" for number, result in enumerate(_WORST))
    name = " ".join(f"WHEN {number} THEN '{result}'" for number, result in enumerate(_WORST))
    lasted = "CASE WHEN finished > started THEN finished - started ELSE 0 END / 1000000.0"
    failed = "CASE WHEN result IN ('failed', 'partial') THEN 1 ELSE 0 END"
    targets = "SELECT run, sum(sent) AS sent, sum(done) AS done FROM run_targets GROUP BY run"
    op.execute(
        "INSERT INTO days (mirror, day, runs, failed, seconds, longest, read, sent, done, deleted, result)"  # noqa: S608 - fixed words
        f" SELECT mirror, finished / 86400000000, count(*), sum({failed}), sum({lasted}),"
        f" max({lasted}), sum(read), coalesce(sum(sent), 0), coalesce(sum(done), 0), 0,"
        f" CASE max(CASE result {rank} ELSE 0 END) {name} END"
        f" FROM runs LEFT JOIN ({targets}) AS parts ON run = id GROUP BY 1, 2"
    )
    op.execute("DELETE FROM days WHERE day <= (SELECT max(day) FROM days AS d WHERE d.mirror = days.mirror) - 90")
