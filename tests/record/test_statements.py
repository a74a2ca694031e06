"""What the record asks of its database: as many statements for a large run as for a small one, or among many others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.record.sqlite import SqliteStore

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


@contextmanager
def heard(store: SqliteStore) -> Iterator[Statements]:
    statements = Statements()
    engine = store._opened._engine
    event.listen(engine, "before_cursor_execute", statements.hear)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", statements.hear)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = await SqliteStore.open(tmp_path / "mirrord.db", T0)
    yield made
    await made.close()


def run(items: int, mirror: str = "m", action: Action = Action.COPY) -> Run:
    """Return a run over so many items and three targets."""
    steps = tuple(
        Step(action, f"v{item}", f"sha256:{item}", target, (), "") for item in range(items) for target in "abc"
    )
    receipts = tuple(Receipt(step, Outcome.DONE) for step in steps)
    return Run(mirror, "image", "schedule", T0, T0, Plan(mirror, "image", T0, steps), receipts)


async def test_a_large_run_takes_as_many_statements_as_a_small_one(store: SqliteStore) -> None:
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


async def test_one_mirror_is_asked_for_by_its_name(store: SqliteStore) -> None:
    """The standing of a mirror after its run reads no row of another one, however many there are."""
    for number in range(20):
        await store.add_run(run(2, f"m{number}"))
    with heard(store) as statements:
        found = await store.standing("m7")
    assert {parameters for _, parameters, _ in statements.found} == {("m7",)}
    assert len(statements.found) == 5
    assert found == [entry for entry in await store.standing() if entry.mirror == "m7"]
    assert [(entry.target, entry.items) for entry in found] == [("", 2), ("a", 2), ("b", 2), ("c", 2)]


async def test_a_run_costs_the_same_among_many_mirrors(store: SqliteStore) -> None:
    """A run without anything to do takes as many statements beside twenty other mirrors as alone."""
    counts = []
    for mirror in range(20):
        with heard(store) as statements:
            await store.add_run(run(2, f"m{mirror}", Action.KEEP))
        counts.append(len(statements.found))
    assert len(set(counts)) == 1
