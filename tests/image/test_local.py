"""The local store loses a file: the next run brings it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mirrord import failpoints
from mirrord.blobs.disk import DiskStore
from mirrord.errors import DigestError
from mirrord.model.digest import Digest
from mirrord.model.plan import Action
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.testing import Registry, build_image, push
from tests.support.layouts import write_layout
from tests.support.localstore import place_in
from tests.support.world import World

IMAGE = build_image(["linux/amd64", "linux/arm64"])


def file_of(world: World, digest: str) -> Path | None:
    return place_in(world.folder / "blobs", Digest(digest))


async def mirrored(world: World, **keys: Any) -> tuple[Registry, Mirror]:
    """Bring `team/app:v1` to the local store."""
    source = await world.registry("source")
    await push(IMAGE, source, "team/app", ["v1"])
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, LOCAL, **keys)
    await world.run(mirror)
    return source, mirror


def content() -> list[str]:
    """Return the digests of all files: blobs, the manifests of the platforms, and the index."""
    children = [entry["digest"] for entry in IMAGE.document()["manifests"]]
    return sorted({*map(str, IMAGE.blobs), *children, str(IMAGE.digest)})


@pytest.mark.parametrize("number", range(len(content())))
@pytest.mark.parametrize("keys", [{}, {"immutable": ["v*"]}], ids=["moving", "immutable"])
async def test_a_lost_file_comes_back(world: World, number: int, keys: dict[str, Any]) -> None:
    """Whichever file of an image is gone, with the record and without, the next run brings it and it alone."""
    digest = content()[number]
    source, mirror = await mirrored(world, **keys)
    for forget in (False, True):
        lost = file_of(world, digest)
        assert lost is not None
        lost.unlink()
        if forget:
            world.store = type(world.store)()
        read = source.count("GET", "/blobs/")
        await world.run(mirror)
        assert file_of(world, digest) is not None
        assert (await world.local(f"app/blobs/{digest}")).status == 200
        assert source.count("GET", "/blobs/") - read <= 1


async def test_a_whole_store_is_left_alone(world: World) -> None:
    """With everything there nothing is planned, with the record and without."""
    _, mirror = await mirrored(world)
    for forget in (False, True):
        if forget:
            world.store = type(world.store)()
        assert [step.action for step in (await world.plan(mirror)).steps] == [Action.KEEP]


async def test_many_images_cost_each_what_it_costs_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Naming one image of a run looks for its own files, not for those of all images before it."""
    source, looks = await world.registry("source"), [0]
    look = DiskStore._has

    def counted(store: DiskStore, digest: Digest) -> bool:
        looks[0] += 1
        return look(store, digest)

    monkeypatch.setattr(DiskStore, "_has", counted)
    each = []
    for count in (2, 30):
        for number in range(count):
            image = build_image(["linux/amd64"], layers=1, layer_size=100, seed=f"{count}/{number}")
            await push(image, source, f"team/many{count}", [f"v{number}"])
        looks[0] = 0
        await world.run(
            world.mirror({"repository": f"{source.host}/team/many{count}", "tags": ["*"]}, LOCAL, name=f"n{count}")
        )
        assert len(world.local_tags(f"n{count}")) == count
        each.append(looks[0] / count)
    assert each[1] <= each[0]


async def test_an_image_that_lost_a_file_fails_alone(world: World) -> None:
    """A blob vanishes from the store before its image has a name: the other images of that run get theirs."""
    source, world.parallel = await world.registry("source"), 1
    images = [build_image(["linux/amd64"], layers=1, seed=str(number)) for number in range(3)]
    for number, image in enumerate(images):
        await push(image, source, "team/app", [f"v{number}"])

    def lose() -> None:
        if (file := file_of(world, images[0].layers[0])) is not None:
            file.unlink()

    failpoints.arm("push.manifest", lose)
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["v0", "v1", "v2"]}, LOCAL)
    try:
        run = await world.run(mirror)
    finally:
        failpoints.disarm()
    assert {one.step.item: one.outcome for one in run.receipts} == {
        "v0": Outcome.FAILED,
        "v1": Outcome.DONE,
        "v2": Outcome.DONE,
    }
    assert sorted(world.local_tags()) == ["v1", "v2"]
    await world.run(mirror)
    assert sorted(world.local_tags()) == ["v0", "v1", "v2"]


async def test_a_layout_that_changes_after_it_was_looked_at(world: World) -> None:
    """Somebody writes into a blob of a layout between check and copy: nothing wrong gets into the store of all."""
    image = build_image(["linux/amd64"], layers=1)
    layout = write_layout(image, world.folder / "layout", "v1")
    digest = Digest(image.layers[0])
    file = layout / "blobs" / "sha256" / digest.hex
    right = file.read_bytes()

    def change() -> None:
        file.write_bytes(bytes(len(right)))

    failpoints.arm("spool.verified", change)
    mirror = world.mirror({"layout": layout}, LOCAL)
    try:
        run = await world.run(mirror)
    finally:
        failpoints.disarm()
    assert [one.code for one in run.receipts] == [DigestError.code]
    assert file_of(world, digest) is None
    assert not list((world.folder / "scratch").iterdir())
    file.write_bytes(right)
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert file_of(world, digest) is not None
