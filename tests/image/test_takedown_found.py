"""What is denied with an image: its platforms too, as far as its source is asked."""

from __future__ import annotations

from dataclasses import replace

from mirrord.model.ledger import LedgerEntry
from mirrord.syncers.image.upstream.takedown import find
from mirrord.testing import build_image, push
from tests.support.localstore import place_in
from tests.support.world import World


async def test_platforms_of_more_than_a_hundred_images(world: World) -> None:
    """A source is asked for a hundred images, and a remark says of how many the platforms are not known."""
    source, target = await world.registry("source"), await world.registry("one")
    images = [build_image(["linux/amd64", "linux/arm64"], seed=str(number)) for number in range(103)]
    for number, image in enumerate(images):
        await push(image, source, "team/app", [f"v{number}"])
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, target)
    world.services = replace(world.services, mirrors={"image": [mirror]})
    moves = {
        ("one", f"v{number}"): LedgerEntry("app", "one", f"v{number}", "", None, image.digest, world.now, world.now)
        for number, image in enumerate(images)
    }
    found = await find(f"{source.host}/team/app", world.services, {"app": moves})
    assert source.count("GET", "/manifests/") == 100
    assert {image.digest for image in images} < {*found.entry.digests}
    assert len(found.entry.digests) == 103 + 2 * 100
    assert found.remark == (
        "the platforms of 3 of 103 images are not known, and not denied by digest: "
        "a source is asked for 100 images at most"
    )


async def test_a_damaged_manifest_in_local_stops_no_takedown(world: World) -> None:
    """Its platforms are asked for at the source; where that has it no more, a remark says that they are not known."""
    source, index = await world.registry("source"), build_image(["linux/amd64", "linux/arm64"])
    await push(index, source, "team/app", ["v1"])
    assert world.services.blobs
    await world.services.blobs.put(index.digest, index.body)
    place = place_in(world.folder / "blobs", index.digest)
    assert place
    place.unlink()
    place.write_bytes(b"{")
    asked = f"{source.host}/team/app@{index.digest}"
    found = await find(asked, world.services, {})
    assert (len(found.entry.digests), found.remark) == (3, "")
    found = await find(f"{source.host}/team/other@{index.digest}", world.services, {})
    assert found.entry.digests == (index.digest,)
    assert found.remark.startswith("the platforms of 1 of 1 images are not known, and not denied by digest: ")
