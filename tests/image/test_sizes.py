"""Sizes and platforms of images are recorded from what a run reads anyway."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mirrord.model.memory import LastSeen
from mirrord.model.run import Result
from mirrord.record.store import Store
from mirrord.syncer.values import LOCAL
from mirrord.testing import build_image, push
from mirrord.testing.images import Builder, Image
from mirrord.testing.servers import DockerRegistry, require
from tests.support.world import World

BOTH = build_image(["linux/amd64", "linux/arm64/v8"], layer_size=3000, seed="both")
SINGLE = build_image(["linux/arm64"], index=False, layer_size=2000, seed="single")
OLD = build_image(["windows/amd64"], index=False, docker=True, layer_size=1000, seed="old")


async def known(store: Store, mirror: str = "app") -> Mapping[tuple[str, str], tuple[int | None, tuple[str, ...]]]:
    """Return size and platforms of what is known, by target and item."""
    memory: Mapping[tuple[str, str], LastSeen] = await store.memory(mirror)
    return {key: (seen.size, seen.platforms) for key, seen in memory.items()}


def with_attestation() -> Image:
    """Return an index of an image and of an attestation about it, as buildx makes them."""
    builder = Builder()
    builder.include(SINGLE)
    about = build_image(["unknown/unknown"], index=False, layers=1, layer_size=100, seed="attestation")
    builder.include(about)
    entries = [
        {**SINGLE.root, "platform": {"os": "linux", "architecture": "arm64"}},
        {
            **about.root,
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
        },
    ]
    kind = "application/vnd.oci.image.index.v1+json"
    return builder.image(builder.manifest({"schemaVersion": 2, "mediaType": kind, "manifests": entries}))


async def test_sizes_and_platforms_of_real_registries(world: World) -> None:
    """From docker-registry to two others and the local store: bytes of all blobs, and what the image runs on."""
    require("docker-registry")
    images = {"both": BOTH, "latest": BOTH, "single": SINGLE, "old": OLD, "built": with_attestation()}
    async with DockerRegistry(access_log=True) as source, DockerRegistry() as one, DockerRegistry() as two:
        for tag, image in images.items():
            await push(image, source.url, "team/app", [tag])
        mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, one, two, LOCAL)
        run = await world.run(mirror)
        assert run.result is Result.SUCCESS, [receipt for receipt in run.receipts if not receipt.good]
        on = {
            "both": ("linux/amd64", "linux/arm64/v8"),
            "latest": ("linux/amd64", "linux/arm64/v8"),
            "single": ("linux/arm64",),
            "old": ("windows/amd64",),
            "built": ("linux/arm64",),
        }
        expected = {
            (target.name, tag): (image.size, on[tag]) for target in mirror.targets for tag, image in images.items()
        }
        assert await known(world.store) == expected
        unique = {digest for image in images.values() for digest in image.blobs}
        read = [hit.path for hit in source.hits() if hit.method == "GET" and "/blobs/" in hit.path]
        assert len(read) == len(unique)  # nothing was read for this
        standing = {entry.target: entry.size for entry in await world.store.standing("app")}
        total = sum(image.size for image in {image.digest: image for image in images.values()}.values())
        assert standing == dict.fromkeys(("", *(target.name for target in mirror.targets)), total)
        world.later(days=1)
        assert (await world.run(mirror)).result is Result.NOOP
        assert await known(world.store) == expected  # confirmed by HEAD requests, which say no size of the content


@pytest.mark.parametrize("index", ["a", "d"])
async def test_an_image_whose_config_another_tag_brought_has_its_platform(world: World, index: str) -> None:
    """An index that lists it says the platform, and so does another tag of it: whichever of them a run sends first."""
    world.parallel = 1
    source, one = await world.registry("source"), await world.registry("one")
    images = {index: with_attestation(), "b": SINGLE, "c": SINGLE}
    for tag, image in images.items():
        await push(image, source, "team/app", [tag])
    await world.run(world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, one))
    assert {tag: seen[1] for (_, tag), seen in (await known(world.store)).items()} == dict.fromkeys(
        images, ("linux/arm64",)
    )


async def test_what_a_target_has_already_is_measured_without_reading_more(world: World) -> None:
    """Manifests that are read to set a new name are measured; a config that need not be sent is not read for this."""
    source, one = await world.registry("source"), await world.registry("one")
    for tag, image in (("both", BOTH), ("single", SINGLE)):
        await push(image, source, "team/app", [tag])
        await push(image, one, "mirror/app", [f"{tag}-old"])
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, one)
    await world.run(mirror)
    target = mirror.targets[0].name
    assert await known(world.store) == {
        (target, "both"): (BOTH.size, ("linux/amd64", "linux/arm64/v8")),
        (target, "single"): (SINGLE.size, ()),
    }
    assert (source.count("GET", "/manifests/"), source.count("GET", "/blobs/")) == (4, 0)


async def test_a_moved_tag_forgets_the_size_of_before(world: World) -> None:
    """When a tag moves to an image whose size is not learned, the size of the image before it is not kept."""
    source, one = await world.registry("source"), await world.registry("one")
    await push(SINGLE, source, "team/app", ["main"])
    mirror = world.mirror({"repository": f"{source.host}/team/app:main"}, one)
    await world.run(mirror)
    key = (mirror.targets[0].name, "main")
    assert (await known(world.store))[key] == (SINGLE.size, ("linux/arm64",))
    await push(BOTH, source, "team/app", ["main"])
    await push(BOTH, one, "mirror/app", ["other"])
    world.later(days=1)
    await world.run(mirror)
    assert (await known(world.store))[key] == (None, ("linux/amd64", "linux/arm64/v8"))


async def test_lists_and_publishes_have_them_too(world: World) -> None:
    """The items of a mirror of many repositories, and a published build, are recorded with size and platforms."""
    source, one, two = [await world.registry(name) for name in ("source", "one", "two")]
    await push(BOTH, source, "team/web", ["v1"])
    await push(SINGLE, source, "team/db", ["v1"])
    keys = {"registry": source.host, "repositories": ["team/*"], "tags": ["v1"]}
    await world.run(world.mirror(keys, one, LOCAL, name="many"))
    found = await known(world.store, "many")
    assert {item: seen for (_, item), seen in found.items()} == {
        f"{source.host}/team/web:v1": (BOTH.size, ("linux/amd64", "linux/arm64/v8")),
        f"{source.host}/team/db:v1": (SINGLE.size, ("linux/arm64",)),
    }
    assert len(found) == 4
    await push(SINGLE, source, "team/built", ["x"])
    built = world.mirror({"repository": f"{source.host}/team/web"}, two, name="built")
    run = await world.publish(built, f"{source.host}/team/built:x", "main-1234567", "main")
    assert run.result is Result.SUCCESS, run
    assert set((await known(world.store, "built")).values()) == {(SINGLE.size, ("linux/arm64",))}
