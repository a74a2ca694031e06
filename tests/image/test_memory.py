"""What the record is believed for, and what it is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.model.plan import Action
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import build_image, push
from tests.support.world import World, by_target, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


@pytest.mark.parametrize("immutable", [[], ["v*"]])
async def test_another_address_is_another_place(world: World, immutable: list[str]) -> None:
    """When the operator gives a target another address, what was seen at the old one counts for nothing."""
    source, old, new = [await world.registry(name) for name in ("source", "old", "new")]
    image = build_image()
    await push(image, source, "team/app", ["v1"])
    origin = {"repository": f"{source.host}/team/app:v1"}
    for place in (old, new):
        run = await world.run(world.mirror(origin, places={"x": f"{place.host}/mirror"}, immutable=immutable))
        assert run.result is Result.SUCCESS
        assert place.tags["mirror/app"] == {"v1": image.digest}


async def test_another_origin_is_another_image(world: World) -> None:
    """An immutable tag of another source is looked at, however settled the old one was."""
    first, second, target = [await world.registry(name) for name in ("first", "second", "target")]
    for number, source in enumerate((first, second)):
        await push(build_image(seed=str(number)), source, "team/app", ["v1"])
    for source in (first, second):
        run = await world.run(
            world.mirror({"repository": f"{source.host}/team/app:v1"}, target, immutable=["v*"], trust=1e9)
        )
    assert run.plan is not None
    assert [step.action for step in run.plan.steps] == [Action.REFUSE]  # its content differs, and v1 never moves


async def test_one_image_is_published_under_every_name_asked_for(world: World) -> None:
    """The same digest may be promoted from branch to branch: each publication sets its own names."""
    source, target = await world.registry("source"), await world.registry("one")
    image = build_image()
    await push(image, source, "team/app", ["ci"])
    reference = f"{source.host}/team/app:ci"
    mirror = world.mirror({"repository": reference}, target, LOCAL)
    for names in (("dev-aaa", "dev"), ("main-aaa", "main"), ("main-bbb", "main")):
        assert (await world.publish(mirror, reference, *names)).result is Result.SUCCESS
    wanted = dict.fromkeys(("dev-aaa", "dev", "main-aaa", "main", "main-bbb"), str(image.digest))
    assert target.tags["mirror/app"] == world.local_tags() == wanted
    assert (await world.publish(mirror, reference, "main-bbb", "main")).result is Result.NOOP


async def test_branch_commit_tags_of_published_images_never_move(world: World) -> None:
    """A second image under a branch-commit tag is refused at every target, and the branch stays where it was."""
    source, target = await world.registry("source"), await world.registry("one")
    first, second = build_image(seed="a"), build_image(seed="b")
    reference = f"{source.host}/team/app:ci"
    mirror = world.mirror({"repository": reference}, target, LOCAL)
    await push(first, source, "team/app", ["ci"])
    await world.publish(mirror, reference, "main-aaa", "main")
    await push(second, source, "team/app", ["ci"])
    run = await world.publish(mirror, reference, "main-aaa", "main")
    assert run.result is Result.FAILED
    assert run.plan is not None
    assert {step.action for step in run.plan.steps} == {Action.REFUSE}
    assert target.tags["mirror/app"] == world.local_tags() == dict.fromkeys(("main-aaa", "main"), str(first.digest))


async def test_a_run_cut_short_remembers_who_was_served(world: World) -> None:
    """At the deadline one target was through: its receipt stands, the run is partial, the next one spares it."""
    source, done, slow = [await world.registry(name) for name in ("source", "done", "slow")]
    await push(build_image(), source, "team/app", ["v1"])
    slow.faults.on("PUT", "/blobs/uploads/", times=None).hold()
    origin = {"repository": f"{source.host}/team/app:v1"}
    run = await world.run(world.mirror(origin, done, slow, deadline=3.0))
    assert (run.result, run.code) == (Result.PARTIAL, "deadline")
    assert {name: receipt.outcome for name, receipt in by_target(run).items()} == {"done": Outcome.DONE}
    slow.faults.clear()
    world.wire.exchanges.clear()
    assert (await world.run(world.mirror(origin, done, slow))).result is Result.SUCCESS
    assert done.log == []


async def test_one_refusal_of_a_shared_layer_is_not_for_ever(world: World) -> None:
    """A layer that a target refused once is tried again for the next image of the same run."""
    source, target = await world.registry("source"), await world.registry("one")
    shared = build_image(layers=1)
    await push(shared, source, "team/app", ["v1", "v2"])
    target.faults.on("POST", "/blobs/uploads/", times=1).status(400)
    world.parallel = 1
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app", "tags": ["v1", "v2"]}, target))
    assert [receipt.outcome for receipt in run.receipts] == [Outcome.REFUSED, Outcome.DONE]
    assert target.tags["mirror/app"] == {"v2": shared.digest}
