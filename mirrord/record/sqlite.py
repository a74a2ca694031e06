"""The record in one SQLite file: settings, checks, and the mapping of its errors. Blocking.

Every change is one `BEGIN IMMEDIATE` transaction in a write-ahead log with full synchronisation: after a
kill -9 a run is in the record completely or not at all.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, RowMapping, create_engine, event, func  # noqa: TID251 - this is the door
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError  # noqa: TID251 - this is the door
from sqlalchemy.pool import StaticPool  # noqa: TID251 - this is the door

from mirrord.errors import StorageError
from mirrord.record.database import DamagedError, Database, UnwritableError
from mirrord.record.migrating import bring_up
from mirrord.record.tables import storable

_T = TypeVar("_T")
_ESCAPE = re.compile(r"\\([0-7]{3})")  # a blank in a path of mountinfo
_BUSY_MILLISECONDS = 5000
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs"}
)
_DAMAGE = ("malformed", "not a database", "file is encrypted", "unsupported file format")


class SqliteFile(Database):
    """A file with one connection, which one thread uses."""

    alone = True
    readers = 0

    def __init__(self, path: Path, relief: Callable[[], bool]) -> None:
        """Name the file; `relief` frees space on a full disk, and returns whether it did."""
        self.place, self._path, self._relief = str(path), path, relief
        self.engine: Engine | None = None
        self._lost = ""

    def open(self, now: datetime) -> str:
        """See `Database.open`.

        A damaged file (or one that is not a database) is moved aside to `<name>.corrupt-<time>`, and a new one is
        created. Mirrors are correct without a record, so this must not stop them.
        """
        try:
            self._open()
        except DamagedError:
            aside = _set_aside(self._path, now)
            self._lost = f"{self._path.name} was damaged and a new one was created; the old one is {aside}"
            self._open()
        return self._lost

    def _open(self) -> None:
        self.engine = open_engine(self._path)
        try:
            self.write(lambda link: bring_up(link, self.place, "move the file away"))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """See `Database.close`; the write-ahead log is merged into the file."""
        if self.engine is not None:
            self.engine.dispose()

    def read(self, query: Any) -> Sequence[RowMapping]:
        """See `Database.read`."""
        with storage_errors(self._path), self._opened.connect() as link:
            return link.execute(query).mappings().all()

    def write(self, change: Callable[[Connection], _T], *, flushed: bool = True) -> _T:
        """See `Database.write`."""
        relaxed = contextlib.nullcontext() if flushed else unsynchronised(self._opened)
        with storage_errors(self._path), relaxed, self._opened.begin() as link:
            return change(link)

    def one_by_one(self, link: Connection, mirror: str) -> None:
        """See `Database.one_by_one`: each change is alone in any case."""

    def check(self) -> None:
        """See `Database.check`."""
        self.write(lambda link: link.exec_driver_sql("PRAGMA user_version = 1"))

    def again(self, error: StorageError, tries: int) -> bool:  # noqa: ARG002 - whatever it is
        """See `Database.again`: once, when there is more space."""
        return tries == 1 and self._relief()

    def contains(self, column: Any, text: str) -> Any:
        """See `Database.contains`."""
        return func.instr(func.lower(column), func.lower(text)) > 0

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """See `Database.snapshot`: nobody changes it meanwhile."""
        with storage_errors(self._path), self._opened.connect() as link:
            yield link

    def shared(self) -> bool:
        """See `Database.shared`: the state directory is locked."""
        return False

    def number_on(self, link: Connection, table: str) -> None:
        """See `Database.number_on`: they do."""

    @property
    def _opened(self) -> Engine:
        assert self.engine is not None
        return self.engine


def _set_aside(path: Path, now: datetime) -> Path:
    stamp = f"corrupt-{now:%Y%m%dT%H%M%S}"
    aside = path.with_name(f"{path.name}.{stamp}")
    try:
        path.rename(aside)
        for tail in ("-wal", "-shm"):
            beside = path.with_name(path.name + tail)
            if beside.exists():
                beside.rename(aside.with_name(aside.name + tail))
    except OSError as error:
        raise StorageError(f"{path}: damaged, and moving it aside failed: {error.strerror}") from error
    return aside


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
