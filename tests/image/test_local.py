"""The local store loses a file: the next run brings it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mirrord.model import Action, Digest
from mirrord.syncer import LOCAL, Mirror
from mirrord.testing import Registry, build_image, push
from mirrord.testing.world import World

IMAGE = build_image(["linux/amd64", "linux/arm64"])


def file_of(world: World, digest: str) -> Path | None:
    assert world.services.blobs is not None
    return world.services.blobs.path(Digest(digest))


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
