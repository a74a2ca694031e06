"""What a record remembers of names: which build each stands for at a target, and who put it there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mirrord.model.history import ItemRow
from mirrord.model.memory import LastSeen, Memory, NamedBuild
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.pipeline import believable, of_source
from mirrord.record.store import Store, open_store
from tests.support.store import age

T0 = datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC)
END = T0 + timedelta(seconds=9)
AT = {"a": "/builds > one.example/app"}
STAYS = NamedBuild("main-c1", "sha256:1", T0, stays=True, beside="main")
MOVES = NamedBuild("main", "sha256:1", T0, False, "main-c1", T0 - timedelta(days=2), T0 - timedelta(days=1), 7, T0)


def step(*named: NamedBuild, action: Action = Action.COPY, confirmed: bool = False) -> Step:
    names = tuple(one.name for one in named)
    return Step(action, names[0], "sha256:1", "a", names, "because", named=named, confirmed=confirmed)


def ran(*receipts: Receipt, steps: tuple[Step, ...] = ()) -> Run:
    plan = Plan("m", "image", T0, (*(receipt.step for receipt in receipts), *steps))
    return Run("m", "image", "publish", T0, END, plan, receipts, places=AT)


async def test_good_receipts_teach_names(store: Store) -> None:
    """Names of a good receipt are remembered whole, with place and time; those of a failed one are not."""
    await store.add_run(ran(Receipt(step(STAYS, MOVES), Outcome.DONE)))
    await store.add_run(ran(Receipt(step(replace(MOVES, name="dev")), Outcome.FAILED)))
    names = (await store.memory("m")).names
    assert names == {("a", one.name): replace(one, at=END, place="/builds > one.example/app") for one in (STAYS, MOVES)}
    assert (await store.memory("other")).names == {}


async def test_a_name_that_was_left_alone_teaches_nothing(store: Store) -> None:
    """A receipt that says that `main` stays where it is does not change what is known of `main`."""
    await store.add_run(ran(Receipt(step(MOVES), Outcome.DONE)))
    other = step(replace(STAYS, name="main-c2"), replace(MOVES, digest="sha256:2"))
    await store.add_run(ran(Receipt(other, Outcome.DONE, left=("main",))))
    names = (await store.memory("m")).names
    assert names["a", "main"].digest == "sha256:1"
    assert ("a", "main-c2") in names


async def test_the_moving_name_of_a_build_is_an_item_too(store: Store) -> None:
    """After a publish both its names are items of each target that it reached, with the same content and size."""
    there = replace(step(STAYS, MOVES), target="b")
    good = Receipt(step(STAYS, MOVES), Outcome.DONE, size=9, platforms=("linux/arm64",))
    await store.add_run(ran(good, Receipt(there, Outcome.FAILED)))
    seen = LastSeen("sha256:1", END, AT["a"], 9, ("linux/arm64",))
    assert await store.items("m") == [ItemRow("main", {"a": seen}), ItemRow("main-c1", {"a": seen})]
    assert {one.target: one.items for one in await store.standing("m")} == {"": 2, "a": 2, "b": 0}
    assert [row.item for row in await store.items("m", 1)] == ["main"]
    assert [row.item for row in await store.items("m", 1, after="main")] == ["main-c1"]


async def test_the_next_publish_moves_the_item(store: Store) -> None:
    """A second build is one more item, and `main` is its content now; where it was left alone it is as before."""
    await store.add_run(ran(Receipt(step(STAYS, MOVES), Outcome.DONE, size=9)))
    second = replace(step(replace(STAYS, name="main-c2"), replace(MOVES, digest="sha256:2")), digest="sha256:2")
    await store.add_run(ran(Receipt(second, Outcome.DONE, size=4, left=("main",))))
    assert (await store.memory("m"))["a", "main"].digest == "sha256:1"
    await store.add_run(ran(Receipt(second, Outcome.DONE, size=4)))
    found = {row.item: (row.at["a"].digest, row.at["a"].size) for row in await store.items("m")}
    assert found == {"main": ("sha256:2", 4), "main-c1": ("sha256:1", 9), "main-c2": ("sha256:2", 4)}
    assert {one.target: (one.items, one.size) for one in await store.standing("m")} == {"": (3, 13), "a": (3, 13)}


async def test_only_confirmed_names_get_younger(store: Store) -> None:
    """A step that keeps teaches names when the target itself confirmed them, as of the time of the plan."""
    await store.add_run(ran(steps=(step(STAYS, action=Action.KEEP),)))
    assert (await store.memory("m")).names == {}
    await store.add_run(ran(steps=(step(STAYS, action=Action.KEEP, confirmed=True),)))
    assert (await store.memory("m")).names["a", "main-c1"].at == T0


async def test_publishes_are_numbered(store: Store) -> None:
    """Each publish to a mirror gets a number above all before it; mirrors count for themselves."""
    assert [await store.accept("m") for _ in range(3)] == [1, 2, 3]
    assert await store.accept("n") == 1


async def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    """A record that is opened again counts on; so do the next commands on the same state."""
    for number in (1, 2):
        store = await open_store(tmp_path / "mirrord.db", T0)
        assert await store.accept("m") == number
        await store.close()


async def test_a_record_without_names_is_taken_as_it_is(tmp_path: Path) -> None:
    """A state directory of a mirrord that remembered no names opens, keeps all it had, and learns names."""
    file = tmp_path / "mirrord.db"
    store = await open_store(file, T0)
    await store.add_run(ran(Receipt(step(STAYS), Outcome.DONE)))
    known = dict(await store.memory("m"))
    await store.close()
    age(file, "names", "publishes")
    store = await open_store(file, T0)
    assert await store.memory("m") == known
    assert (await store.memory("m")).names == {}
    await store.add_run(ran(Receipt(step(STAYS), Outcome.DONE)))
    assert ("a", "main-c1") in (await store.memory("m")).names
    assert await store.accept("m") == 1
    await store.close()


def test_a_plan_does_not_take_the_name_of_a_build_for_a_tag_of_the_source() -> None:
    """What `main` is by a publish says nothing of `main` at the source; once the source has set it again, it does."""
    seen = LastSeen("sha256:1", T0)
    known = {("a", "main-c1"): seen, ("a", "main"): seen, ("b", "main"): seen, ("a", "v1"): seen}
    names = {("a", "main-c1"): STAYS, ("a", "main"): MOVES, ("b", "main"): replace(MOVES, beside="")}
    planned = of_source(Memory(known, names))
    assert dict(planned) == {key: seen for key in known if key != ("a", "main")}
    assert planned.names == names


def test_a_name_is_a_fact_of_its_target() -> None:
    """When `from:` changes, what is known of names stays; when the target's address changes, it goes."""
    names = {("a", "main"): replace(MOVES, place=AT["a"])}
    memory = Memory({}, names)
    assert believable(memory, {"a": "/elsewhere > one.example/app"}).names == names
    assert believable(memory, {"a": "/builds > two.example/app"}).names == {}
    assert believable(memory, {}).names == {}
