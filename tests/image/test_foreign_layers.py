"""Layers that registries need not have: known by their media type alone (image-spec, layer.md)."""

from __future__ import annotations

import pytest

from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import DockerRegistry, Image, build_image, push, require
from mirrord.testing.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Builder
from tests.support.world import World

ONE = ["linux/amd64"]
URL = "https://example.com/layer.tgz"


@pytest.fixture(autouse=True)
def _tools() -> None:
    require("docker-registry")


def elsewhere_too() -> Image:
    """Return an image with an ordinary layer that says where else it may be had."""
    builder = Builder()
    layer = builder.blob(OCI_LAYER, b"an ordinary layer") | {"urls": [URL]}
    config = builder.blob(OCI_CONFIG, b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}')
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
    return builder.image(builder.manifest(document))


def from_source(host: str) -> dict[str, str]:
    return {"repository": f"{host}/team/app:main"}


async def test_a_layer_that_is_elsewhere_too_is_copied(world: World) -> None:
    """A4: `urls` do not make a layer foreign: it comes from the source, into a registry and into `local`."""
    source, image = await world.registry("source"), elsewhere_too()
    await push(image, source, "team/app", ["main"])
    async with DockerRegistry(access_log=True) as target:
        run = await world.run(world.mirror(from_source(source.host), target, LOCAL))
        assert run.result is Result.SUCCESS, run
        assert len([hit for hit in target.hits() if hit.method == "PUT" and "/blobs/" in hit.path]) == 2
    for digest in image.layers:
        assert (await world.local(f"app/blobs/{digest}")).status == 200


async def test_a_layer_that_is_only_elsewhere_is_missed(world: World) -> None:
    """An ordinary layer that the source lacks is an error that names it, whatever its `urls` say."""
    source, image = await world.registry("source"), elsewhere_too()
    await push(image, source, "team/app", ["main"])
    source.blobs.pop(image.layers[0])
    run = await world.run(world.mirror(from_source(source.host), LOCAL))
    assert run.result is Result.FAILED
    assert image.layers[0] in run.receipts[0].detail
    assert world.local_tags() == {}


async def test_foreign_layers_are_left_out_and_reported(world: World) -> None:
    """A layer of a foreign type stays a reference; nobody asks the source for it, and the receipt says so."""
    source, image = await world.registry("source"), build_image(ONE, docker=True, foreign=[URL])
    await push(image, source, "team/app", ["main"])
    async with DockerRegistry() as target:
        run = await world.run(world.mirror(from_source(source.host), target, LOCAL))
    assert run.result is Result.SUCCESS, run
    assert len(run.receipts) == 2
    for receipt in run.receipts:
        assert "foreign layers left out: 1" in receipt.detail


async def test_a_registry_that_wants_no_foreign_layers(world: World) -> None:
    """go-containerregistry#709: docker-registry answers 500 with no word on it; the receipt names the layers."""
    source, image = await world.registry("source"), build_image(ONE, docker=True, foreign=[URL])
    await push(image, source, "team/app", ["main"])
    async with DockerRegistry(foreign=False) as target:
        run = await world.run(world.mirror(from_source(source.host), target))
    (receipt,) = run.receipts
    assert receipt.outcome is Outcome.FAILED
    assert "foreign layers in it: 1" in receipt.detail
    assert "allow" in receipt.detail
