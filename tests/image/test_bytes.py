"""What arrives: the same bytes, whatever kind of image or artifact it is; and what does not."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from mirrord.model.digest import Digest
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import DockerRegistry, Image, build_image, push, require
from mirrord.testing.images import OCI_INDEX, Builder
from tests.support.artifacts import build_artifact, build_nested, build_schema1
from tests.support.localstore import sent
from tests.support.world import World, by_target

PLACE = "mirror/app"
FOREIGN = "https://layers.example.test/base.tar.gz"


def ten_platforms() -> Image:
    return build_image([f"linux/arm/v{n}" for n in range(10)], layers=1, shared_layers=1)


def artifact_in_index() -> Image:
    """Build an index with an image, and with a blob of a type that nobody knows."""
    builder, image = Builder(), build_image(["linux/amd64"])
    builder.include(image)
    entries = [dict(image.root), builder.blob("application/x-unheard-of", b"what is this")]
    return builder.image(builder.manifest({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}))


def shared_by_platforms() -> Image:
    """Build an index in which two platforms are the very same image."""
    builder, image = Builder(), build_image(["linux/amd64"])
    builder.include(image)
    entries = [{**image.root, "platform": {"os": "linux", "architecture": name}} for name in ("amd64", "386")]
    return builder.image(builder.manifest({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}))


KINDS: dict[str, Callable[[], Image]] = {
    "oci-index": build_image,
    "docker-list": lambda: build_image(docker=True),
    "single": lambda: build_image(["linux/amd64"]),
    "docker-single": lambda: build_image(["linux/amd64"], docker=True),
    "nested": lambda: build_nested(build_image(seed="a"), build_nested(build_image(seed="b"))),
    "ten-platforms": ten_platforms,
    "same-image-twice": shared_by_platforms,
    "empty-layer": lambda: build_image(empty_layer=True),
    "inline-data": lambda: build_image(inline_config=True),
    "no-media-type-inside": lambda: build_image(media_type_inside=False),
    "artifact": build_artifact,
    "artifact-with-subject": lambda: build_artifact(build_image(seed="subject")),
    "foreign-layer": lambda: build_image(docker=True, foreign=[FOREIGN]),
    "blob-in-index": artifact_in_index,
    "sha512": lambda: build_nested(build_image(algorithm="sha512")),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_byte_arrives(world: World, kind: str) -> None:
    """Manifests and blobs of every kind are at every target with the source's digests, media types and bytes."""
    image = KINDS[kind]()
    source, target = await world.registry("source"), await world.registry("one")
    await push(image, source, "team/app", ["main"])
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, target, LOCAL))
    assert run.result is Result.SUCCESS, run.receipts or run.plan
    assert target.tags == {PLACE: {"main": image.digest}}
    assert target.manifests[PLACE] == dict(image.manifests)
    assert target.blobs == dict(image.blobs)
    for digest, (media_type, body) in image.manifests.items():
        answer = await world.local(f"app/manifests/{digest}")
        assert (answer.status, answer.headers["Content-Type"]) == (200, media_type)
        assert sent(answer) == body
    for digest, data in image.blobs.items():
        answer = await world.local(f"app/blobs/{digest}")
        assert sent(answer) == data


async def test_a_sha512_root(world: World) -> None:
    """A root with a sha512 digest is there by that digest; under its tag the bytes are the same."""
    image = build_image(algorithm="sha512")
    source, target = await world.registry("source"), await world.registry("one")
    await push(image, source, "team/app", ["main"])
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, target, LOCAL))
    assert run.result is Result.SUCCESS
    assert target.manifests[PLACE].items() >= image.manifests.items()
    assert target.manifests[PLACE][target.tags[PLACE]["main"]] == (image.media_type, image.body)
    assert world.local_tags() == {"main": image.digest}


async def test_content_that_is_embedded_is_not_read(world: World) -> None:
    """A config whose bytes stand in its descriptor costs no request at the source."""
    image = build_image(inline_config=True)
    source, target = await world.registry("source"), await world.registry("one")
    await push(image, source, "team/app", ["main"])
    await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, target))
    assert source.count("GET", "/blobs/") == len(image.layers)


async def test_foreign_layers_stay_references(world: World) -> None:
    """Bad input 9: nobody asks for a foreign layer, at the source or at the address that it names."""
    elsewhere = await world.registry("elsewhere")
    image = build_image(["linux/amd64"], docker=True, foreign=[f"{elsewhere.url}/base.tar.gz"])
    source, target = await world.registry("source"), await world.registry("one")
    await push(image, source, "team/app", ["main"])
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, target, LOCAL))
    assert run.result is Result.SUCCESS
    foreign = Digest(image.document()["layers"][-1]["digest"])
    assert elsewhere.log == []
    assert [exchange for exchange in world.wire.exchanges if foreign.hex in exchange.target] == []


async def test_schema_1_is_refused_and_others_go_on(world: World) -> None:
    """Docker schema 1 is refused in one sentence that says what to do; the other tags of the mirror arrive."""
    source, target = await world.registry("source"), await world.registry("one")
    image = build_image()
    await push(build_schema1(), source, "team/app", ["old"])
    await push(image, source, "team/app", ["main"])
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["old", "main"]}, target)
    run = await world.run(mirror)
    assert run.result is Result.PARTIAL
    receipts = {receipt.step.item: receipt for receipt in run.receipts}
    assert (receipts["old"].outcome, receipts["old"].code) == (Outcome.REFUSED, "unsupported")
    assert "schema 1" in receipts["old"].detail
    assert target.tags == {PLACE: {"main": image.digest}}


