"""What runs over images write down of the names they move, and how what was left open is settled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord import failpoints
from mirrord.errors import StorageError
from mirrord.model.ledger import Settled
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import Registry, build_image, push
from tests.support.world import World, open_world

OLD, NEW, OTHER = (build_image(layer_size=1000, layers=1, seed=seed) for seed in ("old", "new", "other"))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


async def entries(world: World) -> list[tuple[str, str, str | None, str | None, Settled]]:
    """Return target, name, before, after and outcome of all entries, the oldest first."""
    found = reversed(await world.store.moves("app"))
    return [(one.target, one.name, one.before, one.after, one.outcome) for one in found]


async def test_each_name_that_moves_is_written_down(world: World) -> None:
    """Of each tag that is set at each target there is what it stood for and what it stands for; of others nothing."""
    source, one = await world.registry("source"), await world.registry("one")
    await push(OLD, source, "team/app", ["main", "v1"])
    await push(OLD, one, "mirror/app", ["v1"])
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, one, LOCAL)
    await world.run(mirror)
    old, new = OLD.digest, NEW.digest
    first = {("local", "main", None, old), ("local", "v1", None, old), ("one", "main", None, old)}
    assert {entry[:4] for entry in await entries(world)} == first
    assert {entry[4] for entry in await entries(world)} == {Settled.DONE}
    await push(NEW, source, "team/app", ["main"])
    world.later(days=1)
    await world.run(mirror)
    assert {entry[:4] for entry in await entries(world)} - first == {
        ("local", "main", old, new),
        ("one", "main", old, new),
    }
    assert {one.place for one in await world.store.moves("app") if one.target == "one"} == {f"{one.host}/mirror/app"}
    before = await entries(world)
    world.later(days=1)
    assert (await world.run(mirror)).result is Result.NOOP
    assert await entries(world) == before


@pytest.mark.parametrize(("there", "outcome"), [(OLD, Settled.UNDONE), (NEW, Settled.DONE), (OTHER, Settled.OTHER)])
async def test_what_a_failure_left_open_is_looked_at(world: World, there: object, outcome: Settled) -> None:
    """The next run asks the target what an open name stands for, by one HEAD, and writes that down; then it goes on."""
    source, one = await world.registry("source"), await world.registry("one")
    await push(NEW, source, "team/app", ["main"])
    await push(OLD, one, "mirror/app", ["main"])
    mirror = world.mirror({"repository": f"{source.host}/team/app:main"}, one)
    one.faults.on("PUT", "/manifests/main", times=None).status(403)
    assert (await world.run(mirror)).result is Result.FAILED
    assert await entries(world) == [("one", "main", OLD.digest, NEW.digest, Settled.OPEN)]
    one.faults.clear()
    assert there in (OLD, NEW, OTHER)
    await push(there, one, "mirror/app", ["main"])
    world.later(days=1)
    await world.run(mirror)
    assert (await entries(world))[0][4] is outcome
    assert one.content.tags["mirror/app"]["main"] == NEW.digest
    assert not await world.store.moves("app", unsettled=True)


async def test_a_target_that_is_away_stays_open(world: World) -> None:
    """What cannot be seen now is looked at by the run that can see it; what lies elsewhere by now is given up."""
    source, one, two = [await world.registry(name) for name in ("source", "one", "two")]
    await push(NEW, source, "team/app", ["main"])
    mirror = world.mirror({"repository": f"{source.host}/team/app:main"}, one)
    one.faults.on("PUT", "/manifests/main", times=None).status(403)
    await world.run(mirror)
    one.faults.on("*", "", times=None).status(503)
    world.later(days=1)
    await world.run(mirror)
    assert [entry[4] for entry in await entries(world)] == [Settled.OPEN]
    moved = world.mirror({"repository": f"{source.host}/team/app:main"}, places={"one": f"{two.host}/elsewhere"})
    await world.run(moved)
    assert [entry[4] for entry in await entries(world)] == [Settled.OTHER, Settled.DONE]


async def test_a_record_that_cannot_be_written_stops_no_tag(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moving a tag needs no ledger: what is in none is nothing that would ever be taken away."""
    source, one = await world.registry("source"), await world.registry("one")
    await push(NEW, source, "team/app", ["main"])

    async def full(_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(world.store, "intend", full)
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, one))
    assert run.result is Result.SUCCESS
    assert await entries(world) == []


async def test_nothing_moves_before_it_is_written_down(world: World) -> None:
    """At the moment in which an intent is durable no tag of it is set yet."""
    source, one = await world.registry("source"), await world.registry("one")
    await push(NEW, source, "team/app", ["main"])
    seen: list[bool] = []
    failpoints.arm("ledger.intended", lambda: seen.append("main" in one.content.tags.get("mirror/app", {})))
    try:
        await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, one))
    finally:
        failpoints.disarm()
    assert seen == [False]
    assert isinstance(one, Registry)
    assert "main" in one.content.tags["mirror/app"]
