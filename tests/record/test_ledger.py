"""What every store promises of facts and of the ledger, and what a run writes down in it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirrord.errors import RefusedError, StorageError
from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Run
from mirrord.record.ledger import RunLedger
from mirrord.record.store import FORGET, MOVES, Store, open_store
from tests.support.store import MemoryStore

T0 = datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC)
MAIN = LedgerEntry("m", "a", "main", "one.example/app", None, "sha256:1", T0, T0)


def run_ledger(store: Store, minute: int = 0) -> RunLedger:
    at = T0 + timedelta(minutes=minute)
    return RunLedger(store, "m", at, {"a": "one.example/app"}, lambda: at)


async def test_facts(store: Store) -> None:
    """Facts are found again as they were noted, each mirror's and each name's by itself, until they are replaced."""
    assert await store.recall("m", "helm") == {}
    await store.note("m", "helm", {"etag": '"x"', "\udcff": "é\n"})
    await store.note("m", "helm.items", {"app-1": ""})
    await store.note("n", "helm", {"a": "b"})
    assert await store.recall("m", "helm") == {"etag": '"x"', "\udcff": "é\n"}
    await store.note("m", "helm", {})
    assert await store.recall("m", "helm") == {}
    assert await store.recall("m", "helm.items") == {"app-1": ""}
    assert await store.recall("n", "helm") == {"a": "b"}


async def test_facts_that_are_noted_already_are_not_written(tmp_path: Path) -> None:
    """Noting the same once more changes no byte of the record."""
    store = await open_store(tmp_path / "mirrord.db", T0)
    await store.note("m", "helm", {"a": "b", "c": "d"})
    log = tmp_path / "mirrord.db-wal"
    before = log.read_bytes()
    await store.note("m", "helm", {"c": "d", "a": "b"})
    assert log.read_bytes() == before
    await store.close()


async def test_an_intent_is_open_until_it_is_settled(store: Store) -> None:
    """What is about to be moved is there at once; its outcome is written to it once, and never replaced."""
    other = replace(MAIN, name="dev", before="sha256:0", after=None)
    await store.intend([MAIN, other])
    assert await store.moves("m") == [other, MAIN]
    await store.settle([replace(MAIN, outcome=Settled.DONE)])
    await store.settle([replace(MAIN, outcome=Settled.OTHER)])
    assert await store.moves("m") == [other, replace(MAIN, outcome=Settled.DONE)]
    assert await store.moves("m", unsettled=True) == [other]
    assert await store.moves("n") == []
    assert await store.moves("m", name="nothing") == []
    assert await store.unsettled() == {"m"}
    await store.settle([replace(other, outcome=Settled.DONE)])
    assert await store.moves("m", unsettled=True) == []
    assert await store.unsettled() == set()


async def test_the_newest_move_of_each_name(store: Store) -> None:
    """It is that at the present place of a target, whatever came of it, unless it was undone; others do not count."""
    moved, elsewhere = replace(MAIN, after="sha256:2"), replace(MAIN, place="two.example/app", after="sha256:3")
    moved = replace(moved, run=T0 + timedelta(minutes=1))
    undone, opened = replace(moved, run=T0 + timedelta(minutes=2), after="sha256:4"), replace(MAIN, name="dev")
    await store.intend([MAIN, moved, undone, elsewhere, opened, replace(MAIN, mirror="n", name="other")])
    for entry in (MAIN, moved):
        await store.settle([replace(entry, outcome=Settled.DONE)])
    await store.settle([replace(undone, outcome=Settled.UNDONE)])
    found = await run_ledger(store).newest()
    assert found == {("a", "main"): replace(moved, outcome=Settled.DONE), ("a", "dev"): opened}
    assert len(await store.newest_moves("m")) == 3


async def test_what_came_to_a_target(store: Store) -> None:
    """All that names had there before and after moves of any mirror, and nothing of a move that was undone."""
    moved = replace(MAIN, run=T0 + timedelta(minutes=1), before="sha256:1", after="sha256:2")
    undone = replace(moved, run=T0 + timedelta(minutes=2), after="sha256:3")
    await store.intend([moved, undone, replace(moved, mirror="n", after=None, before="sha256:4")])
    await store.settle([replace(moved, outcome=Settled.DONE)])
    await store.settle([replace(undone, outcome=Settled.UNDONE)])
    assert await store.brought("a") == {"sha256:1", "sha256:2", "sha256:4"}
    assert await store.brought("b") == set()


async def test_outcomes_of_a_run_are_settled_with_it(tmp_path: Path) -> None:
    """After a run was added nothing of it is open, also for who opens the file next."""
    store = await open_store(tmp_path / "mirrord.db", T0)
    await store.intend([MAIN])
    await store.settle([replace(MAIN, outcome=Settled.DONE)])
    await store.add_run(Run("m", "image", "schedule", T0, T0))
    with closing(sqlite3.connect(tmp_path / "mirrord.db")) as link:
        assert link.execute("select outcome from ledger").fetchall() == [("done",)]
    await store.close()


async def test_the_newest_entry_of_a_name_stays(store: Store) -> None:
    """Of each name a number of entries is kept, the newest done one among them; other names lose nothing by that."""
    await store.intend([replace(MAIN, name="v1")])
    await store.settle([replace(MAIN, name="v1", outcome=Settled.DONE)])
    for minute in range(MOVES + 5):
        entry = replace(MAIN, run=T0 + timedelta(minutes=minute), after=f"sha256:{minute}")
        await store.intend([entry])
        await store.settle([replace(entry, outcome=Settled.DONE)])
    for minute in range(100, 103):
        entry = replace(MAIN, run=T0 + timedelta(minutes=minute), after="sha256:x")
        await store.intend([entry])
        await store.settle([replace(entry, outcome=Settled.UNDONE)])
    found = [one for one in await store.moves("m") if one.name == "main"]
    done = [one.after for one in found if one.outcome is Settled.DONE]
    assert done == [f"sha256:{minute}" for minute in range(MOVES + 4, 4, -1)]
    assert [one.outcome for one in await store.moves("m") if one.name == "v1"] == [Settled.DONE]


async def test_names_that_went_long_ago_are_forgotten(tmp_path: Path) -> None:
    """A deletion of more than a year ago goes with what was before it; what still stands for something stays."""
    store = await open_store(tmp_path / "mirrord.db", T0)
    gone = replace(MAIN, name="old", before="sha256:1", after=None, run=T0 + timedelta(minutes=1))
    for entry in (MAIN, replace(MAIN, name="old"), gone):
        await store.intend([entry])
        await store.settle([replace(entry, outcome=Settled.DONE)])
    late = T0 + FORGET
    await store.add_run(Run("m", "image", "schedule", late, late))
    assert {one.name for one in await store.moves("m")} == {"main", "old"}
    late += timedelta(days=1)
    await store.add_run(Run("m", "image", "schedule", late, late))
    assert {one.name for one in await store.moves("m")} == {"main"}
    await store.close()


async def test_what_is_intended_at_the_same_time_is_committed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred moves begun at once cost two commits, not a hundred: one that is under way, and one for all others."""
    store = await open_store(tmp_path / "mirrord.db", T0)
    commits: list[int] = []
    move = store._opened.move

    def counted(intents: Sequence[LedgerEntry], settled: Sequence[LedgerEntry], *, again: bool) -> None:
        commits.append(len(intents))
        move(intents, settled, again=again)

    monkeypatch.setattr(store._opened, "move", counted)
    await asyncio.gather(*(store.intend([replace(MAIN, name=f"v{number}")]) for number in range(100)))
    assert sum(commits) == 100
    assert len(commits) <= 2
    assert len(await store.moves("m", unsettled=True)) == 100
    await store.close()


