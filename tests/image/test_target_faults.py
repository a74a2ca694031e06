"""Targets that refuse a manifest or lose content under our hands, and sources that turn into something else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from mirrord import failpoints
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import DockerRegistry, Image, Registry, build_image, push, require
from mirrord.wire.oci import client
from tests.support.walking import walk
from tests.support.world import World, by_target

PLACE = "mirror/app"
ONE = build_image(["linux/amd64"], layers=2, layer_size=5000)
BOTH = build_image(["linux/amd64", "linux/arm64"], layers=1, layer_size=5000)
LONG = b'{"errors":[{"code":"MANIFEST_INVALID","message":"' + b"schema " * 2000 + b'"}]}'
LOGIN = b"<!DOCTYPE html><title>Sign in to the guest network</title>"


@pytest.fixture
async def real() -> AsyncIterator[DockerRegistry]:
    require("docker-registry")
    async with DockerRegistry(access_log=True) as registry:
        yield registry


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAUSES", (0.0, 0.0))


async def filled(world: World, image: Image, *tags: str) -> Registry:
    source = await world.registry("source")
    await push(image, source, "team/app", tags or ("main",))
    return source


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, LONG, "MANIFEST_INVALID"),
        (413, b"", "413"),
        (403, b'{"errors":[{"code":"DENIED","message":"quota exceeded"}]}', "quota exceeded"),
        (415, b'{"errors":[{"code":"UNSUPPORTED","message":"unknown media type"}]}', "unknown media type"),
    ],
)
async def test_a_manifest_that_a_target_refuses(world: World, status: int, body: bytes, said: str) -> None:
    """F24: asked once, told in the target's words and in at most a kilobyte; no name there, and others are complete."""
    source, one, two = await filled(world, ONE), await world.registry("one"), await world.registry("two")
    refused = one.faults.on("PUT", "/manifests/", times=None).status(status, body)
    receipts = by_target(await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, one, two, LOCAL)))
    assert refused.hits == 1
    assert receipts["one"].outcome is Outcome.REFUSED
    assert said in receipts["one"].detail
    assert len(receipts["one"].detail) < 1200
    assert one.tags == {}
    assert two.tags[PLACE] == {"main": ONE.digest}
    assert world.local_tags() == {"main": ONE.digest}


@pytest.mark.parametrize("image", [ONE, BOTH], ids=["image", "index"])
async def test_a_target_that_loses_content_gets_it_again(world: World, real: DockerRegistry, image: Image) -> None:
    """F25: a garbage collection takes what was just pushed, before its manifest came: it is sent once more."""
    source, mirror = await filled(world, image), Path(f"{real.folder}/content/docker/registry/v2")

    def collected() -> None:
        failpoints.disarm()
        for number, folder in enumerate(("blobs", f"repositories/{PLACE}/_layers")):
            (mirror / folder).rename(mirror / f"collected-{number}")  # not removed: the registry may be writing there

    failpoints.arm("push.blob", failpoints.after(len(image.blobs) - 1, collected))
    try:
        run = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, real))
    finally:
        failpoints.disarm()
    assert run.result is Result.SUCCESS
    assert await walk(real, PLACE) == {"main": image.digest}
    for blob in image.blobs:
        assert source.count("GET", f"/blobs/{blob}") == 1  # what is sent again comes from the spool


@pytest.mark.parametrize("image", [ONE, BOTH], ids=["image", "index"])
async def test_a_target_that_loses_what_it_had(world: World, image: Image) -> None:
    """F25: what a target said to have is gone when the manifest comes: it is sent, once."""
    source, target = await filled(world, image), await world.registry("one")
    for blob, data in image.blobs.items():
        target.content.put_blob(PLACE, data)
        target.faults.on("HEAD", f"/blobs/{blob}").then(partial(target.content.links[PLACE].discard, blob))
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, target))
    assert run.result is Result.SUCCESS
    assert target.tags[PLACE] == {"main": image.digest}
    assert target.count("PUT", "/blobs/uploads/") == len(image.blobs)
    assert target.content.dangling() == []


