"""What is denied with an image: its platforms too, as far as its source is asked."""

from __future__ import annotations

from dataclasses import replace

from mirrord.model.ledger import LedgerEntry
from mirrord.syncers.image.upstream.takedown import find
from mirrord.testing import build_image, push
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
