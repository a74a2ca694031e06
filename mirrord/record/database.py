"""The port of a database: all in which SQLite and PostgreSQL differ. Blocking; nothing heavy is loaded here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from mirrord.errors import StorageError

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping  # noqa: TID251 - this is the door

_T = TypeVar("_T")


class DamagedError(StorageError):
    """The file is not a readable database."""


class UnwritableError(StorageError):
    """A change could not be made, or it is unknown whether it was; a later try may work."""


class LostError(UnwritableError):
    """The database is away; it may be back in a moment."""

    def __init__(self, text: str, since: float) -> None:
        """Say since when it is, by `time.monotonic`."""
        super().__init__(text)
        self.since = since


class Database(ABC):
    """A database with the tables of the record, which one thread changes. What fails is a `StorageError`."""

    place: str
    """How messages name it."""
    alone: bool
    """Whether nobody else changes it while it is open."""
    away: str = ""
    """Why it cannot be used now, as far as anybody tried since; "" otherwise."""
    readers: int
    """How many threads may read it at once; 0: only the thread that changes it."""

    @abstractmethod
    def open(self, now: datetime) -> str:
        """Open it, with its tables; return what was lost, one sentence, or ""."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""

    @abstractmethod
    def read(self, query: Any) -> Sequence[RowMapping]:
        """Return the rows that a query finds."""

    @abstractmethod
    def write(self, change: Callable[[Connection], _T], *, flushed: bool = True) -> _T:
        """Make a change, all of it or nothing.

        One that is not `flushed` may be lost when the power or the server fails; it survives a kill -9 of this process.
        """

    @abstractmethod
    def one_by_one(self, link: Connection, mirror: str) -> None:
        """Let others who change what is recorded of the same mirror wait until this change ends."""

    @abstractmethod
    def check(self) -> None:
        """Check that it can be written, and do not wait if it cannot."""

    @abstractmethod
    def again(self, error: StorageError, tries: int) -> bool:
        """Return whether what failed so often should be tried once more, when it is time for that."""

    @abstractmethod
    def contains(self, column: Any, text: str) -> Any:
        """Return the condition that a column contains a text; letters of ASCII match in either case."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[Connection]:
        """Return a connection that sees all tables as they are at one moment."""

    @abstractmethod
    def shared(self) -> bool:
        """Return whether another process uses the database now, as far as it tells; asked before anything else."""

    @abstractmethod
    def number_on(self, link: Connection, table: str) -> None:
        """Let new rows of a table get higher numbers (`id`) than the ones that were written with theirs."""
