"""What is about an image of which only some platforms are mirrored: what fits comes along, and the rest is counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import Image, build_image, push
from tests.support.artifacts import build_artifact
from tests.support.world import World, by_target

PLACE = "mirror/app"
IMAGE = build_image(["linux/amd64", "linux/arm64", "linux/s390x"], layers=1)
TWO = ["linux/amd64", "linux/arm64"]


def about(number: int, data: bytes) -> Image:
    """Build a signature of the index (-1), or of the image of one platform."""
    subject = IMAGE.root if number < 0 else IMAGE.document()["manifests"][number]
    return build_artifact(Image(subject, {}, {}), data=data)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "index changed: 2 of 3 platforms"),
        (1, "index changed: 2 of 3 platforms; the signature or attestation of the source's index does not fit it"),
        (3, "index changed: 2 of 3 platforms; the 3 signatures and attestations of the source's index do not fit it"),
    ],
)
async def test_what_fits(world: World, count: int, said: str) -> None:
    """Signatures of the images that stay are carried; those of the index and of what is left out are not."""
    source, one = await world.registry("source", referrers=True), await world.registry("one")
    fits, gone = [about(number, b"%d" % number) for number in (0, 1)], about(2, b"s390x")
    own = [about(-1, b"own %d" % number) for number in range(count)]
    await push(IMAGE, source, "team/app", ["v1"])
    for image in (*fits, gone, *own):
        await push(image, source, "team/app", [])
    here: dict[str, Any] = {"repository": f"{source.host}/team/app:v1"}
    run = await world.run(world.mirror(here, one, LOCAL, platforms=TWO))
    assert run.result is Result.SUCCESS, run.receipts
    receipts = by_target(run)
    assert {name: receipt.referrers for name, receipt in receipts.items()} == {"one": 2, LOCAL: 2}
    assert all(receipt.detail.endswith(f"; {said}") for receipt in receipts.values()), receipts
    kept = {entry["digest"] for entry in IMAGE.document()["manifests"][:2]}
    digest = one.tags[PLACE]["v1"]
    assert {*one.manifests[PLACE]} == {digest, *kept, *(image.digest for image in fits)}
    index = json.loads(one.manifests[PLACE][digest][1])
    assert {entry["digest"] for entry in index["manifests"]} == kept