async def test_a_move_is_done_when_its_context_ends(store: Store) -> None:
    """Names are open while they are moved; then they are done, but for what the mover says of some."""
    async with run_ledger(store).moving("a", {"main": (None, "sha256:1"), "dev": ("sha256:0", None)}) as outcomes:
        assert {one.outcome for one in await store.moves("m")} == {Settled.OPEN}
        outcomes["dev"] = Settled.UNDONE
    found = {one.name: one for one in await store.moves("m")}
    assert found["main"] == replace(MAIN, outcome=Settled.DONE)
    assert (found["dev"].before, found["dev"].after, found["dev"].outcome) == ("sha256:0", None, Settled.UNDONE)


async def test_a_move_that_fails_stays_open(store: Store) -> None:
    """Nobody knows what a failed request did: what was not settled before stays open until somebody looks."""
    names = {"main": (None, "sha256:1"), "dev": (None, "sha256:1")}

    async def move() -> None:
        async with run_ledger(store).moving("a", names) as outcomes:
            outcomes["main"] = Settled.DONE
            raise RefusedError("denied", 403)

    with pytest.raises(RefusedError):
        await move()
    assert [one.name for one in await store.moves("m", unsettled=True)] == ["dev"]


async def test_without_a_ledger_nothing_is_deleted() -> None:
    """When the record cannot be written names still move, and none is taken away."""
    store = MemoryStore()
    store.broken = "the disk is full"
    async with run_ledger(store).moving("a", {"main": (None, "sha256:1")}):
        pass
    with pytest.raises(StorageError, match="the disk is full"):
        async with run_ledger(store).moving("a", {"main": ("sha256:1", None)}):
            pytest.fail("it must not come to that")


async def test_the_history_of_one_name(store: Store) -> None:
    """Only moves of that name, of every target that a run was at, the newest first, a part at a time."""
    run = datetime(2026, 11, 21, 3, tzinfo=UTC)
    plan = Plan("m", "image", run, (Step(Action.KEEP, "v1", "d", "one", ("v1",), "there"),))
    await store.add_run(Run("m", "image", "command", run, run, plan))
    moves = [("v1", None, "a"), ("v2", None, "b"), ("v1", "a", "c")]
    for name, before, after in moves:
        await store.intend([LedgerEntry("m", "one", name, "p", before, after, run, run)])
    found = await store.moves("m", name="v1")
    assert [(one.before, one.after) for one in found] == [("a", "c"), (None, "a")]
    (last,) = await store.moves("m", name="v1", limit=1)
    assert [one.after for one in await store.moves("m", name="v1", before=last.id)] == ["a"]


async def test_what_was_settled_last_is_written_at_the_end(tmp_path: Path) -> None:
    """No later change is needed: moves that were settled stay settled when the process ends as it should."""
    store = await open_store(tmp_path / "mirrord.db", T0)
    await store.intend([MAIN])
    await store.settle([replace(MAIN, outcome=Settled.DONE)])
    await store.close()
    store = await open_store(tmp_path / "mirrord.db", T0)
    assert await store.moves("m", unsettled=True) == []
    await store.close()
