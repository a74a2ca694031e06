"""A name that stands for the content already is not set again: registries whose tags never move refuse even that."""

from __future__ import annotations

import pytest

from mirrord.model.run import Outcome, Result
from mirrord.testing import Image, Immutable, Registry, build_image, push
from mirrord.testing.ports import free_port
from tests.support.layouts import write_layout
from tests.support.world import World, by_target

PLACE = "mirror/app"
ONE = ["linux/amd64"]


def frozen(pattern: str = ".*") -> Immutable:
    """Refuse what Harbor and ECR refuse: a tag that exists, whatever it is set to."""
    return Immutable(pattern, status=412, same=True)


def build(world: World, *names: str) -> tuple[Image, dict[str, object]]:
    image = build_image(ONE, seed=names[0])
    return image, {"layout": write_layout(image, world.folder / names[0]), "names": list(names)}


def puts(target: Registry) -> list[str]:
    """Return the tags that were put, in order, and forget them."""
    found = [one.path.rpartition("/")[2] for one in target.select("PUT", "/manifests/")]
    target.forget()
    return [tag for tag in found if not tag.startswith("sha256:")]


async def test_the_moving_name_is_set_where_the_other_one_stands_and_may_not_be_put_again(world: World) -> None:
    """A2: `main-*` is immutable at the registry, PUT of `main` fails once: the next run sets `main` alone."""
    image, source = build(world, "main-bbbbbbb", "main")
    target = await world.registry("one", immutable_tags=frozen("main-.*"))
    failing = target.faults.on("PUT", "/manifests/main$", times=None).status(503)
    mirror = world.mirror(source, target, trust=0.0)
    assert (await world.run(mirror)).result is Result.FAILED
    assert failing.hits > 0
    target.faults.clear()
    puts(target)
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert puts(target) == ["main"]
    assert target.tags == {PLACE: {"main-bbbbbbb": image.digest, "main": image.digest}}


@pytest.mark.parametrize("lost", ["v1", "latest"])
async def test_only_the_missing_one_of_several_names_is_set(world: World, lost: str) -> None:
    """A2: of `names: [v1, latest]` one is missing: only that one is put, each tag once in its life."""
    image, source = build(world, "v1", "latest")
    target = await world.registry("one", immutable_tags=frozen())
    await push(image, target, PLACE, {"v1", "latest"} - {lost})
    assert (await world.run(world.mirror(source, target))).result is Result.SUCCESS
    assert puts(target) == [lost]
    assert target.tags == {PLACE: {"v1": image.digest, "latest": image.digest}}


async def test_an_immutable_item_gets_the_name_that_it_lacks(world: World) -> None:
    """A2: a tag that `immutable:` names has two names at the target and one is missing: only that one is put."""
    image, source = build_image(ONE), await world.registry("source")
    await push(image, source, "team/app", ["v1"])
    target = await world.registry("one", immutable_tags=frozen())
    await push(image, target, PLACE, ["one"])
    keys = {"repository": f"{source.host}/team/app:v1", "names": ["one", "two"]}
    assert (await world.run(world.mirror(keys, target, immutable=["v*"]))).result is Result.SUCCESS
    assert puts(target) == ["two"]
    assert target.tags == {PLACE: {"one": image.digest, "two": image.digest}}


async def test_a_tag_set_by_somebody_else_meanwhile_is_fine(world: World) -> None:
    """A2: between plan and publishing somebody else set the tag to the same content: nothing is put, all is well."""
    image, source = build_image(ONE), await world.registry("source")
    await push(image, source, "team/app", ["v1"])
    target = await world.registry("one", immutable_tags=frozen())

    def meanwhile() -> None:
        target.content.put_manifest(PLACE, image.media_type, image.body, "v1")

    target.faults.on("PUT", "/blobs/uploads/", times=1).do(meanwhile)
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:v1"}, target))
    assert (run.result, puts(target)) == (Result.SUCCESS, [])


async def test_a_target_that_could_not_be_asked_is_asked_again(world: World) -> None:
    """A2: a look at the target failed for a moment; when it comes to publishing, what stands there is not put again."""
    image, source = build(world, "main-c1", "main")
    target = await world.registry("one", immutable_tags=frozen())
    await push(image, target, PLACE, ["main-c1", "main"])
    target.faults.on("HEAD", "/manifests/main", times=None).status(502)
    target.faults.on("HEAD", "/manifests/sha256").do(target.faults.clear)  # the first request after the looking
    run = await world.run(world.mirror(source, target))
    assert run.plan is not None
    assert [step.reason.partition(":")[0] for step in run.plan.steps] == ["the target cannot be read"]
    assert (run.result, puts(target)) == (Result.SUCCESS, [])


@pytest.mark.parametrize(("names", "outcome"), [(("v1", "main"), Outcome.REFUSED), (("main",), Outcome.DONE)])
async def test_a_registry_that_does_not_speak_of_a_name(world: World, names: tuple[str, ...], outcome: Outcome) -> None:
    """What a name is there is kept secret: one that moves is set, one that never moves is refused with the reason."""
    _, source = build(world, *names)
    target = await world.registry("one")
    target.faults.on("HEAD|GET", f"/manifests/{names[0]}$", times=None).status(403)
    dead = {"dead": f"127.0.0.1:{free_port()}/x"}
    run = await world.run(world.mirror(source, target, places=dead))
    receipt = by_target(run)["one"]
    assert receipt.outcome is outcome, receipt
    assert ("cannot be read" in receipt.detail) is (outcome is Outcome.REFUSED)
    assert set(target.tags.get(PLACE, {})) == (set() if outcome is Outcome.REFUSED else {"main"})
