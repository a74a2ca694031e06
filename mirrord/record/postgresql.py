"""The record in a database of PostgreSQL, which other replicas use, too. Blocking.

A connection that is lost, a server that starts again, or one that has become a standby are waited for. Nobody waits
for a server that is silent: what it does not do in its time it ends itself, and a connection on which not even that is
heard is cut.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import psycopg  # noqa: TID251 - this is the door
from sqlalchemy import Connection, Engine, RowMapping, collate, create_engine, event, func, literal, text  # noqa: TID251 - this is the door
from sqlalchemy.exc import DBAPIError, SQLAlchemyError  # noqa: TID251 - this is the door

from mirrord.errors import StorageError
from mirrord.record.connecting import connection_keys
from mirrord.record.database import Database, LostError, UnwritableError
from mirrord.record.hanging import Watch
from mirrord.record.migrating import bring_up
from mirrord.record.tables import storable
from mirrord.wire.database import DatabaseAddress
from mirrord.wire.secret import redact

PATIENCE: Final = 30.0
"""Seconds for which a database that is away is waited for, from the first time that it was missed."""
READERS: Final = 4
_PAUSE: Final = 5.0  # seconds between looks for one that has been away for longer
_LONGEST: Final = 300  # characters of a message of the server
_BOUNDS: Final[Mapping[str, int]] = {  # milliseconds
    "statement_timeout": 20_000,
    "lock_timeout": 10_000,
    "idle_in_transaction_session_timeout": 30_000,  # a replica that was stopped holds no lock for longer
}
_HANGING: Final = 25.0  # seconds: longer than any statement may take
# Codes of errors (PostgreSQL's appendix A): what passes when the server is back, or when others are done …
_AWAY: Final = re.compile("08...|57P..|25P03|25006|53300|40001|40P01")
# … what no later try will change, since the value or the statement is wrong …
_WRONG: Final = re.compile("0A...|22...|23...|42(?!501)...|54...")
# … and, since nobody hears the code of why a connection is refused, the words of what somebody has to mend.
_REFUSED: Final = re.compile(
    r"certificate|SSL|root\.crt|authentication|no password|pg_hba|does not exist|permission denied|not permitted",
    re.IGNORECASE,
)
_MIGRATING: Final = 0x6D6972726F72  # keys of locks: of who migrates the tables,
_MIRROR: Final = 0x6D69  # and, with that of its name, of who changes what is recorded of a mirror
_OTHERS: Final = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'mirrord' AND pid <> pg_backend_pid()"
)
_HIGHEST: Final = text("SELECT setval(pg_get_serial_sequence(:table, 'id'), :id) WHERE :id IS NOT NULL")
_T = TypeVar("_T")


@dataclass(slots=True)
class _Absence:
    """Since when the database is missed, and what was heard last."""

    since: float | None = None  # by `time.monotonic`, as all of these
    look: float = 0.0  # when it is looked for again
    error: str = ""


class PostgresDatabase(Database):
    """A database with connections of its own for readers, for changes, and for changes that need not be flushed."""

    alone = False
    readers = READERS

    def __init__(self, address: DatabaseAddress) -> None:
        """Name the database."""
        self.place, self._address = str(address), address
        self._watch = Watch(_HANGING)
        self.engine = self._engine(READERS + 1, _BOUNDS)
        self._relaxed = self._engine(1, {**_BOUNDS, "synchronous_commit": "off"})
        self._reading = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._away = {"read": _Absence(), "write": _Absence()}  # a standby can be read

    def _engine(self, connections: int, settings: Mapping[str, object]) -> Engine:
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: self._watch.add(psycopg.connect(**connection_keys(self._address), options=options)),
            pool_size=connections,
            max_overflow=0,
            pool_use_lifo=True,
            hide_parameters=True,
            use_native_hstore=False,  # else each connection begins with a look for it
        )
        self._watch.over(engine)
        event.listen(engine, "before_cursor_execute", _written_out, retval=True)
        return engine

    def open(self, now: datetime) -> str:  # noqa: ARG002 - nothing is moved aside here
        """See `Database.open`; of replicas that start at once one migrates the tables, and the others wait for it."""
        self.write(self._bring_up)
        return ""

    def _bring_up(self, link: Connection) -> None:
        connection: Any = link.connection.driver_connection
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            how = "create one WITH ENCODING 'UTF8' TEMPLATE template0"
            raise StorageError(f"{self.place}: its encoding is {encoding}, which cannot hold all names; {how}")
        for name in _BOUNDS:
            link.exec_driver_sql(f"SET LOCAL {name} = 0")
        with self._watch.patient(connection):
            link.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATING})
            bring_up(link, self.place, "give another database")

    def close(self) -> None:
        """See `Database.close`."""
        self.engine.dispose()
        self._relaxed.dispose()
        self._watch.close()

    def read(self, query: Any) -> Sequence[RowMapping]:
        """See `Database.read`; each query is a transaction."""
        with self._errors("read"), self._reading.connect() as link:
            return link.execute(query).mappings().all()

    def write(self, change: Callable[[Connection], _T], *, flushed: bool = True) -> _T:
        """See `Database.write`."""
        with self._errors("write"), (self.engine if flushed else self._relaxed).begin() as link:
            return change(link)

    def one_by_one(self, link: Connection, mirror: str) -> None:
        """See `Database.one_by_one`: until the end of the transaction."""
        link.execute(
            text("SELECT pg_advisory_xact_lock(:lock, hashtext(:mirror))"), {"lock": _MIRROR, "mirror": mirror}
        )

    def check(self) -> None:
        """See `Database.check`: it is looked for in any case."""
        for absence in self._away.values():
            absence.look = 0.0
        self.write(lambda link: link.exec_driver_sql("UPDATE schema SET version = version"))

    def again(self, error: StorageError, tries: int) -> bool:
        """See `Database.again`: while the database has not been away for long."""
        if not isinstance(error, LostError) or time.monotonic() > error.since + PATIENCE:
            return False
        time.sleep(min(0.05 * 2**tries, 1.0))
        return True

    def contains(self, column: Any, text: str) -> Any:
        """See `Database.contains`; in the collation of our columns only letters of ASCII have a case."""
        return func.strpos(func.lower(column), func.lower(collate(literal(_storable(text)), "C"))) > 0

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """See `Database.snapshot`."""
        with self._errors("read"), self.engine.connect() as link:
            yield link.execution_options(isolation_level="REPEATABLE READ")

    def shared(self) -> bool:
        """See `Database.shared`: whether it has connections of our name that are not this one."""
        return bool(self.write(lambda link: link.execute(_OTHERS).scalar()))

    def number_on(self, link: Connection, table: str) -> None:
        """See `Database.number_on`."""
        link.execute(_HIGHEST, {"table": table, "id": link.exec_driver_sql(f"SELECT max(id) FROM {table}").scalar()})  # noqa: S608 - a name of our own tables

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Turn errors into `StorageError`, and remember since when the database is away."""
        absence = self._away[doing]
        if absence.since is not None and time.monotonic() < absence.look:
            raise LostError(f"{self.place}: {absence.error}", absence.since)
        try:
            yield
        except DBAPIError as error:
            raise self._known(error, absence) from error
        except (SQLAlchemyError, OSError) as error:
            raise StorageError(f"{self.place}: {_line(str(error))}") from error
        if absence.since is not None:
            absence.since = None
            self.away = ""

    def _known(self, error: DBAPIError, absence: _Absence) -> StorageError:
        cause = error.orig
        code = (cause.sqlstate or "") if isinstance(cause, psycopg.Error) else ""
        said = _line((isinstance(cause, psycopg.Error) and cause.diag.message_primary) or str(cause))
        unheard = not code and isinstance(cause, psycopg.OperationalError) and not _REFUSED.search(said)
        if unheard or _AWAY.fullmatch(code):
            now = time.monotonic()
            absence.since, absence.error = absence.since or now, said
            if now > absence.since + PATIENCE:
                absence.look = now + _PAUSE
            self.away = f"{self.place}: {said}"
            return LostError(self.away, absence.since)
        if _WRONG.fullmatch(code) or not isinstance(cause, psycopg.OperationalError | psycopg.ProgrammingError):
            return StorageError(f"{self.place}: {said}")
        return UnwritableError(f"{self.place}: {said}")


def _line(text: str) -> str:
    return redact(" ".join(text[: 4 * _LONGEST].split()))[:_LONGEST]


def _written_out(_: object, __: object, statement: str, parameters: Any, ___: object, many: bool) -> tuple[str, Any]:  # noqa: FBT001 - SQLAlchemy's order
    return statement, [_row(row) for row in parameters] if many else _row(parameters)


def _row(parameters: Any) -> Any:
    if not isinstance(parameters, Mapping):
        return parameters
    return {name: _storable(value) if isinstance(value, str) else value for name, value in parameters.items()}


def _storable(value: str) -> str:
    return storable(value).replace("\0", "\\x00")  # the one character that PostgreSQL cannot keep
