"""Opening the database file: settings, checks, and what its errors mean. Blocking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event  # noqa: TID251 - this is the door
from sqlalchemy.exc import DatabaseError, SQLAlchemyError  # noqa: TID251 - this is the door
from sqlalchemy.pool import StaticPool  # noqa: TID251 - this is the door

from mirrord.errors import StorageError

_BUSY_MILLISECONDS = 5000
_DAMAGE = ("malformed", "not a database", "file is encrypted", "unsupported file format")


class DamagedError(StorageError):
    """The file holds no database that can be read."""


def open_engine(path: Path) -> Engine:
    """Return an engine with one connection to a healthy database at `path`, made when missing.

    Raises:
        DamagedError: `quick_check` found damage, or it is no database.
        StorageError: anything else that keeps it from being used.
    """
    if path.exists() and not path.is_file():
        raise StorageError(f"{path}: not a file; move it away and mirrord makes a new one")
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=StaticPool)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    try:
        with storage_errors(path), engine.connect() as link:
            # The first row is "ok", or the first thing that is wrong.
            verdict = str(link.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        if verdict != "ok":
            raise DamagedError(f"{path}: damaged: {verdict[:200]}")  # noqa: TRY301 - one place disposes the engine
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the database raises into `StorageError`, naming the file."""
    try:
        yield
    except DatabaseError as error:
        text = str(error.orig)
        if any(word in text for word in _DAMAGE):
            raise DamagedError(f"{path}: damaged: {text}") from error
        raise StorageError(
            f"{path}: {text}; is the disk full, read-only, or the file held by another program?"
        ) from error
    except (SQLAlchemyError, OSError) as error:
        raise StorageError(f"{path}: {str(error)[:200]}") from error


def _prepare(connection: Any, _: object) -> None:  # the driver's own connection
    # The driver begins its own transactions otherwise, deferred and too late (SQLAlchemy's SQLite notes).
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        for setting in (
            f"busy_timeout = {_BUSY_MILLISECONDS}",
            "journal_mode = WAL",
            "synchronous = FULL",  # NORMAL may lose the last run in a power cut
            "foreign_keys = ON",
        ):
            cursor.execute(f"PRAGMA {setting}")
    finally:
        cursor.close()


def _begin(link: Connection) -> None:
    # A deferred transaction fails half-way when it cannot become a writer; this one waits at its start.
    link.exec_driver_sql("BEGIN IMMEDIATE")
