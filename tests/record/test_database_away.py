"""A database that restarts, hangs, is slow or read-only: nothing is lost, and nothing waits for ever (fault F37)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from mirrord.errors import StorageError
from mirrord.model.ledger import LedgerEntry
from mirrord.model.run import Run
from mirrord.record import connecting, postgresql
from mirrord.record.sql_store import SqlStore
from mirrord.record.store import open_store
from mirrord.wire.database import DatabaseAddress, Server
from tests.support.fleets import until
from tests.support.gate import Gate
from tests.support.postgres import Postgres

T0 = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
MOVE = LedgerEntry("m", "a", "main", "here", None, "sha256:1", T0, T0)


def run(number: int) -> Run:
    return Run("m", "image", "schedule", T0.replace(second=number), T0.replace(second=number))


def through(server: Postgres, port: int) -> DatabaseAddress:
    return replace(server.address, servers=(Server("127.0.0.1", port),))


async def until_writable(store: SqlStore, *, writable: bool) -> None:
    """Wait until the server has told the connections of the store: it does so in its own time."""

    async def look() -> bool:
        with contextlib.suppress(StorageError):
            await store.check()
            return True
        return False

    async with asyncio.timeout(20):
        while await look() != writable:  # noqa: ASYNC110 - the server says it
            await asyncio.sleep(0)


async def test_a_server_that_starts_again(postgres: Postgres) -> None:
    """What is read and written while it ends as in a crash, and starts, is read and written; nobody has to come by."""
    postgres.empty()
    store = await open_store(postgres.socket, T0)
    await store.add_run(run(0))
    restart = asyncio.ensure_future(asyncio.to_thread(postgres.restart))
    number = 1
    while not restart.done():
        await store.add_run(run(number))
        await store.intend([replace(MOVE, name=f"v{number}")])
        assert len(await store.runs("m", 100)) == number + 1
        number = min(number + 1, 59)
    await restart
    assert store.away == ""
    (day,) = await store.days("m")
    assert day.runs == len(await store.runs("m", 100)) >= 2
    await store.close()


async def test_a_server_that_is_away_for_long(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads fail after some time, runs are kept and written when it is back, once each; meanwhile it says why."""
    monkeypatch.setattr(postgresql, "PATIENCE", 0.3)
    postgres.empty()
    store = await open_store(postgres.socket, T0)
    postgres.stop()
    try:
        for number in range(3):
            with pytest.raises(StorageError, match=r"connection|No such file"):
                await store.add_run(run(number))
        with pytest.raises(StorageError) as caught:
            await store.standing("m")
        assert store.away == str(caught.value)
        assert store.away.startswith(f"postgresql://%2F{str(postgres.folder)[1:].replace('/', '%2F')}")
        with pytest.raises(StorageError):
            await store.check()
    finally:
        postgres.start()
    await store.check()
    assert store.away == ""
    assert [one.started.second for one in await store.runs("m")] == [2, 1, 0]
    await store.close()


async def test_a_server_whose_connections_are_taken(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for until others leave one, whatever the words of the server are (newer ones speak of roles)."""
    postgres.sql("ALTER ROLE mirrord CONNECTION LIMIT 0")
    monkeypatch.setattr(time, "sleep", lambda _: postgres.sql("ALTER ROLE mirrord CONNECTION LIMIT -1"))
    try:
        store = await open_store(postgres.socket, T0)
        await store.close()
    finally:
        postgres.sql("ALTER ROLE mirrord CONNECTION LIMIT -1")


async def test_an_answer_that_was_lost(postgres: Postgres) -> None:
    """A connection that ends after the commit and before its answer: the run and the moves are recorded once."""
    postgres.empty()
    async with Gate(postgres.port) as gate:
        store = await open_store(through(postgres, gate.port), T0)
        await store.check()
        for number in range(2):
            gate.last = b"COMMIT"
            await store.add_run(run(number))
            gate.last = b"COMMIT"
            await store.intend([replace(MOVE, name=f"v{number}")])
            assert gate.last == b""
        (day,) = await store.days("m")
        assert (day.runs, len(await store.runs("m")), len(await store.moves("m"))) == (2, 2, 2)
        await store.close()


async def test_a_way_that_hangs(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing comes back, and no connection ends, reading and writing ends in time; the event loop goes on."""
    monkeypatch.setattr(postgresql, "_HANGING", 0.5)
    monkeypatch.setattr(postgresql, "PATIENCE", 0.1)
    monkeypatch.setattr(connecting, "_CONNECTING", {**connecting._CONNECTING, "connect_timeout": 2})
    postgres.empty()
    async with Gate(postgres.port) as gate:
        store = await open_store(through(postgres, gate.port), T0)
        gate.silent = True
        began = time.monotonic()
        tasks = [asyncio.ensure_future(store.add_run(run(1))), asyncio.ensure_future(store.standing())]
        for one in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(one, StorageError)
        assert time.monotonic() - began < 20
        gate.silent = False
        await store.check()
        assert len(await store.runs("m")) == 1
        await store.close()


async def test_a_database_that_is_read_only_for_a_while(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there can be read, what cannot be written is written later, and why is said meanwhile."""
    monkeypatch.setattr(postgresql, "PATIENCE", 0.3)
    postgres.empty()
    store = await open_store(postgres.socket, T0)
    await store.add_run(run(0))
    assert len(await store.runs("m")) == 1
    postgres.sql("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    try:
        await until_writable(store, writable=False)
        with pytest.raises(StorageError, match="read-only"):
            await store.add_run(run(1))
        assert len(await store.runs("m")) == 1
        assert "read-only" in store.away
    finally:
        postgres.sql("SET default_transaction_read_only = off", "ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()")
    await until_writable(store, writable=True)
    assert store.away == ""
    assert len(await store.runs("m")) == 2
    await store.close()


async def test_a_table_that_somebody_has_locked(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that others hold up is given up in time, kept, and made later."""
    monkeypatch.setattr(postgresql, "_BOUNDS", {**postgresql._BOUNDS, "lock_timeout": 100})
    postgres.empty()
    store = await open_store(postgres.socket, T0)
    with postgres.locked("runs"), pytest.raises(StorageError, match="lock timeout"):
        await store.add_run(run(0))
    await store.check()
    assert len(await store.runs("m")) == 1
    await store.close()


async def test_a_read_whose_caller_left(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the record waits for it, and closes its connection too."""
    made, connect = list[psycopg.Connection[Any]](), psycopg.connect

    def noted(*arguments: Any, **keywords: Any) -> Any:
        made.append(connect(*arguments, **keywords))
        return made[-1]

    waits = "SELECT 1 FROM pg_stat_activity WHERE usename = 'mirrord' AND wait_event_type = 'Lock'"
    postgres.empty()
    monkeypatch.setattr(psycopg, "connect", noted)
    store = await open_store(postgres.socket, T0)
    with postgres.locked("runs"):
        reading = asyncio.create_task(store.runs("m"))
        await until(lambda: postgres.sql(waits))
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        closing = asyncio.create_task(store.close())
        await asyncio.wait([closing], timeout=0.1)
    await closing
    assert [one for one in made if not one.closed] == []
