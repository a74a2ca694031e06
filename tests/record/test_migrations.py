"""How the tables of a record come to what this version knows."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, TableClause, event

from mirrord.errors import StorageError
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.record import migrations, tables
from mirrord.record.store import open_store
from tests.support.store import age, before_history, before_signatures

T0 = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
ROOT = Path(__file__).parent.parent.parent
OPENING = """
import asyncio, sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from mirrord.record.store import open_store
async def main():
    store = await open_store(Path(sys.argv[1]), datetime(2026, 11, 21, tzinfo=UTC))
    await store.check()
    await store.close()
asyncio.run(main())
sys.exit("alembic" in sys.modules)
"""


async def made(tmp_path: Path) -> Path:
    file = tmp_path / "mirrord.db"
    await (await open_store(file, T0)).close()
    return file


def schema(file: Path) -> set[tuple[str, str, str]]:
    """Return table, column and type of all that is in a database."""
    with closing(sqlite3.connect(file)) as link:
        names = [name for (name,) in link.execute("select name from sqlite_master where type = 'table'")]
        return {(name, row[1], row[2]) for name in names for row in link.execute(f"pragma table_info({name})")}


async def test_tables_are_as_the_queries_think(tmp_path: Path) -> None:
    """The migrations make exactly the columns that are read and written."""
    known = [table for table in vars(tables).values() if isinstance(table, TableClause)]
    wanted = {(table.name, column.name) for table in known for column in table.c} | {("schema", "version")}
    assert {(table, column) for table, column, _ in schema(await made(tmp_path))} == wanted


async def test_a_record_of_before_ends_as_a_new_one(tmp_path: Path) -> None:
    """Whatever a record of before lacks, after a migration it has all that a new one has, of the same types."""
    file = await made(tmp_path)
    new = schema(file)
    age(file, "names", "publishes", "noted", "last_run")
    assert schema(file) < new
    await (await open_store(file, T0)).close()
    assert schema(file) == new


async def test_days_are_filled_from_the_runs(tmp_path: Path) -> None:
    """A record from before days were counted gets them from its runs; nothing else in it changes, and runs go on."""
    file = tmp_path / "mirrord.db"
    store = await open_store(file, T0)
    copy, gone = Step(Action.COPY, "v1", "sha256:1", "a", (), ""), Step(Action.DELETE, "v0", "", "a", (), "")
    for day, outcome, seconds in ((0, Outcome.DONE, 5), (0, Outcome.FAILED, -7), (95, Outcome.DONE, 2), (100, None, 1)):
        began = T0 + timedelta(days=day)
        receipts = (Receipt(copy, outcome, sent=9), Receipt(gone, Outcome.DONE)) if outcome else ()
        plan = Plan("m", "image", began, (copy, gone) if outcome else ())
        ended = began + timedelta(seconds=seconds)
        await store.add_run(Run("m", "image", "start", began, ended, plan, receipts, read=10))
    before = [await store.runs("m"), await store.memory("m"), await store.standing("m")]
    days = list(await store.days("m"))
    await store.close()
    before_history(file)
    for _ in range(2):
        store = await open_store(file, T0)
        assert await store.days("m") == [
            replace(days[0], day=(T0 + timedelta(days=95)).date(), done=2, deleted=0),  # deletions were counted as done
            replace(days[1], day=(T0 + timedelta(days=100)).date()),
        ]
        standing = [
            replace(one, last=one.last and replace(one.last, sent=9 if one.target else 0))
            for one in await store.standing("m")
        ]
        assert [await store.runs("m"), await store.memory("m"), standing] == before
        assert await store.behind("m") == []
        await store.close()
    store = await open_store(file, T0)
    await store.add_run(
        Run("m", "image", "start", T0 + timedelta(days=100), T0 + timedelta(days=100), None, error="no")
    )
    assert (await store.days("m"))[-1].runs == 2
    await store.close()


async def test_a_worse_result_of_a_day_stays_at_the_migration(tmp_path: Path) -> None:
    """The worst result of the runs of a day is that of the day, as it is for days that were counted at once."""
    file = tmp_path / "mirrord.db"
    store = await open_store(file, T0)
    codes = {"": Result.NOOP, "interrupted": Result.INTERRUPTED, "throttled": Result.DEFERRED, "server": Result.FAILED}
    for mirror in range(len(codes)):
        for code in list(codes)[: mirror + 1]:
            plan = None if code else Plan(f"m{mirror}", "image", T0)
            await store.add_run(Run(f"m{mirror}", "image", "start", T0, T0, plan, error=code and "no", code=code))
    counted = [await store.days(f"m{mirror}") for mirror in range(len(codes))]
    worst = [Result.NOOP, Result.INTERRUPTED, Result.INTERRUPTED, Result.FAILED]
    assert [days[0].result for days in counted] == worst
    await store.close()
    before_history(file)
    store = await open_store(file, T0)
    assert [await store.days(f"m{mirror}") for mirror in range(len(codes))] == counted
    await store.close()


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    """When a later step of a migration fails, not even an earlier one was made, and the error names file and cause."""
    file = await made(tmp_path)
    age(file, "names")
    with closing(sqlite3.connect(file)) as link, link:
        link.execute("create table ledger (mine text)")
    before = schema(file)
    with pytest.raises(
        StorageError, match=r"mirrord\.db: migrating its tables from .* failed.* table ledger already exists"
    ):
        await open_store(file, T0)
    assert schema(file) == before
    assert not list(tmp_path.glob("*.corrupt-*"))


async def test_a_mistake_of_ours_is_no_error_of_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a migration does wrong in Python is raised as it is, so that somebody sees where; nothing was changed."""

    def wrong(_: str) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(migrations, "serial", wrong)
    with pytest.raises(KeyError, match="ours"):
        await open_store(tmp_path / "mirrord.db", T0)
    assert schema(tmp_path / "mirrord.db") == set()


