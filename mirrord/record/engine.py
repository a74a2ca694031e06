"""Opens the database file: settings, checks, tables, and the mapping of its errors. Blocking."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, select  # noqa: TID251 - this is the door
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError  # noqa: TID251 - this is the door
from sqlalchemy.pool import StaticPool  # noqa: TID251 - this is the door

from mirrord.errors import StorageError
from mirrord.record.tables import REVISION, alembic_version, storable

_ESCAPE = re.compile(r"\\([0-7]{3})")  # a blank in a path of mountinfo
_BUSY_MILLISECONDS = 5000
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs"}
)
_DAMAGE = ("malformed", "not a database", "file is encrypted", "unsupported file format")


def bring_up(link: Connection, path: Path) -> None:
    """Create or migrate the tables; StorageError and no change if that fails."""
    there = inspect(link).has_table(alembic_version.name)
    version = link.execute(select(alembic_version.c.version_num)).scalar() if there else None
    if version == REVISION:
        return
    from alembic.config import Config  # noqa: PLC0415, TID251 - the only door, 0.1 s where tables are migrated
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415, TID251 - the same door
    from alembic.script import ScriptDirectory  # noqa: PLC0415, TID251 - the same door

    folder = str(Path(__file__).parent / "migrations")
    scripts = ScriptDirectory(folder, version_locations=[folder])
    if version not in {None, *(script.revision for script in scripts.walk_revisions())}:
        raise StorageError(
            f"{path}: written by a newer mirrord (schema {version}, this one supports {REVISION}); "
            "start that version, or move the file away (only history is lost)"
        )

    def steps(revision: Any, _: object) -> Any:
        return scripts._upgrade_revs("head", revision)  # noqa: SLF001 - as Alembic's own command does

    try:
        with EnvironmentContext(Config(), scripts, fn=steps) as environment:
            environment.configure(connection=link, transactional_ddl=True)
            environment.run_migrations()
    except Exception as error:
        what = f"migrating its tables from {version or 'an older version'} to {REVISION} failed"
        raise StorageError(f"{path}: {what}, nothing was changed: {str(error)[:300]}") from error


class DamagedError(StorageError):
    """The file is not a readable database."""


class UnwritableError(StorageError):
    """The disk or a lock prevented a change; a retry may work."""


def open_engine(path: Path) -> Engine:
    """Return an engine with one connection to a healthy database at `path`, created if missing.

    Raises:
        DamagedError: `quick_check` found damage, or it is not a database.
        StorageError: it cannot be used for another reason.
    """
    if path.exists() and not path.is_file():
        raise StorageError(f"{path}: not a file; move it away and mirrord creates a new one")
    with contextlib.suppress(OSError):  # SQLite has the better message
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=StaticPool)
    mounts = ""
    with contextlib.suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    journal = "TRUNCATE" if on_network(path, mounts) else "WAL"
    event.listen(engine, "connect", partial(_prepare, journal))
    # A deferred transaction fails in the middle if it cannot become a writer; this one waits at its start.
    event.listen(engine, "begin", lambda link: link.exec_driver_sql("BEGIN IMMEDIATE"))
    event.listen(engine, "before_cursor_execute", _written_out, retval=True)
    try:
        with storage_errors(path), engine.connect() as link:
            # The first row is "ok" or the first error.
            verdict = str(link.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        if verdict != "ok":
            raise DamagedError(f"{path}: damaged: {verdict[:200]}")  # noqa: TRY301 - one place disposes the engine
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def unsynchronised(engine: Engine) -> Iterator[None]:
    """With a write-ahead log, let commits not wait for the disk: a later synchronised one flushes them as well."""
    with contextlib.closing(engine.raw_connection()) as link:
        cursor = link.cursor()
        relaxed = cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        cursor.execute(f"PRAGMA synchronous = {'NORMAL' if relaxed else 'FULL'}")
        try:
            yield
        finally:
            cursor.execute("PRAGMA synchronous = FULL")


def _written_out(_: object, __: object, statement: str, parameters: Any, ___: object, many: bool) -> tuple[str, Any]:  # noqa: FBT001 - SQLAlchemy's order
    return statement, [tuple(map(_storable, row)) for row in parameters] if many else tuple(map(_storable, parameters))


def _storable(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn database errors into `StorageError` with the file name."""
    try:
        yield
    except DatabaseError as error:
        text = str(error.orig)
        if any(word in text for word in _DAMAGE):
            raise DamagedError(f"{path}: damaged: {text}") from error
        kind = UnwritableError if isinstance(error, OperationalError) else StorageError
        raise kind(
            f"{path}: {text}; check that the disk is not full or read-only and that no other program has the file open"
        ) from error
    except (SQLAlchemyError, OSError) as error:
        raise StorageError(f"{path}: {str(error)[:200]}") from error


def on_network(path: Path, mounts: str) -> bool:
    """Return whether `path` is on a network file system, by `/proc/self/mountinfo` (proc(5)).

    A write-ahead log needs memory shared by all processes with the file open; across a network there is none, and
    SQLite does not detect that (its "wal.html", section 1).
    """
    place = str(path.absolute())
    best, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        point = _ESCAPE.sub(lambda code: chr(int(code[1], 8)), left.split(" ")[4])
        if len(point) >= len(best) and (point in ("/", place) or place.startswith(f"{point}/")):
            best, kind = point, right.split(" ")[0]
    return kind in _NETWORK


def _prepare(journal: str, connection: Any, _: object) -> None:  # the driver's own connection
    # Otherwise the driver begins its own transactions, deferred and too late (SQLAlchemy's SQLite notes).
    connection.isolation_level = None
    # NORMAL may lose the last run in a power cut.
    settings = (f"busy_timeout = {_BUSY_MILLISECONDS}", f"journal_mode = {journal}", "synchronous = FULL")
    with contextlib.closing(connection.cursor()) as cursor:
        for setting in (*settings, "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {setting}")
