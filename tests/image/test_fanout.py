"""One source, many targets: each blob is read once, and no target suffers from another."""

from __future__ import annotations

import asyncio

import pytest

from mirrord.model.digest import Digest
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import Image, Immutable, Moment, Registry, build_image, push
from mirrord.testing.ports import free_port
from tests.support.world import World, by_target

LAYER = 300_000
PLACE = "mirror/app"


async def filled(world: World, image: Image, **options: object) -> Registry:
    """Start a source that has `image` as `main`."""
    source = await world.registry("source", **options)
    await push(image, source, "team/app", ["main"])
    return source


def main_of(source: Registry) -> dict[str, str]:
    return {"repository": f"{source.host}/team/app:main"}


def blob_gets(registry: Registry) -> list[str]:
    """Return the digests of the blobs that were read, one entry for each GET."""
    return sorted(exchange.path.rpartition("/")[2] for exchange in registry.select("GET", "/blobs/"))


async def test_each_blob_is_read_once(world: World) -> None:
    """Three registries and the local store get an image from one GET for each blob: 1.00 times its bytes."""
    image = build_image(layer_size=LAYER, shared_layers=1)
    source = await filled(world, image)
    targets = [await world.registry(name) for name in ("one", "two", "three")]
    run = await world.run(world.mirror(main_of(source), *targets, LOCAL))
    assert (run.result, run.read) == (Result.SUCCESS, image.size)
    assert blob_gets(source) == sorted(image.blobs)
    assert source.sent("/blobs/") == image.size
    for target in targets:
        assert target.tags[PLACE] == {"main": image.digest}
        assert target.received("/blobs/uploads/") == image.size
        assert target.content.dangling() == []
    assert world.local_tags() == {"main": image.digest}
    assert [by_target(run)[name].sent for name in ("one", "two", "three")] == [image.size] * 3


async def test_blobs_that_all_targets_have_are_not_read(world: World) -> None:
    """A blob that every target has costs the source nothing; one that a single target lacks costs one GET."""
    old, new = (build_image(layer_size=LAYER, seed=seed, shared_layers=1) for seed in ("old", "new"))
    source = await filled(world, new)
    one, two = await world.registry("one"), await world.registry("two")
    await push(old, one, PLACE, ["main"])
    for digest in set(new.blobs) & set(old.blobs):
        two.content.put_blob(PLACE, new.blobs[digest])
    missing = sorted(set(new.blobs) - set(old.blobs))
    two.content.put_blob(PLACE, new.blobs[missing[0]])
    run = await world.run(world.mirror(main_of(source), one, two))
    assert run.result is Result.SUCCESS
    assert blob_gets(source) == missing
    assert one.count("PUT", "/blobs/uploads/") == len(missing)
    assert two.count("PUT", "/blobs/uploads/") == len(missing) - 1
    assert one.tags == two.tags == {PLACE: {"main": new.digest}}


async def test_pull_and_push_overlap(world: World) -> None:
    """Every target has first bytes of a layer before the source has sent its last ones."""
    image = build_image(["linux/amd64"], layers=1, layer_size=8 << 20)
    source = await filled(world, image)
    layer = Digest(image.layers[0]).hex
    stalled = source.faults.on("GET", layer).stall(after=4 << 20)
    targets = [await world.registry(name) for name in ("one", "two")]
    running = asyncio.ensure_future(world.run(world.mirror(main_of(source), *targets)))
    puts = [await target.wait(Moment.FIRST_RECEIVED, "PUT", layer) for target in targets]
    stalled.release()
    assert (await running).result is Result.SUCCESS
    read = source.select("GET", layer)[0]
    assert all(put.at(Moment.FIRST_RECEIVED) < read.at(Moment.LAST_SENT) for put in puts)
    assert blob_gets(source) == sorted(image.blobs)


