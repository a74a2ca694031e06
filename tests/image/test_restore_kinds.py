"""Restores of builds, of many repositories, of signed images, and of what was taken down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mirrord.model.plan import Action
from mirrord.model.run import Result
from mirrord.names.denied import Denied, DeniedEntry
from mirrord.syncer.values import LOCAL
from mirrord.testing import build_image, push
from tests.support.artifacts import build_artifact
from tests.support.layouts import write_layout
from tests.support.restoring import release, restore
from tests.support.world import World

OLD, NEW, NEWER = (build_image(["linux/amd64"], seed=seed) for seed in ("old", "new", "newer"))


@pytest.fixture(autouse=True)
def _with_facts(world: World) -> None:
    world.services = replace(world.services, facts=world.store)


async def test_the_tag_of_a_branch_stays_set_back(world: World) -> None:
    """A publish sets the tag of its build and leaves the restored one alone, and says so; after a release it moves."""
    one = await world.registry("one")
    mirror = world.mirror({"layouts": str(world.folder / "none")}, one, LOCAL)
    for number, image in enumerate((OLD, NEW)):
        source = f"oci:{write_layout(image, world.folder / f'b{number}')}"
        assert (await world.publish(mirror, source, f"main-{number}", "main")).result is Result.SUCCESS
        world.later(days=1)
    assert (await restore(world, mirror, "main")).result is Result.SUCCESS
    wanted = {"main-0": OLD.digest, "main-1": NEW.digest, "main": OLD.digest}
    assert one.tags["mirror/app"] == world.local_tags() == wanted
    world.later(days=1)
    source = f"oci:{write_layout(NEWER, world.folder / 'b2')}"
    run = await world.publish(mirror, source, "main-2", "main")
    assert one.tags["mirror/app"] == world.local_tags() == {**wanted, "main-2": NEWER.digest}
    assert any(remark.startswith(f"main was restored and stays {OLD.digest}") for remark in run.remarks)
    await release(world, mirror, "main")
    world.later(days=1)
    await world.publish(mirror, source, "main-2", "main")
    assert one.tags["mirror/app"]["main"] == world.local_tags()["main"] == NEWER.digest


async def test_one_tag_of_many_repositories(world: World) -> None:
    """Its name has the repository in front, as in the ledger; other repositories are not asked."""
    source, one = await world.registry("source"), await world.registry("one")
    listing = world.folder / "images.txt"
    listing.write_text(f"{source.host}/team/a:v1\n{source.host}/team/b:v1\n")
    mirror = world.mirror({"list": str(listing)}, one)
    for image in (OLD, NEW):
        for name in ("a", "b"):
            await push(image, source, f"team/{name}", ["v1"])
        world.later(days=1)
        assert (await world.run(mirror)).result is Result.SUCCESS
    host = source.host.rpartition(":")[0]
    (a,) = (name for name in one.tags if name.endswith("/a"))
    (b,) = (name for name in one.tags if name.endswith("/b"))
    await source.stop()
    run = await restore(world, mirror, f"{source.host}/team/a:v1")
    assert run.result is Result.SUCCESS, (run, host)
    assert (one.tags[a], one.tags[b]) == ({"v1": OLD.digest}, {"v1": NEW.digest})
    await source.start()
    world.later(days=1)
    run = await world.run(mirror)
    assert (one.tags[a], one.tags[b]) == ({"v1": OLD.digest}, {"v1": NEW.digest})
    assert [remark.partition(" was")[0] for remark in run.remarks] == [f"{source.host}/team/a:v1"]
    assert f"`mirrord restore app {source.host}/team/a:v1 --release`" in run.remarks[0]
    await release(world, mirror, "*a:v1")
    world.later(days=1)
    await world.run(mirror)
    assert one.tags[a] == {"v1": NEW.digest}


async def test_signatures_come_along(world: World) -> None:
    """What is about the old image is brought to a target that lost both, from `local`, before the tag is set."""
    source, one = await world.registry("source"), await world.registry("one")
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["v*"]}, one, LOCAL)
    signature = build_artifact(OLD)
    await push(OLD, source, "team/app", ["v1"])
    await push(signature, source, "team/app", [])
    await world.run(mirror)
    await push(NEW, source, "team/app", ["v1"])
    world.later(days=1)
    await world.run(mirror)
    await source.stop()
    for digest in (OLD.digest, signature.digest):
        one.manifests["mirror/app"].pop(digest)
    run = await restore(world, mirror, "v1")
    assert run.result is Result.SUCCESS
    assert signature.digest in one.manifests["mirror/app"]
    assert one.tags["mirror/app"]["v1"] == OLD.digest


async def test_signatures_that_cannot_be_listed_are_no_secret(world: World) -> None:
    """The first place does not say what is about the image, the next one has nothing: it is restored, with a remark."""
    source, one, two = [await world.registry(name) for name in ("source", "one", "two")]
    mirror = world.mirror({"repository": f"{source.host}/team/app:main"}, one, two)
    await push(OLD, source, "team/app", ["main"])
    await push(build_artifact(OLD), source, "team/app", [])
    for image in (OLD, NEW):
        await push(image, source, "team/app", ["main"])
        world.later(days=1)
        assert (await world.run(mirror)).result is Result.SUCCESS
    await source.stop()
    for digest, (_, body) in list(two.manifests["mirror/app"].items()):
        if b'"subject"' in body:
            del two.manifests["mirror/app"][digest]
    one.faults.on("GET", f"/referrers/{OLD.digest}", times=None).status(500)
    run = await restore(world, mirror, "main")
    remarks = [receipt.remark for receipt in run.receipts]
    assert run.result is Result.SUCCESS, run
    assert any("left out: signatures and attestations that only one has: " in remark for remark in remarks), remarks


async def test_what_was_taken_down_is_not_restored(world: World) -> None:
    """A denied digest is refused with the reason; one that was restored before is not brought back."""
    source, one = await world.registry("source"), await world.registry("one")
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["v*"]}, one)
    for image in (OLD, NEW):
        await push(image, source, "team/app", ["v1"])
        world.later(days=1)
        await world.run(mirror)
    allowed = world.services
    world.services = replace(allowed, denied=Denied([DeniedEntry(1, "a claim", digests=(OLD.digest,))]))
    run = await restore(world, mirror, "v1")
    (step,) = run.plan.steps if run.plan else ()
    assert (step.action, step.code) == (Action.REFUSE, "taken_down")
    assert step.reason == "it was taken down, and is not restored: a claim"
    assert one.tags["mirror/app"] == {"v1": NEW.digest}
    denied, world.services = world.services, allowed
    assert (await restore(world, mirror, "v1")).result is Result.SUCCESS
    world.services = denied
    world.later(days=1)
    await world.run(mirror)
    assert one.tags["mirror/app"].get("v1") in (None, OLD.digest)
    one.tags["mirror/app"].pop("v1", None)
    world.later(days=1)
    await world.run(mirror)
    assert "v1" not in one.tags["mirror/app"]


async def test_twice_as_many_tags_cost_twice_as_much(world: World) -> None:
    """Requests of a restore grow with the number of names, and not faster."""
    counts = []
    for number, count in enumerate((10, 20)):
        source, one = await world.registry(f"source{number}"), await world.registry(f"one{number}")
        places = {"one": f"{one.host}/mirror"}
        mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, name=f"a{count}", places=places)
        for seed in ("old", "new"):
            for tag in range(count):
                image = build_image(["linux/amd64"], seed=f"{seed}{tag}", layer_size=100)
                await push(image, source, "team/app", [f"v{tag}"])
            world.later(days=1)
            await world.run(mirror)
        before = len(source.log), len(one.log)
        assert (await restore(world, mirror, "v*")).result is Result.SUCCESS
        counts.append((len(source.log) - before[0], len(one.log) - before[1]))
    (source_few, few), (source_many, many) = counts
    assert source_many <= 2 * source_few + 2
    assert many <= 2 * few + 2