async def test_schema_1_at_the_target_is_replaced(world: World) -> None:
    """A target that has schema 1 under the tag gets the image."""
    source, target = await world.registry("source"), await world.registry("one")
    image = build_image()
    await push(image, source, "team/app", ["main"])
    await push(build_schema1(), target, PLACE, ["main"])
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, target))
    assert run.result is Result.SUCCESS
    assert target.tags == {PLACE: {"main": image.digest}}


@pytest.mark.parametrize("what", ["child", "blob"])
async def test_missing_content_sets_no_tag(world: World, what: str) -> None:
    """Bad input 40: with a child or a blob missing at the source no target gets the tag, and all hear why."""
    image = build_image()
    source, target = await world.registry("source"), await world.registry("one")
    await push(image, source, "team/app", ["main"])
    if what == "child":
        del source.manifests["team/app"][image.document()["manifests"][0]["digest"]]
    else:
        source.content.links["team/app"].discard(image.layers[0])
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, target, LOCAL))
    assert run.result is Result.FAILED
    assert {name: receipt.code for name, receipt in by_target(run).items()} == {"one": "missing", LOCAL: "missing"}
    assert (target.tags, world.local_tags()) == ({}, {})
    assert target.content.dangling() == []


def too_deep(image: Image) -> Image:
    for _ in range(10):
        image = build_nested(image)
    return image


@pytest.mark.parametrize("change", [-1, 1])
async def test_sizes_must_be_true(world: World, change: int) -> None:
    """Bad input 36: a descriptor with a wrong size publishes nothing."""
    builder, image = Builder(), build_image(["linux/amd64"])
    builder.include(image)
    document = image.document()
    document["layers"][0]["size"] += change
    lie = builder.image(builder.manifest(document))
    source, target = await world.registry("source"), await world.registry("one")
    await push(lie, source, "team/app", ["main"])
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, target, LOCAL))
    assert {receipt.code for receipt in run.receipts} <= {"digest_mismatch", "broken"}
    assert (run.result, target.tags, world.local_tags()) == (Result.FAILED, {}, {})


async def test_depth_is_bounded(world: World) -> None:
    """Bad input 39: indexes nested deeper than eight are refused."""
    source, target = await world.registry("source"), await world.registry("one")
    await push(too_deep(build_image()), source, "team/app", ["main"])
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, target))
    assert [("nested deeper" in receipt.detail, receipt.code) for receipt in run.receipts] == [(True, "content")]


async def test_manifest_bytes_are_verified(world: World) -> None:
    """Bad input 35: a manifest with other bytes than its digest says is read once more, and then refused."""
    image = build_image(["linux/amd64"])
    source, target = await world.registry("source"), await world.registry("one")
    await push(image, source, "team/app", ["main"])
    source.faults.on("GET", "/manifests/", times=None).corrupt(20)
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, target))
    assert [receipt.code for receipt in run.receipts] == ["digest_mismatch"]
    assert (source.count("GET", "/manifests/"), target.tags) == (2, {})


async def test_real_registries(world: World) -> None:
    """From Debian's docker-registry to two others and the local store: the same bytes, each blob read once."""
    require("docker-registry")
    kinds = ("oci-index", "docker-list", "single", "same-image-twice", "empty-layer", "inline-data", "foreign-layer")
    images = {kind: KINDS[kind]() for kind in kinds}
    async with DockerRegistry(access_log=True) as source, DockerRegistry() as one, DockerRegistry() as two:
        for tag, image in images.items():
            await push(image, source.url, "team/app", [tag])
        mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, one, two, LOCAL)
        run = await world.run(mirror)
        assert run.result is Result.SUCCESS, [receipt for receipt in run.receipts if not receipt.good]
        assert world.local_tags() == {tag: image.digest for tag, image in images.items()}
        gets = [hit.path for hit in source.hits() if hit.method == "GET" and "/blobs/" in hit.path]
        read = [path.rpartition("/")[2] for path in gets]
        documents = [images["inline-data"].document(digest) for digest in list(images["inline-data"].manifests)[:-1]]
        embedded = {document["config"]["digest"] for document in documents}
        unique = {digest for image in images.values() for digest in image.blobs}
        assert (len(read), unique - set(read) <= embedded | {Digest.of(b"")}) == (len(set(read)), True)
        for target in (one, two):
            back = world.mirror({"repository": f"{target.host}/{PLACE}", "tags": ["*"]}, LOCAL, name="back")
            assert (await world.run(back)).result in (Result.SUCCESS, Result.NOOP)
            assert world.local_tags("back") == world.local_tags()
        world.later(days=1)
        assert (await world.run(mirror)).result is Result.NOOP


def test_the_table_is_sound() -> None:
    """Every kind of the table is valid JSON with true digests, so that a failure is never the table's."""
    for make in KINDS.values():
        image = make()
        for digest, (_, body) in image.manifests.items():
            assert Digest.of(body, Digest(digest).algorithm) == digest
            assert json.loads(body)
