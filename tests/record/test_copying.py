"""A record is copied whole from SQLite to PostgreSQL and back, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import TableClause, func, select

from mirrord.errors import StorageError, UsageError
from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.model.memory import NamedBuild
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.request import AskRecord
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.record import copying, tables
from mirrord.record.copying import copy_record
from mirrord.record.database import LostError
from mirrord.record.postgresql import PostgresDatabase
from mirrord.record.store import Store, open_store
from mirrord.wire.database import DatabaseAddress
from tests.support.postgres import Postgres

T0 = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
BUILD = NamedBuild("main", "sha256:1", T0, False, "main-c1", T0 - timedelta(days=2), T0 - timedelta(days=1), 7, T0)
ASKED = AskRecord("a1", "docker.io/library/nginx:1", ("linux/amd64",), "ci", "queued", "", "", copied=True, asked=T0)


def run(number: int) -> Run:
    at = T0 + timedelta(seconds=number)
    good = Step(Action.COPY, "v1", "sha256:1", "a", ("v1",), "", named=(BUILD,))
    bad = replace(good, item="é v2", named=())
    receipts = (Receipt(good, Outcome.DONE, size=9), Receipt(bad, Outcome.FAILED, "no", "server"))
    return Run("m", "image", "schedule", at, at, Plan("m", "image", at, (good, bad), problems=("odd",)), receipts)


async def fill(store: Store) -> None:
    for number in range(3):
        await store.add_run(run(number))
    move = LedgerEntry("m", "a", "main", "here", None, "sha256:1", T0, T0)
    await store.intend([move, replace(move, name="v1")])
    await store.settle([replace(move, outcome=Settled.DONE)])
    await store.note("m", "baseline", {"one": "two"})
    await store.note_asked(ASKED)
    await store.accept("m")


async def seen(place: Path | DatabaseAddress) -> Sequence[Any]:
    store = await open_store(place, T0)
    found = [
        await store.runs("m"),
        await store.memory("m"),
        await store.standing(),
        await store.moves("m"),
        await store.days("m"),
        await store.behind("m"),
        await store.recall("m", "baseline"),
        await store.open_requests(),
        await store.items("m"),
    ]
    await store.close()
    return found


async def test_there_and_back(tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is read of the copy is what is read of the original, and numbers continue where they were."""
    monkeypatch.setattr(copying, "_PART", 2)
    file, back = tmp_path / "mirrord.db", tmp_path / "back.db"
    store = await open_store(file, T0)
    await fill(store)
    await store.close()
    before = await seen(file)
    with postgres.database("copied") as address:
        assert copy_record(file, address, T0) == copy_record(address, back, T0) > 15
        assert await seen(address) == before
        assert await seen(back) == before
        assert await seen(file) == before
        with pytest.raises(UsageError, match="has a record already"):
            copy_record(file, address, T0)
        with pytest.raises(UsageError, match=r"back\.db: has a record already"):
            copy_record(address, back, T0)
        for place in (address, back):
            store = await open_store(place, T0)
            await store.add_run(run(10))
            assert await store.accept("m") == 2
            assert len(await store.runs("m")) == 4
            await store.close()


async def test_what_is_in_use_or_missing_is_not_copied(
    tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that a mirrord uses is refused, and so is a source that is not there; a failure leaves no row."""
    file = tmp_path / "mirrord.db"
    with postgres.database("used") as address:
        with pytest.raises(UsageError, match=r"mirrord\.db: there is no record to copy"):
            copy_record(file, address, T0)
        assert not file.exists()
        store = await open_store(file, T0)
        await fill(store)
        await store.close()
        store = await open_store(address, T0)
        with pytest.raises(UsageError, match="another mirrord uses it; stop every mirrord first"):
            copy_record(file, address, T0)
        await store.close()
        with monkeypatch.context() as patch:
            patch.setattr(copying, "_check", fail)
            with pytest.raises(StorageError, match="miscounted"):
                copy_record(file, address, T0)
        assert postgres.sql("SELECT count(*) FROM runs", database="used") == [(0,)]


async def test_a_record_that_is_long_to_copy_is_not_cut_off(postgres: Postgres) -> None:
    """While rows are written elsewhere nothing is asked of the database, and its silence is no reason to cut it off."""
    postgres.empty()
    database = PostgresDatabase(postgres.socket)
    database.open(T0)
    with database.snapshot() as link:
        numbers = select(func.generate_series(1, 100))
        parts = link.execution_options(yield_per=10).execute(numbers).partitions()
        read = len(next(parts))
        database._watch._longest = 0.0
        with pytest.raises(LostError):
            database.write(lambda there: there.execute(select(func.pg_sleep(10))))
        database._watch._longest = 25.0
        assert read + sum(map(len, parts)) == 100
    database.close()


def test_every_table_is_copied() -> None:
    """A table that is added to the record is copied, too; what replicas share by themselves is not part of it."""
    ours = {one.name for one in vars(tables).values() if isinstance(one, TableClause)}
    assert sorted(table.name for table in copying._TABLES) == sorted(ours - {"alembic_version"})


def fail(*_: object) -> None:
    raise StorageError("miscounted")