async def test_slow_dead_and_immutable_targets_hurt_nobody(world: World) -> None:
    """One target hangs, one is dead, one refuses overwriting: the others are complete, and flip at once."""
    old, image = build_image(seed="old"), build_image(layer_size=LAYER)
    source = await filled(world, image)
    good, slow = await world.registry("good"), await world.registry("slow")
    frozen = await world.registry("frozen", immutable_tags=Immutable("main"))
    await push(old, frozen, PLACE, ["main"])
    slow.faults.on("PUT", "/blobs/uploads/", times=None).hold()
    mirror = world.mirror(main_of(source), good, slow, frozen, LOCAL, places={"dead": f"127.0.0.1:{free_port()}/x"})
    running = asyncio.ensure_future(world.run(mirror))
    await good.wait(Moment.ENDED, "PUT", "/manifests/main")
    assert not running.done()
    assert PLACE not in slow.tags
    slow.faults.clear()
    run = await running
    assert run.result is Result.PARTIAL
    outcomes = {name: (receipt.outcome, receipt.code) for name, receipt in by_target(run).items()}
    assert outcomes == {
        "good": (Outcome.DONE, ""),
        "slow": (Outcome.DONE, ""),
        "frozen": (Outcome.REFUSED, "immutable"),
        "dead": (Outcome.FAILED, "unreachable"),
        LOCAL: (Outcome.DONE, ""),
    }
    assert good.tags == slow.tags == {PLACE: {"main": image.digest}}
    assert frozen.tags == {PLACE: {"main": old.digest}}
    assert world.local_tags() == {"main": image.digest}
    assert blob_gets(source) == sorted(image.blobs)


async def test_a_throttled_target_is_served_to_its_end(world: World) -> None:
    """A target at a hundredth of the pace delays nobody, gets every byte, and the source is read once (F23)."""
    image = build_image(["linux/amd64"], layers=2, layer_size=LAYER)
    source = await filled(world, image)
    fast, slow = await world.registry("fast"), await world.registry("slow", socket_buffer=4096)
    slow.faults.on("PUT", "/blobs/uploads/", times=None).throttle(400_000)
    run = await world.run(world.mirror(main_of(source), fast, slow))
    assert run.result is Result.SUCCESS
    flipped = fast.select("PUT", "/manifests/main")[0].at(Moment.ENDED)
    late = max(exchange.at(Moment.LAST_RECEIVED) for exchange in slow.select("PUT", "/blobs/uploads/"))
    assert flipped < late
    assert slow.tags == fast.tags == {PLACE: {"main": image.digest}}
    assert blob_gets(source) == sorted(image.blobs)


async def test_layers_shared_by_images_of_a_run_are_read_once(world: World) -> None:
    """Three images of one run that share a layer: it is read once and sent once to each target."""
    images = [build_image(["linux/amd64"], layer_size=LAYER, seed=f"v{n}", shared_layers=1) for n in range(3)]
    source = await world.registry("source")
    for number, image in enumerate(images):
        await push(image, source, "team/app", [f"v{number}"])
    targets = [await world.registry(name) for name in ("one", "two")]
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app", "tags": ["v*"]}, *targets, LOCAL))
    assert run.result is Result.SUCCESS
    unique = sorted({digest for image in images for digest in image.blobs})
    assert blob_gets(source) == unique
    for target in targets:
        assert target.count("PUT", "/blobs/uploads/") == len(unique)
        assert target.tags[PLACE] == {f"v{n}": image.digest for n, image in enumerate(images)}


@pytest.mark.parametrize("mounts", [True, False], ids=["mounts", "cannot-mount"])
async def test_blobs_are_mounted_from_other_repositories(world: World, mounts: bool) -> None:
    """A second mirror to the same registry takes the blobs over from the first; where that fails they are sent."""
    image = build_image(layer_size=LAYER)
    source, target = await filled(world, image), await world.registry("one", mount=mounts)
    await world.run(world.mirror(main_of(source), target))
    world.wire.exchanges.clear()
    run = await world.run(world.mirror(main_of(source), target, name="copy"))
    assert run.result is Result.SUCCESS
    assert target.tags["mirror/copy"] == {"main": image.digest}
    assert target.count("POST", "mount=") == len(image.blobs)
    assert target.count("PUT", "/blobs/uploads/") == (0 if mounts else len(image.blobs))
    assert blob_gets(source) == []  # the spool still has them
    assert target.protocol.uploads.open == {}