def test_alembic_is_loaded_only_when_there_is_something_to_do(tmp_path: Path) -> None:
    """Opening a record that is up to date costs no import of the migration tool."""
    command = [sys.executable, "-c", OPENING, str(tmp_path / "a record?.db")]
    assert [subprocess.run(command, check=False).returncode for _ in range(2)] == [1, 0]
    assert (tmp_path / "a record?.db").exists()


def test_migrations_are_in_the_wheel() -> None:
    """They are modules of a package that the build finds by itself: a wheel lacks none of them."""
    assert migrations.__file__ is not None
    folder = Path(migrations.__file__).parent
    found = {file.name for file in folder.iterdir() if file.is_file()}
    assert found == {
        "__init__.py",
        "m0001_first.py",
        "m0002_facts_and_ledger.py",
        "m0003_items.py",
        "m0004_history.py",
        "m0005_failing_since.py",
        "m0006_first_attempt.py",
        "m0007_no_indexes.py",
        "m0008_until.py",
        "m0009_signatures_and_order.py",
        "m0010_asked.py",
        "m0011_fleet.py",
        "m0012_asked_until.py",
        "m0013_replica_configuration.py",
        "m0014_cancel.py",
        "m0015_run_replica.py",
        "m0016_cut_off.py",
        "m0017_ask_rates.py",
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["packages"]["find"]["include"] == ["mirrord*"]


async def test_indexes_of_charts_are_items_no_more(tmp_path: Path) -> None:
    """A record that counts and lists the index of each target has only charts after the migration."""
    file = tmp_path / "mirrord.db"
    store = await open_store(file, T0)
    steps = [
        Step(Action.COPY, item, digest, target, (), "")
        for target, item, digest in (("a", "app-1", "sha256:1"), ("a", "index", ""), ("b", "base-1", "sha256:2"))
    ]
    receipts = tuple(Receipt(step, Outcome.DONE) for step in steps)
    await store.add_run(Run("m", "helm", "start", T0, T0, Plan("m", "helm", T0, tuple(steps)), receipts))
    await store.close()
    before_signatures(file)
    with closing(sqlite3.connect(file)) as link, link:
        link.execute("ALTER TABLE standing DROP COLUMN until")
        link.execute("UPDATE alembic_version SET version_num = '0006'")
    store = await open_store(file, T0)
    assert set(await store.memory("m")) == {("a", "app-1"), ("b", "base-1")}
    assert {one.target: one.items for one in await store.standing("m")} == {"": 2, "a": 1, "b": 1}
    await store.close()


async def test_items_of_before_are_in_order_and_nothing_is_said_of_their_signatures(tmp_path: Path) -> None:
    """A record from before signatures were noted keeps its items, sorted by their numbers; what is unknown stays so."""
    file = tmp_path / "mirrord.db"
    store = await open_store(file, T0)
    names = ["v1", "v10", "v9", "odd\udc80"]
    steps = tuple(Step(Action.COPY, name, f"sha256:{name}", "a", (), "", signer="release.pub") for name in names)
    receipts = tuple(Receipt(step, Outcome.DONE, size=9, platforms=("linux/amd64",), referrers=2) for step in steps)
    await store.add_run(Run("m", "image", "start", T0, T0, Plan("m", "image", T0, steps), receipts))
    before, listed = await store.memory("m"), [row.item for row in await store.items("m")]
    assert {(seen.referrers, seen.signer) for seen in before.values()} == {(2, "release.pub")}
    await store.close()
    before_signatures(file)
    store = await open_store(file, T0)
    assert await store.memory("m") == {key: replace(seen, referrers=None, signer="") for key, seen in before.items()}
    assert [row.item for row in await store.items("m")] == listed == [listed[0], "v1", "v9", "v10"]
    assert [row.item for row in await store.items("m", 5, "v1")] == ["v9", "v10"]
    await store.close()


async def test_names_of_before_are_sorted_part_by_part(tmp_path: Path) -> None:
    """However many names a record has, the migration holds 10 000 of them at a time, and misses none."""
    file = tmp_path / "mirrord.db"
    await (await open_store(file, T0)).close()
    before_signatures(file)
    rows = [(mirror, target, f"v{number}") for mirror in "ab" for target in "st" for number in range(5001)]
    fill = "INSERT INTO known (mirror, target, item, digest, at, place) VALUES (?, ?, ?, 'x', 0, '')"
    with closing(sqlite3.connect(file)) as link, link:
        link.executemany(fill, rows)
    reads: list[str] = []

    def see(_: object, __: object, statement: str, *___: object) -> None:
        reads.extend([statement] if statement.startswith("SELECT mirror, target, item FROM known") else [])

    event.listen(Engine, "before_cursor_execute", see)
    try:
        await (await open_store(file, T0)).close()
    finally:
        event.remove(Engine, "before_cursor_execute", see)
    assert [" LIMIT " in one for one in reads] == [True] * 4  # two whole parts, the rest, and nothing
    with closing(sqlite3.connect(file)) as link:
        found = link.execute("SELECT item, sort FROM known").fetchall()
    assert sorted(found) == sorted((item, tables.sort_of(item)) for _, _, item in rows)
