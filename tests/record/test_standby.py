"""A standby that is promoted after its primary died: work goes on there, and nothing that was recorded is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from mirrord.model.run import Run
from mirrord.record.connecting import connection_keys
from mirrord.record.fleet import Fleet, Me
from mirrord.record.fleet_database import open_shared
from mirrord.record.queue import FleetQueue
from mirrord.record.sql_store import SqlStore
from mirrord.record.store import open_store
from tests.support.fleets import QUICK, until
from tests.support.postgres import Postgres

T0 = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
REPLICATED = {"wal_level": "replica", "max_wal_senders": 4}


@pytest.fixture
def pair() -> Iterator[tuple[Postgres, Postgres]]:
    """Return a server, and one that has all of it that was ever acknowledged."""
    with Postgres(REPLICATED) as primary, Postgres(REPLICATED, standby_of=primary) as standby:
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        yield primary, standby


async def write(store: SqlStore, written: list[int], stopping: asyncio.Event) -> None:
    """Record runs and facts, and note those that were acknowledged."""
    while not stopping.is_set():
        number = len(written)
        at = T0 + timedelta(seconds=number)  # no two of one moment: else one that is tried again counts as written
        await store.add_run(Run("m", "image", "schedule", at, at, None, error=str(number)))
        await store.note("m", "name", {"number": str(number)})
        written.append(number)


async def nothing(_: str, __: str) -> bool:
    return True


async def test_a_standby_that_is_promoted(pair: tuple[Postgres, Postgres], monkeypatch: pytest.MonkeyPatch) -> None:
    """The record, the leases and the queue go on at it without a hand, after a time in which nobody took changes."""
    primary, standby = pair
    address = replace(primary.address, servers=(*primary.address.servers, *standby.address.servers))
    store = await open_store(address, T0)
    done, stopping = list[int](), asyncio.Event()
    async with open_shared(partial(connection_keys, address)) as database:
        fleet = Fleet(database, Me("one", "boot"), replace(QUICK, stale=30.0))
        await fleet.join()
        queue = FleetQueue(fleet, nothing, 2)
        await queue.open()
        beating = asyncio.create_task(fleet.beat())
        writing = asyncio.create_task(write(store, done, stopping))
        async with fleet.hold("m") as lease:
            await until(lambda: len(done) > 3)
            await asyncio.to_thread(primary.stop)
            await until(lambda: store.away)
            asked = [asyncio.create_task(work) for work in (fleet.check(lease), queue.defer("later"))]
            assert standby.sql("SELECT pg_is_in_recovery()") == [(True,)], "nobody takes changes"
            recorded = len(done)
            await asyncio.to_thread(standby.promote)
            assert await asyncio.gather(*asked) == [None, True]
            await until(lambda: len(done) > recorded + 1)
            stopping.set()
            await fleet.check(lease)
        await writing
        beating.cancel()
        await queue.close()
    assert store.away == ""
    assert await store.recall("m", "name") == {"number": str(done[-1])}
    await store.close()
    assert standby.sql("SELECT lock FROM procrastinate_jobs", database="mirrord") == [("later",)]
    assert sorted(int(text) for (text,) in standby.sql("SELECT error FROM runs", database="mirrord")) == done
