"""What the record asks of its database: as many statements for a large run as for a small one, or among many others."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.record.sql_store import SqlStore
from mirrord.record.sqlite import SqliteFile
from mirrord.record.store import open_store

T0 = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)


@dataclass
class Statements:
    """The statements that were executed: their text, their parameters, and for how many rows at once."""

    found: list[tuple[str, Any, int]] = field(default_factory=list)

    def hear(self, _: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        if not statement.startswith("BEGIN"):
            self.found.append((statement, parameters, len(parameters) if many else 1))

    def about(self, start: str) -> list[int]:
        """Return for how many rows each of those was that begin so."""
        return [rows for statement, _, rows in self.found if statement.startswith(start)]


def engine_of(store: SqlStore) -> Engine:
    database = store._opened.database
    assert isinstance(database, SqliteFile)
    assert database.engine is not None
    return database.engine


@contextmanager
def heard(store: SqlStore) -> Iterator[Statements]:
    statements = Statements()
    engine = engine_of(store)
    event.listen(engine, "before_cursor_execute", statements.hear)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", statements.hear)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    made = await open_store(tmp_path / "mirrord.db", T0)
    yield made
    await made.close()


def run(items: int, mirror: str = "m", action: Action = Action.COPY) -> Run:
    """Return a run over so many items and three targets."""
    steps = tuple(
        Step(action, f"v{item}", f"sha256:{item}", target, (), "") for item in range(items) for target in "abc"
    )
    receipts = tuple(Receipt(step, Outcome.DONE) for step in steps)
    return Run(mirror, "image", "schedule", T0, T0, Plan(mirror, "image", T0, steps), receipts)


async def test_a_large_run_takes_as_many_statements_as_a_small_one(store: SqlStore) -> None:
    """What a run taught is written at once, and what it took away is taken away at once."""
    for action, start in ((Action.COPY, "INSERT INTO known"), (Action.DELETE, "DELETE FROM known")):
        counts = []
        for items in (2, 500):
            with heard(store) as statements:
                await store.add_run(run(items, action=action))
            assert statements.about(start) == [3 * items]
            counts.append(len(statements.found))
        assert counts[0] == counts[1]
    assert await store.memory("m") == {}


async def test_one_mirror_is_asked_for_by_its_name(store: SqlStore) -> None:
    """The standing of a mirror after its run reads no row of another one, however many there are."""
    for number in range(20):
        await store.add_run(run(2, f"m{number}"))
    with heard(store) as statements:
        found = await store.standing("m7")
    assert {parameters for _, parameters, _ in statements.found} == {("m7",), ("verified", "m7")}
    assert len(statements.found) == 4  # three of what stands where, one of what was verified
    assert found == [entry for entry in await store.standing() if entry.mirror == "m7"]
    assert [(entry.target, entry.items) for entry in found] == [("", 2), ("a", 2), ("b", 2), ("c", 2)]


async def test_a_run_costs_the_same_among_many_mirrors(store: SqlStore) -> None:
    """A run without anything to do takes as many statements beside twenty other mirrors as alone."""
    counts = []
    for mirror in range(20):
        with heard(store) as statements:
            await store.add_run(run(2, f"m{mirror}", Action.KEEP))
        counts.append(len(statements.found))
    assert len(set(counts)) == 1


async def test_pages_of_the_record_use_indexes(store: SqlStore) -> None:
    """No page walks through a table: rows are found by an index, in its order, also far behind the first page."""
    for number in range(3):
        await store.add_run(run(20, f"m{number}"))
    failing = run(5)
    await store.add_run(replace(failing, receipts=(Receipt(failing.receipts[0].step, Outcome.FAILED),)))
    with heard(store) as statements:
        assert len(await store.runs("m1", 5, 9)) == 1
        assert len(await store.days("m1")) == 1
        assert len(await store.behind("m", 5)) == 5
        assert [one.item for one in await store.items("m1", 2, "v1", "0")] == ["v10"]
        assert await store.moves("m1", limit=5, before=9) == []
        assert await store.moves("m1", unsettled=True, limit=5) == []
    assert len(statements.found) == 11
    used = []
    for statement, parameters, _ in statements.found:
        with engine_of(store).connect() as link:
            plan = [row[3] for row in link.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        used.append(re.sub(r"SEARCH \w+ USING (COVERING )?INDEX (sqlite_autoindex_)?", "", "; ".join(plan)))
    assert used == [
        "runs_by_mirror (mirror=? AND id<?)",
        "run_targets_1 (run=?)",
        "days_1 (mirror=?)",
        "behind_by_age (mirror=?)",
        "standing_1 (mirror=?)",
        *["known_by_name (mirror=? AND target=? AND sort>?); USE TEMP B-TREE FOR RIGHT PART OF ORDER BY"] * 3,
        "known_1 (mirror=? AND target=? AND item=?)",
        "ledger_by_mirror (mirror=? AND id<?)",
        "ledger_open (mirror=?)",
    ]


async def test_items_are_read_as_far_as_the_page_goes(store: SqlStore) -> None:
    """A page of a mirror takes a query for each target and one for the page, however many items there are."""
    counts = []
    for items in (10, 500):
        await store.add_run(run(items))
        with heard(store) as statements:
            assert len(await store.items("m", 5)) == 5
        counts.append(len(statements.found))
    assert counts == [5, 5]


async def test_days_are_read_once_until_the_next_run(store: SqlStore) -> None:
    """An open page asks again and again: the days of a mirror are read after its runs alone, and few are kept."""
    for mirror in ("m", "other"):
        await store.add_run(run(1, mirror))
    with heard(store) as statements:
        assert [[day.runs for day in await store.days("m")] for _ in range(3)] == [[1]] * 3
    assert len(statements.about("SELECT")) == 1
    await store.add_run(run(1))
    with heard(store) as statements:
        assert [day.runs for day in await store.days("m")] == [2]
        for number in range(100):
            await store.days(f"n{number}")
        await store.days("n99")
        await store.days("m")
    assert len(statements.about("SELECT")) == 1 + 100 + 1
