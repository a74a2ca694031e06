"""Cuts connections of a database on which nothing is heard for too long: through a proxy, that may be for ever."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import psycopg  # noqa: TID251 - this is the door
from sqlalchemy import Engine, event  # noqa: TID251 - this is the door

_LOOK: Final = 1.0  # seconds


@dataclass(slots=True)
class _Line:
    socket: socket.socket  # a name of our own: the number of the other one may be somebody else's by now
    since: float | None = None  # when it was last asked for something, while an answer is awaited
    patient: bool = False  # whether that may take any time


class Watch:
    """Looks after the connections of engines, from a thread of its own."""

    def __init__(self, longest: float) -> None:
        """Allow so many seconds for each statement."""
        self._longest = longest
        self._lines: dict[int, _Line] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def over(self, engine: Engine) -> None:
        """Look after an engine, which makes each of its connections known by `add`."""
        event.listen(engine, "before_cursor_execute", lambda _, cursor, *__: self._asked(cursor.connection))
        event.listen(engine, "after_cursor_execute", self._executed)
        event.listen(engine, "commit", lambda link: self._asked(link.connection.dbapi_connection))
        event.listen(engine, "checkin", lambda connection, _: self._answered(connection))
        event.listen(engine, "close", lambda connection, _: self._forget(connection))

    def add(self, connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
        """Look after a connection; return it."""
        with self._lock:
            self._lines[id(connection)] = _Line(socket.socket(fileno=os.dup(connection.fileno())))
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="record-watch", daemon=True)
                self._thread.start()
        return connection

    @contextmanager
    def patient(self, connection: Any) -> Iterator[None]:
        """Let statements on a connection take any time until the block ends."""
        line = self._lines[id(connection)]
        line.patient = True
        try:
            yield
        finally:
            line.patient = False

    def close(self) -> None:
        """Stop looking."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        for line in self._lines.values():
            line.socket.close()
        self._lines.clear()

    def _asked(self, connection: Any) -> None:
        if (line := self._lines.get(id(connection))) is not None:
            line.since = time.monotonic()

    def _executed(self, _: object, cursor: Any, *__: object) -> None:
        if isinstance(cursor, psycopg.ServerCursor):  # between two parts of its rows it is us who take the time
            self._answered(cursor.connection)

    def _answered(self, connection: Any) -> None:
        if (line := self._lines.get(id(connection))) is not None:
            line.since = None

    def _forget(self, connection: Any) -> None:
        with self._lock:
            line = self._lines.pop(id(connection), None)
        if line is not None:
            line.socket.close()

    def _look(self) -> None:
        while not self._closing.wait(_LOOK):
            with self._lock:
                late = time.monotonic() - self._longest
                for line in self._lines.values():
                    if line.since is not None and line.since < late and not line.patient:
                        with suppress(OSError):  # its other end was faster
                            line.socket.shutdown(socket.SHUT_RDWR)
