"""Replicas in this process that share a database of a real PostgreSQL."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Self

from mirrord.record.fleet import Fleet, Me, Pace
from mirrord.record.fleet_database import open_shared
from mirrord.record.store import open_store
from tests.support.postgres import Postgres

QUICK: Final = Pace(beat=0.2, stale=2.0, sweep=0.3)
"""Replicas count as dead after two seconds."""
ALIVE: Final = replace(QUICK, stale=60.0)
"""For tests in which nobody dies: nor does anybody who had no turn on a busy machine."""


@dataclass
class FleetWorld:
    """A server, and a database with the tables of a record.

    Attributes:
        postgres: the server.
        connect: how psycopg connects to the database.
    """

    postgres: Postgres
    connect: Mapping[str, Any]

    @classmethod
    async def made(cls, postgres: Postgres) -> Self:
        """Make the tables where there are none, and empty them."""
        store = await open_store(postgres.socket, datetime.now(UTC))
        await store.close()
        postgres.empty()
        [server] = postgres.socket.servers
        user, name = postgres.socket.user, postgres.socket.name
        return cls(postgres, {"host": server.host, "port": server.port, "user": user, "dbname": name})

    @asynccontextmanager
    async def replica(
        self,
        name: str,
        *,
        beating: bool = True,
        running: Mapping[str, Any] | None = None,
        pace: Pace = QUICK,
    ) -> AsyncIterator[Fleet]:
        """Join as a replica; one that is not `beating` is as a process that was stopped."""
        async with join(name, self.connect, pace, beating=beating, running=running) as fleet:
            yield fleet


@asynccontextmanager
async def join(
    name: str,
    connect: Mapping[str, Any],
    pace: Pace,
    *,
    beating: bool = True,
    running: Mapping[str, Any] | None = None,
) -> AsyncIterator[Fleet]:
    """Join as a replica with a name."""
    async with open_shared(lambda: connect) as database:
        fleet = Fleet(database, Me(name, uuid.uuid4().hex, running=lambda: running or {}), pace)
        await fleet.join()
        task = asyncio.create_task(fleet.beat() if beating else asyncio.sleep(0))
        try:
            yield fleet
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await fleet.leave()


def hurry(fleet: Fleet, patience: float) -> None:
    """Let it ask again for so many seconds only, from now on: what has to be answered before may take its time."""
    fleet.database = replace(fleet.database, patience=patience)


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something is true, or what it returns when it is awaited, half a minute at most."""
    async with asyncio.timeout(30):
        while True:
            found = condition()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.02)
