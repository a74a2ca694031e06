"""What was taken down is not mirrored: by name, by digest under any name, as part of a list, with its platforms cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mirrord.model.digest import Digest
from mirrord.model.plan import Plan
from mirrord.model.run import Result
from mirrord.names.denied import Denied, DeniedEntry
from mirrord.syncer.values import LOCAL
from mirrord.testing import Registry, build_image, push
from tests.support.layouts import write_layout
from tests.support.world import World

ONE, OTHER = build_image(seed="one"), build_image(seed="other")
REASON = "ticket 4711"


def deny(world: World, image: str = "", *digests: Digest, mirror: str = "") -> None:
    """Put one entry into the world."""
    world.services = replace(world.services, denied=Denied([DeniedEntry(1, REASON, image, digests, mirror)]))


async def filled(world: World) -> Registry:
    source = await world.registry("source")
    await push(ONE, source, "team/app", ["v1", "same"])
    await push(OTHER, source, "team/app", ["v2"])
    return source


def items(plan: Plan) -> set[str]:
    return {step.item for step in plan.steps}


async def test_a_name(world: World) -> None:
    """A denied tag is left out with its reason, and the others are mirrored: that is a success."""
    source = await filled(world)
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["v1", "v2"]}, LOCAL)
    deny(world, f"{source.host}/team/app:v1")
    run = await world.run(mirror)
    assert run.plan
    assert (run.result, items(run.plan)) == (Result.SUCCESS, {"v2"})
    assert run.remarks == (f"v1: taken down, so not mirrored: {REASON}",)
    assert world.local_tags() == {"v2": OTHER.digest}


async def test_a_digest_under_any_name(world: World) -> None:
    """Another tag does not bring it back, nor does another repository."""
    source = await filled(world)
    deny(world, "", ONE.digest)
    plan = await world.plan(world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, LOCAL))
    assert items(plan) == {"v2"}
    assert plan.remarks == (f"same, v1: taken down, so not mirrored: {REASON}",)


async def test_a_tag_that_moved_away_from_it(world: World) -> None:
    """A moving name is mirrored again when it names another image."""
    source = await filled(world)
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, LOCAL)
    deny(world, "", ONE.digest)
    assert not items(await world.plan(mirror))
    await push(OTHER, source, "team/app", ["v1"])
    assert items(await world.plan(mirror)) == {"v1"}


async def test_a_whole_repository(world: World) -> None:
    """Nobody asks the source, which may be gone; of a list the other repositories are mirrored."""
    source = await filled(world)
    await push(OTHER, source, "team/more", ["v1"])
    deny(world, f"{source.host}/team/app")
    plan = await world.plan(world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, LOCAL))
    assert (plan.steps, plan.error, plan.missing) == ((), "", ())
    assert plan.remarks == (f"{source.host}/team/app: taken down, so not mirrored: {REASON}",)
    listing = world.folder / "images.txt"
    listing.write_text(f"{source.host}/team/app:v2\n{source.host}/team/more:v1\n")
    asked = len(world.wire.exchanges)
    plan = await world.plan(world.mirror({"list": str(listing)}, LOCAL))
    assert items(plan) == {f"{source.host}/team/more:v1"}
    assert not any("team/app" in one.path for one in world.wire.exchanges[asked:])


async def test_some_platforms_of_it(world: World) -> None:
    """A subset is another digest; what counts is the image of the source that it is made of."""
    source = await filled(world)
    tags = {"repository": f"{source.host}/team/app", "tags": ["v1", "v2"]}
    mirror = world.mirror(tags, LOCAL, platforms=["linux/amd64"])
    deny(world, "", ONE.digest)
    assert items(await world.plan(mirror)) == {"v2"}


async def test_a_mirror(world: World) -> None:
    """Nothing of a mirror that was taken down is planned or run; no request is made."""
    source = await filled(world)
    deny(world, mirror="app")
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, LOCAL)
    asked = len(world.wire.exchanges)
    plan, run = await world.plan(mirror), await world.run(mirror)
    said = f"app: taken down, so nothing of it is mirrored: {REASON}"
    assert (plan.code, plan.error, run.code, run.error) == ("taken_down", said, "taken_down", said)
    assert len(world.wire.exchanges) == asked


@pytest.mark.parametrize("how", ["digest", "name at the target", "repository at the target"])
async def test_a_publish(world: World, tmp_path: Path, how: str) -> None:
    """A build that was taken down is refused when it is published again, also by what it is called at a target."""
    target = await world.registry("one")
    write_layout(ONE, tmp_path / "build")
    mirror = world.mirror({"layouts": str(tmp_path / "none")}, target)
    place = f"{target.host}/mirror/app"
    image = {"digest": "", "name at the target": f"{place}:main-1234567", "repository at the target": place}[how]
    deny(world, image, *([ONE.digest] if how == "digest" else []))
    run = await world.publish(mirror, f"oci:{tmp_path}/build", "main-1234567", "main")
    assert (run.result, run.code, REASON in run.error) == (Result.FAILED, "taken_down", True)
    assert not target.tags.get("mirror/app")
