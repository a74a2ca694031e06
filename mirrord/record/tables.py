"""The tables of the record: SQLAlchemy Core, the same for SQLite today and PostgreSQL when it is outgrown.

Times are whole microseconds since 1970 (UTC): exact, comparable, and the same in every database.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text  # noqa: TID251 - this is the door

SCHEMA = 1
"""Version of these tables. A record of a newer version is refused, never guessed at."""

metadata = MetaData()

schema = Table("schema", metadata, Column("version", Integer, nullable=False))

runs = Table(
    "runs",
    metadata,
    # SQLite counts by itself only in a column of exactly the type INTEGER.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("mirror", String(255), nullable=False),
    Column("kind", String(255), nullable=False),
    Column("trigger", String(64), nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("finished", BigInteger, nullable=False),
    Column("result", String(32), nullable=False),
    Column("read", BigInteger, nullable=False),
    Column("code", String(64), nullable=False),
    Column("error", Text, nullable=False),
    Index("runs_by_mirror", "mirror", "id"),
)

run_targets = Table(
    "run_targets",
    metadata,
    Column("run", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("target", String(255), nullable=False),
    Column("result", String(32), nullable=False),
    *(
        Column(name, BigInteger, nullable=False)
        for name in ("planned", "kept", "done", "refused", "failed", "cancelled", "sent", "mounted")
    ),
    Column("code", String(64), nullable=False),
    Column("error", Text, nullable=False),
)

known = Table(
    "known",
    metadata,
    Column("mirror", String(255), primary_key=True),
    Column("target", String(255), primary_key=True),
    Column("item", String(1024), primary_key=True),
    Column("digest", String(255), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("place", Text, nullable=False),
)

names = Table(
    "names",
    metadata,
    Column("mirror", String(255), primary_key=True),
    Column("target", String(255), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("digest", String(255), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("stays", Boolean, nullable=False),
    Column("beside", Text, nullable=False),
    *(Column(name, BigInteger) for name in ("created", "ahead", "published")),
    Column("number", BigInteger, nullable=False),
    Column("place", Text, nullable=False),
)

publishes = Table(
    "publishes",
    metadata,
    Column("mirror", String(255), primary_key=True),
    Column("number", BigInteger, nullable=False),  # of the last one that was accepted
)

last_run = Table(
    "last_run",
    metadata,
    Column("mirror", String(255), primary_key=True),
    Column("target", String(255), primary_key=True),
    *(Column(name, BigInteger, nullable=False) for name in ("done", "deleted", "kept", "refused", "failed")),
    Column("troubles", Text, nullable=False),  # one sentence a line
)

noted = Table(
    "noted",
    metadata,
    Column("mirror", String(255), primary_key=True),
    Column("what", String(32), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("first", Text, nullable=False),  # one sentence a line
)

standing = Table(
    "standing",
    metadata,
    Column("mirror", String(255), primary_key=True),
    Column("target", String(255), primary_key=True),
    Column("last_success", BigInteger),
    Column("last_attempt", BigInteger),
    Column("failures", Integer, nullable=False),
    Column("result", String(32)),
    Column("code", String(64), nullable=False),
    Column("error", Text, nullable=False),
)
