"""A list of 70 images with 10 tags each: what a run costs in requests, and that it leaves the event loop to others."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from mirrord.model.origin import ConfigOrigin
from mirrord.model.run import Result
from mirrord.record.store import open_store
from mirrord.syncer.values import LOCAL
from mirrord.testing import build_image, push
from tests.support.turns import Turns, listen
from tests.support.world import World

APPS, TAGS = 70, 10


@pytest.mark.parametrize("place", [LOCAL, "registry"])
async def test_no_turn_of_the_loop_passes_over_all_tags(world: World, place: str) -> None:
    """First run and nothing new: no function is called for half of the tags in one turn; then one HEAD a tag."""
    sources = [await world.registry("one"), await world.registry("two")]
    target = await world.registry("target")
    world.parallel = 8
    store = await open_store(world.folder / "record.db", world.now)
    world.store = store  # type: ignore[assignment]  # for real
    world.services = replace(world.services, facts=store)
    lines = []
    for app in range(APPS):
        source = sources[app % 2]
        for tag in range(TAGS):
            text = {"image": f"{app}:{tag}"}
            image = build_image(["linux/amd64"], index=False, layers=1, shared_layers=1, annotations=text)
            await push(image, source, f"app{app}", [f"v{tag}"])
            lines.append(f"{source.host}/app{app}:v{tag}\n")
    (world.folder / "images.txt").write_text("".join(lines))
    mirror = world.mirror({"list": "images.txt"}, LOCAL if place == LOCAL else target, deadline=600.0)
    mirror = replace(mirror, origin=ConfigOrigin(str(world.folder / "all.yaml"), 1))
    listen(world.services.events, mirror)
    turns: dict[str, Turns] = {}
    for case, result in (("first", Result.SUCCESS), ("nothing new", Result.NOOP)):
        world.wire.exchanges.clear()
        turns[case] = Turns()
        with turns[case].counted():
            assert (await world.run(mirror)).result is result
        world.later(hours=1)
    asked = Counter((one.server, one.method) for one in world.wire.exchanges)
    assert asked == {("one", "HEAD"): APPS * TAGS / 2, ("two", "HEAD"): APPS * TAGS / 2}
    assert max(one.again for one in turns.values()) < APPS * TAGS / 2, turns
    standing = {one.target: one.items for one in await store.standing()}
    assert standing[""] == APPS * TAGS
    await store.close()
