"""When names appear at a target: after all their content, each target on its own or all together, and never apart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mirrord import failpoints
from mirrord.model.plan import Action
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL, Mirror, Publication
from mirrord.syncers.image.names.typed import publishing
from mirrord.testing import Fault, Image, Immutable, Moment, Registry, build_image, push
from mirrord.testing.ports import free_port
from tests.support.layouts import write_layout
from tests.support.localstore import sent
from tests.support.world import World, by_target

PLACE = "mirror/app"


async def filled(world: World, image: Image) -> Registry:
    source = await world.registry("source")
    await push(image, source, "team/app", ["main"])
    return source


def main_of(source: Registry) -> dict[str, str]:
    return {"repository": f"{source.host}/team/app:main"}


def build(world: World, number: int) -> tuple[Image, dict[str, object]]:
    """Make a build on this machine and the `from:` that publishes it as `main-c<number>` and `main`."""
    image = build_image(seed=f"build {number}")
    folder = write_layout(image, world.folder / f"build-{number}")
    return image, {"layout": folder, "names": [f"main-c{number}", "main"]}


def uploads_of(target: Registry) -> Fault:
    """Let all uploads to `target` hang."""
    return target.faults.on("PUT", "/blobs/uploads/", times=None).hold()


async def test_content_comes_before_names(world: World) -> None:
    """At a target all blobs end before the manifest that names them starts, children before parents, tags last."""
    image = build_image(layer_size=50_000)
    source, target = await filled(world, image), await world.registry("one")
    assert (await world.run(world.mirror(main_of(source), target))).result is Result.SUCCESS
    puts = {exchange.path.rpartition("/")[2]: exchange for exchange in target.select("PUT", "/manifests/")}
    assert puts.keys() == {*image.manifests, "main"}
    blobs = {
        exchange.query.rpartition("digest=")[2].replace("%3A", ":"): exchange
        for exchange in target.select("PUT", "/uploads/")
    }
    order = [*image.manifests, "main"]
    for digest in order[:-2]:
        document = image.document(digest)
        for part in (document["config"], *document["layers"]):
            assert blobs[part["digest"]].at(Moment.ENDED) < puts[digest].at(Moment.STARTED)
        assert puts[digest].at(Moment.ENDED) < puts[image.digest].at(Moment.STARTED)
    assert puts[image.digest].at(Moment.ENDED) < puts["main"].at(Moment.STARTED)
    assert target.log[-1] is puts["main"]


async def test_each_target_flips_when_it_is_whole(world: World) -> None:
    """`publish: each`: a fast target has the tag while a slow one is still being sent content."""
    source, fast, slow = await filled(world, build_image()), await world.registry("fast"), await world.registry("slow")
    held = uploads_of(slow)
    running = asyncio.ensure_future(world.run(world.mirror(main_of(source), fast, slow)))
    await fast.wait(Moment.ENDED, "PUT", "/manifests/main")
    assert slow.tags == {}
    held.release()
    assert (await running).result is Result.SUCCESS


async def test_together_nobody_flips_before_all_are_whole(world: World) -> None:
    """`publish: together`: no tag anywhere while a healthy target lacks content; a dead one holds nobody up."""
    source, names = await filled(world, build_image()), ("one", "two", "slow")
    one, two, slow = [await world.registry(name) for name in names]
    held = uploads_of(slow)
    dead = {"dead": f"127.0.0.1:{free_port()}/x"}
    mirror = world.mirror(main_of(source), one, two, slow, LOCAL, places=dead, publish="together")
    running = asyncio.ensure_future(world.run(mirror))
    for target in (one, two):
        await target.wait(Moment.ENDED, "PUT", "/manifests/sha256")
    await slow.wait(Moment.STARTED, "PUT", "/blobs/uploads/")
    assert [one.tags, two.tags, slow.tags, world.local_tags()] == [{}] * 4
    held.release()
    run = await running
    whole = max(exchange.at(Moment.ENDED) for exchange in slow.select("PUT", "/blobs/uploads/"))
    for target in (one, two, slow):
        assert target.select("PUT", "/manifests/main")[0].at(Moment.STARTED) > whole
    assert {name: receipt.good for name, receipt in by_target(run).items()} == {
        "one": True, "two": True, "slow": True, LOCAL: True, "dead": False,
    }  # fmt: skip


async def test_together_patience_ends(world: World) -> None:
    """`publish: together`: after `together_wait` those that are whole flip, and the slower one when it is whole."""
    source, fast, slow = await filled(world, build_image()), await world.registry("fast"), await world.registry("slow")
    held = uploads_of(slow)
    mirror = world.mirror(main_of(source), fast, slow, publish="together", together_wait=0.05)
    running = asyncio.ensure_future(world.run(mirror))
    await fast.wait(Moment.ENDED, "PUT", "/manifests/main")
    assert slow.tags == {}
    held.release()
    assert (await running).result is Result.SUCCESS
    assert slow.tags == fast.tags


async def test_the_commit_tag_is_set_before_the_branch_tag(world: World) -> None:
    """`main-<commit>` is there before `main` stands for the same content, at every target."""
    image, source = build(world, 1)
    targets = [await world.registry(name) for name in ("one", "two")]
    assert (await world.run(world.mirror(source, *targets, LOCAL))).result is Result.SUCCESS
    for target in targets:
        stays, moves = (target.select("PUT", f"/manifests/{name}$")[0] for name in ("main-c1", "main"))
        assert stays.at(Moment.ENDED) < moves.at(Moment.STARTED)
        assert target.tags == {PLACE: {"main-c1": image.digest, "main": image.digest}}
    assert world.local_tags() == {"main-c1": image.digest, "main": image.digest}


async def test_only_the_first_of_several_names_stays(world: World) -> None:
    """Of `v1.2.1, v1.2, latest` the first never moves, and the others follow the next build."""
    images = [build_image(seed=f"patch {number}") for number in range(2)]
    target = await world.registry("one")
    for number, image in enumerate(images):
        folder = write_layout(image, world.folder / f"patch-{number}")
        run = await world.run(world.mirror({"layout": folder, "names": [f"v1.2.{number}", "v1.2", "latest"]}, target))
        assert run.result is Result.SUCCESS
    old, new = (str(image.digest) for image in images)
    assert target.tags == {PLACE: {"v1.2.0": old, "v1.2.1": new, "v1.2": new, "latest": new}}


async def test_a_failing_commit_tag_keeps_the_branch_tag(world: World) -> None:
    """When the commit tag cannot be set, `main` stays with the build before, and the next run sets both."""
    old, first = build(world, 1)
    new, second = build(world, 2)
    target = await world.registry("one")
    await world.run(world.mirror(first, target))
    target.faults.on("PUT", "/manifests/main-c2", times=None).status(403)
    mirror = world.mirror(second, target)
    assert (await world.run(mirror)).result is Result.FAILED
    assert target.tags == {PLACE: {"main-c1": old.digest, "main": old.digest}}
    target.faults.clear()
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert target.tags == {PLACE: {"main-c1": old.digest, "main-c2": new.digest, "main": new.digest}}


async def test_a_commit_tag_never_moves(world: World) -> None:
    """A commit tag that has other content refuses the build there, `main` is not moved, and others are served."""
    other, (image, source) = build_image(seed="other"), build(world, 1)
    taken, free = await world.registry("taken"), await world.registry("free")
    await push(other, taken, PLACE, ["main-c1", "main"])
    mirror = world.mirror(source, taken, free)
    run = await world.run(mirror)
    assert run.result is Result.PARTIAL
    assert run.plan is not None
    refused = [step for step in run.plan.steps if step.action is Action.REFUSE]
    assert [(step.target, "never moves" in step.reason) for step in refused] == [("taken", True)]
    assert taken.tags == {PLACE: {"main-c1": other.digest, "main": other.digest}}
    assert free.tags == {PLACE: {"main-c1": image.digest, "main": image.digest}}
    assert taken.count("PUT|POST", "") == 0


async def test_a_commit_tag_taken_meanwhile_never_moves(world: World) -> None:
    """A commit tag that somebody else set between plan and publishing is refused as well, and `main` is not moved."""
    other, (_, source) = build_image(seed="other"), build(world, 1)
    target = await world.registry("one")
    await push(other, target, PLACE)

    def meanwhile() -> None:
        target.content.tags[PLACE] = {"main-c1": other.digest}

    target.faults.on("POST", "/blobs/uploads/").do(meanwhile)
    run = await world.run(world.mirror(source, target))
    assert [(receipt.outcome, receipt.code) for receipt in run.receipts] == [(Outcome.REFUSED, "immutable")]
    assert target.tags == {PLACE: {"main-c1": other.digest}}


async def test_a_frozen_branch_tag_is_told(world: World) -> None:
    """A registry that freezes `main` gets the commit tag and a receipt that says so."""
    (_, first), (image, second) = build(world, 1), build(world, 2)
    target = await world.registry("one", immutable_tags=Immutable("main"))
    await world.run(world.mirror(first, target))
    run = await world.run(world.mirror(second, target))
    assert [(receipt.outcome, receipt.code) for receipt in run.receipts] == [(Outcome.REFUSED, "immutable")]
    assert target.tags[PLACE]["main-c2"] == image.digest


async def test_early_commits_stay(world: World) -> None:
    """After two builds both are there by digest and by commit tag, and `main` is the second."""
    (old, first), (new, second) = build(world, 1), build(world, 2)
    target = await world.registry("one")
    for source in (first, second):
        assert (await world.run(world.mirror(source, target, LOCAL))).result is Result.SUCCESS
    expected = {"main-c1": old.digest, "main-c2": new.digest, "main": new.digest}
    assert target.tags[PLACE] == world.local_tags() == expected
    for image in (old, new):
        assert target.manifests[PLACE].keys() >= image.manifests.keys()
        for reference in (image.digest, "main-c1" if image is old else "main-c2"):
            answer = await world.local(f"app/manifests/{reference}")
            assert sent(answer) == image.body


async def test_local_names_change_in_one_step(world: World) -> None:
    """The local store sets both tags by one line: before it neither is there, after it both are."""
    (old, first), (new, second) = build(world, 1), build(world, 2)
    await world.run(world.mirror(first, LOCAL))
    seen: list[dict[str, str]] = []
    try:
        seen.append(world.local_tags())
        failpoints.arm("links.appended", lambda: seen.append(world.local_tags()))
        await world.run(world.mirror(second, LOCAL))
    finally:
        failpoints.disarm()
    before = {"main-c1": old.digest, "main": old.digest}
    assert seen == [before, {"main-c1": old.digest, "main-c2": new.digest, "main": new.digest}]


async def test_publishing_one_build_now(world: World) -> None:
    """`publish` replaces the source of a mirror and keeps its targets; publishing again does nothing."""
    image = build_image()
    folder = write_layout(image, world.folder / "build")
    target = await world.registry("one")
    mirror = world.mirror({"layouts": world.folder / "builds"}, target)
    publication = Publication(f"oci:{folder}", ("main-abc1234", "main"))
    once: Mirror = publishing(mirror, publication)
    assert (await world.run(once)).result is Result.SUCCESS
    assert target.tags == {PLACE: {"main-abc1234": image.digest, "main": image.digest}}
    assert (await world.run(once)).result is Result.NOOP


async def test_a_republished_build_does_not_take_main_back(world: World) -> None:
    """Running the job of an old commit again leaves `main` with the newer build."""
    (_, first), (new, second) = build(world, 1), build(world, 2)
    target = await world.registry("one")
    for source in (first, second):
        await world.run(world.mirror(source, target))
    world.later(days=30)
    assert (await world.run(world.mirror(first, target))).result is Result.NOOP
    assert target.tags[PLACE]["main"] == new.digest


@pytest.mark.parametrize("place", ["one", LOCAL])
async def test_a_build_interrupted_between_its_names_is_finished(world: World, place: str) -> None:
    """A run that ended between commit tag and branch tag is finished by the next one, without any record."""
    image, source = build(world, 1)
    target = await world.registry("one")
    await push(image, target, PLACE, ["main-c1"])
    mirror = world.mirror(source, *([target] if place == "one" else [LOCAL]))
    assert (await world.run(mirror)).result is Result.SUCCESS
    tags = target.tags[PLACE] if place == "one" else world.local_tags()
    assert tags == {"main-c1": image.digest, "main": image.digest}


def test_builds_need_a_source_that_can_be_read(world: World, tmp_path: Path) -> None:
    """A publication without a readable source is refused before anything happens."""
    mirror = world.mirror({"layouts": tmp_path}, LOCAL)
    with pytest.raises(Exception, match="UPPER"):
        publishing(mirror, Publication("UPPER/case", ("main",)))
