"""What a double saw on the wire, and in which order, across all doubles of a test.

Tests about overlap compare numbers, not times: every mark on a `Wire` gets the next number,
whichever server made it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Moment(StrEnum):
    """What can be marked about an exchange."""

    STARTED = "started"  # the request's headers are here
    FIRST_RECEIVED = "first_received"  # the first bytes of its body were read
    LAST_RECEIVED = "last_received"  # its body was read to the end
    FIRST_SENT = "first_sent"  # the first bytes of the answer's body are about to be sent
    LAST_SENT = "last_sent"  # the last bytes of the answer's body are about to be sent
    ENDED = "ended"  # answered, or broken off


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and its answer; filled in while it happens.

    Attributes:
        number: place among all requests of its `Wire`.
        server: name of the double that got it.
        method: HTTP method.
        path: raw path, still percent-encoded, without the query.
        query: raw query, or "".
        headers: request headers, names in lower case.
        status: what was answered, 0 when nothing was.
        received: bytes of the request's body that were read.
        sent: bytes of the answer's body that were handed to the socket.
        numbers: when each moment came, as a number on the `Wire`.
        times: the same by `time.monotonic`.
    """

    number: int
    server: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    status: int = 0
    received: int = 0
    sent: int = 0
    numbers: dict[Moment, int] = field(default_factory=dict)
    times: dict[Moment, float] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """Path and query, as requested."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def matches(self, method: str, pattern: str) -> bool:
        """Whether `method` (a regular expression for the whole, or `*`) and `pattern` (searched in path?query) fit."""
        return matches(self.method, self.target, method, pattern)

    def at(self, moment: Moment) -> int:
        """Return the number of `moment`.

        Raises:
            LookupError: it has not come.
        """
        if moment not in self.numbers:
            message = f"{self.method} {self.target} at {self.server}: {moment} never came"
            raise LookupError(message)
        return self.numbers[moment]


def matches(method: str, target: str, wanted: str, pattern: str) -> bool:
    """Decide whether a request is meant by `wanted` (`GET`, `PUT|PATCH`, `*`) and `pattern`."""
    return (wanted == "*" or re.fullmatch(wanted, method) is not None) and re.search(pattern, target) is not None


@dataclass(slots=True, eq=False)
class Wire:
    """Numbers what happens; share one among several doubles to order their moments.

    Attributes:
        exchanges: all requests, in the order in which they came.
    """

    exchanges: list[Exchange] = field(default_factory=list)
    _count: int = 0
    _waiting: list[tuple[Callable[[Exchange, Moment], bool], asyncio.Future[Exchange]]] = field(default_factory=list)

    def begin(self, server: str, method: str, path: str, query: str, headers: Mapping[str, str]) -> Exchange:
        """Log a request that just came."""
        exchange = Exchange(len(self.exchanges), server, method, path, query, headers)
        self.exchanges.append(exchange)
        self.mark(exchange, Moment.STARTED)
        return exchange

    def mark(self, exchange: Exchange, moment: Moment) -> None:
        """Give `moment` of `exchange` the next number, unless it has one, and wake who waits for it."""
        if moment in exchange.numbers:
            return
        self._count += 1
        exchange.numbers[moment] = self._count
        exchange.times[moment] = time.monotonic()
        for entry in tuple(self._waiting):
            wanted, future = entry
            if wanted(exchange, moment):
                self._waiting.remove(entry)
                if not future.done():
                    future.set_result(exchange)

    async def wait(self, moment: Moment, method: str, pattern: str, server: str | None = None) -> Exchange:
        """Return the first matching exchange for which `moment` has come; waits for it."""

        def fits(exchange: Exchange) -> bool:
            return server in (None, exchange.server) and exchange.matches(method, pattern)

        for exchange in self.exchanges:
            if moment in exchange.numbers and fits(exchange):
                return exchange
        future: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()
        self._waiting.append((lambda exchange, now: now is moment and fits(exchange), future))
        return await future
