"""A manifest that names somebody else's blob does not bring it into the copy, though `local` has that blob."""

from __future__ import annotations

import random

import pytest

from mirrord.model.digest import Digest
from mirrord.model.run import Outcome
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.testing import Registry
from mirrord.testing.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from tests.support.world import World

LAYER = random.Random(27).randbytes(300_017)
DIGEST = Digest.of(LAYER)
CONFIG = b"{}"


def put_image(source: Registry, repository: str, tag: str = "v1", *, layer: bool = True, note: str = "") -> None:
    """Put an image of one layer; with `layer=False` its manifest names a layer that the repository lacks."""
    config = source.content.put_blob(repository, CONFIG)
    if layer:
        source.content.put_blob(repository, LAYER)
    body = (
        f'{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","annotations":{{"note":"{note}"}},'
        f'"config":{{"mediaType":"{OCI_CONFIG}","digest":"{config}","size":{len(CONFIG)}}},'
        f'"layers":[{{"mediaType":"{OCI_LAYER}","digest":"{DIGEST}","size":{len(LAYER)}}}]}}'
    )
    source.content.put_manifest(repository, OCI_MANIFEST, body.encode(), tag)


def mirror(world: World, source: Registry, name: str) -> Mirror:
    return world.mirror({"repository": f"{source.host}/team/{name}", "tags": ["v*"]}, LOCAL, name=name)


@pytest.fixture
async def source(world: World) -> Registry:
    """Have a registry whose private image is in `local` already."""
    made = await world.registry("source")
    put_image(made, "team/secret")
    await world.run(mirror(world, made, "secret"))
    assert (await world.local(f"secret/blobs/{DIGEST}")).status == 200
    made.forget()
    return made


async def test_a_private_blob_is_not_taken_from_local(world: World, source: Registry) -> None:
    """The source says 404 for it: the image fails, the message says so, and no name of `local` opens it."""
    put_image(source, "team/evil", layer=False)
    run = await world.run(mirror(world, source, "evil"))
    (receipt,) = run.receipts
    assert (receipt.outcome, receipt.code) == (Outcome.REFUSED, "missing")
    assert f"{source.host}: GET /v2/team/evil/blobs/{DIGEST}: status 404" in receipt.detail
    assert (await world.local(f"evil/blobs/{DIGEST}")).status == 404
    assert world.local_tags("evil") == {}
    assert source.count("HEAD", f"team/evil/blobs/{DIGEST}") == 1


async def test_a_shared_blob_costs_one_head(world: World, source: Registry) -> None:
    """What another repository brought is not read again, and once it is linked here nobody asks for it any more."""
    put_image(source, "team/app")
    await world.run(mirror(world, source, "app"))
    assert (source.count("HEAD", "/blobs/"), source.count("GET", "/blobs/")) == (2, 0)
    assert (await world.local(f"app/blobs/{DIGEST}")).status == 200
    put_image(source, "team/app", "v2", note="two")
    await world.run(mirror(world, source, "app"))
    assert (source.count("HEAD", "/blobs/"), source.count("GET", "/blobs/")) == (2, 0)
    assert set(world.local_tags("app")) == {"v1", "v2"}


async def test_what_the_source_sends_costs_no_head(world: World) -> None:
    """The ordinary path is one GET for each blob, and none for the next image that has it."""
    source = await world.registry("source")
    put_image(source, "team/app")
    put_image(source, "team/app", "v2", note="two")
    await world.run(mirror(world, source, "app"))
    assert (source.count("HEAD", "/blobs/"), source.count("GET", "/blobs/")) == (0, 2)