async def test_a_target_that_loses_what_is_written_beside(world: World) -> None:
    """F25: when one platform's content is found gone, that of another one, whose manifest is there, comes back too."""
    source, target = await filled(world, BOTH), await world.registry("one")
    first, last = (digest for digest in BOTH.manifests if digest != BOTH.digest)
    held = target.faults.on("PUT", f"/manifests/{last}").hold()

    def collected() -> None:
        failpoints.disarm()
        target.content.links[PLACE].difference_update(BOTH.blobs)
        held.release()

    failpoints.arm("push.manifest", collected)
    try:
        run = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, target))
    finally:
        failpoints.disarm()
    assert run.result is Result.SUCCESS
    assert target.count("PUT", f"/manifests/{first}") > 1
    assert target.tags[PLACE] == {"main": BOTH.digest}
    assert target.content.dangling() == []
    assert source.sent("/blobs/") == sum(map(len, BOTH.blobs.values()))


async def test_a_target_that_never_keeps_content(world: World) -> None:
    """F25: once more, and no more: a registry that refuses each time gets everything twice, and the run says why."""
    source, target = await filled(world, ONE), await world.registry("one")
    body = b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}'
    target.faults.on("PUT", "/manifests/", times=None).status(400, body)
    (receipt,) = (await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, target))).receipts
    assert receipt.bad
    assert "MANIFEST_BLOB_UNKNOWN" in receipt.detail
    assert target.count("PUT", "/blobs/uploads/") == 2 * len(ONE.blobs)
    assert target.tags == {}


@pytest.mark.parametrize("page", ["list", "manifest", "everything"])
async def test_a_source_behind_a_login_page_takes_nothing_away(world: World, page: str) -> None:
    """F44: 200 and a web page instead of tags or manifests: the run fails and says so, and all that is there stays."""
    source, target = await filled(world, ONE, "v1", "v2"), await world.registry("one")
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, target, LOCAL)
    assert (await world.run(mirror)).result is Result.SUCCESS
    world.later(days=2)
    pattern = {"list": "/tags/list", "manifest": "/manifests/", "everything": ""}[page]
    source.faults.on("*", pattern, times=None).status(200, LOGIN, {"Content-Type": "text/html"})
    run = await world.run(mirror)
    assert run.result in (Result.FAILED, Result.PARTIAL)
    assert target.tags[PLACE] == dict.fromkeys(["v1", "v2"], ONE.digest)
    assert world.local_tags() == dict.fromkeys(["v1", "v2"], ONE.digest)


async def test_a_source_whose_tags_are_gone_takes_nothing_away(world: World) -> None:
    """F44: a registry that was emptied, and one that was emptied and filled anew: what was mirrored stays."""
    source, target = await filled(world, ONE, "v1", "v2"), await world.registry("one")
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, target)
    assert (await world.run(mirror)).result is Result.SUCCESS
    world.later(days=2)
    source.tags["team/app"].clear()
    run = await world.run(mirror)
    assert run.result not in (Result.SUCCESS, Result.NOOP)
    assert target.tags[PLACE] == dict.fromkeys(["v1", "v2"], ONE.digest)
    await push(BOTH, source, "team/app", ["v3"])
    assert (await world.run(mirror)).result is not Result.FAILED
    assert target.tags[PLACE] == {"v1": ONE.digest, "v2": ONE.digest, "v3": BOTH.digest}


async def test_a_tag_that_moves_while_it_is_copied(world: World) -> None:
    """F19: what was planned is copied whole, by its digest; the new one comes with the next run, whole as well."""
    source, target = await filled(world, ONE), await world.registry("one")
    mirror = world.mirror({"repository": f"{source.host}/team/app:main"}, target)
    content = source.content

    def moved() -> None:
        for digest, (kind, body) in BOTH.manifests.items():
            content.put_manifest("team/app", kind, body, digest=digest)
        for digest, data in BOTH.blobs.items():
            content.put_blob("team/app", data, digest)
        content.tags["team/app"]["main"] = BOTH.digest

    source.faults.on("GET", "/blobs/").do(moved)
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert target.tags[PLACE] == {"main": ONE.digest}
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert target.tags[PLACE] == {"main": BOTH.digest}
