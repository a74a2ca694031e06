"""Creates and migrates the tables, by Alembic. Blocking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, select  # noqa: TID251 - this is the door
from sqlalchemy.exc import DBAPIError  # noqa: TID251 - this is the door

from mirrord.errors import StorageError
from mirrord.record.tables import REVISION, alembic_version
from mirrord.wire.secret import redact


def version_of(link: Connection) -> str | None:
    """Return which migration the tables had last; None for a database without any."""
    there = inspect(link).has_table(alembic_version.name)
    return link.execute(select(alembic_version.c.version_num)).scalar() if there else None


def bring_up(link: Connection, place: str, instead: str) -> None:
    """Create or migrate the tables; StorageError and no change if that fails; DBAPIError if the database went away.

    Args:
        link: a connection in a transaction.
        place: how messages name the database.
        instead: what to do about one that a newer mirrord has written.
    """
    version = version_of(link)
    if version == REVISION:
        return
    from alembic.config import Config  # noqa: PLC0415, TID251 - the only door, 0.1 s where tables are migrated
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415, TID251 - the same door
    from alembic.script import ScriptDirectory  # noqa: PLC0415, TID251 - the same door

    folder = str(Path(__file__).parent / "migrations")
    scripts = ScriptDirectory(folder, version_locations=[folder])
    if version not in {None, *(script.revision for script in scripts.walk_revisions())}:
        raise StorageError(
            f"{place}: written by a newer mirrord (schema {version}, this one supports {REVISION}), or by another"
            f" program; start that version, or {instead} (the history of runs and the ledger of tags are lost then)"
        )

    def steps(revision: Any, _: object) -> Any:
        return scripts._upgrade_revs("head", revision)  # noqa: SLF001 - as Alembic's own command does

    try:
        with EnvironmentContext(Config(), scripts, fn=steps) as environment:
            environment.configure(connection=link, transactional_ddl=True)
            environment.run_migrations()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        what = f"migrating its tables from {version or 'an older version'} to {REVISION} failed"
        said = redact(str(error).partition("\n")[0])[:300]  # the statement follows
        advice = f"if another program made tables there, {instead}"
        if getattr(error.orig, "sqlstate", "") == "42501":  # insufficient privilege
            advice = "let its role own the database, or grant it CREATE on the schema"
        raise StorageError(f"{place}: {what}, nothing was changed: {said}; {advice}") from error
