"""Bringing the tables to what this version knows. One look when they are; Alembic is loaded only when they are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, select  # noqa: TID251 - this is the door

from mirrord.errors import StorageError
from mirrord.record.tables import REVISION, alembic_version


def bring_up(link: Connection, path: Path) -> None:
    """Make the tables, or those that a record of before lacks; in the transaction of `link`, whole or not at all.

    Raises:
        StorageError: they are of a newer version, or a migration failed; nothing was changed.
    """
    there = inspect(link).has_table(alembic_version.name)
    version = link.execute(select(alembic_version.c.version_num)).scalar() if there else None
    if version != REVISION:
        _migrate(link, path, version)


def _migrate(link: Connection, path: Path, version: str | None) -> None:
    from alembic.config import Config  # noqa: PLC0415, TID251 - costs 0.1 s, and is seldom needed; this is the door
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415, TID251 - likewise
    from alembic.script import ScriptDirectory  # noqa: PLC0415, TID251 - likewise

    folder = str(Path(__file__).parent / "migrations")
    scripts = ScriptDirectory(folder, version_locations=[folder])
    if version not in {None, *(script.revision for script in scripts.walk_revisions())}:
        raise StorageError(
            f"{path}: written by a newer mirrord (schema {version}, this one knows {REVISION}); "
            "start that version, or move the file away and lose only history"
        )

    def steps(revision: Any, _: object) -> Any:
        return scripts._upgrade_revs("head", revision)  # noqa: SLF001 - as Alembic's own command does

    try:
        with EnvironmentContext(Config(), scripts, fn=steps) as environment:
            environment.configure(connection=link, transactional_ddl=True)
            environment.run_migrations()
    except Exception as error:
        told = f"its tables cannot be brought from version {version or 'of before'} to {REVISION}"
        raise StorageError(f"{path}: {told}, and stay as they were: {str(error)[:300]}") from error
