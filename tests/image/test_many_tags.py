"""Hundreds of tags are worked on beside the event loop: no turn of it passes over all of them."""

from __future__ import annotations

import pytest

from mirrord.model.run import Result
from mirrord.record.store import open_store
from mirrord.syncer.values import LOCAL
from mirrord.testing import Registry, build_image, push
from tests.support.turns import Turns, listen
from tests.support.world import World

TAGS = 640
PAGE = 80  # tags that the source lists at once


@pytest.mark.parametrize("place", [LOCAL, "registry"])
async def test_no_turn_of_the_loop_passes_over_all_tags(world: World, place: str) -> None:
    """First run, nothing new and one new tag: no function is called for half of the tags in one turn."""
    source, target = await world.registry("source", page_size=PAGE), await world.registry("target")
    world.parallel = 8
    world.store = await open_store(world.folder / "record.db", world.now)  # type: ignore[assignment]  # for real
    for number in range(TAGS):
        await _push(source, number)
    mirror = world.mirror(
        {"repository": f"{source.host}/team/app", "tags": ["*"]},
        LOCAL if place == LOCAL else target,
        name="app",
        deadline=600.0,
    )
    listen(world.services.events, mirror)
    turns = {}
    for case, result in (("first", Result.SUCCESS), ("nothing new", Result.NOOP), ("one new", Result.SUCCESS)):
        if case == "one new":
            await _push(source, TAGS)
        turns[case] = Turns()
        with turns[case].counted():
            assert (await world.run(mirror)).result is result
        world.later(hours=1)
    await world.store.close()
    assert max(one.again for one in turns.values()) < TAGS / 2, turns
    assert (world.local_tags() if place == LOCAL else target.tags["mirror/app"]) == source.tags["team/app"]


async def _push(source: Registry, number: int) -> None:
    """Push an image of its own with layers of all: what is counted is work for each tag."""
    image = build_image(["linux/amd64"], index=False, layers=1, shared_layers=1, annotations={"number": str(number)})
    await push(image, source, "team/app", [f"v{number}"])
