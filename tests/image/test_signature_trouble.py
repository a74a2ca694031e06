"""Registries that fail, refuse or lie about signatures: what happens to images, and what the operator can do."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

import pytest

from mirrord.model.digest import Digest
from mirrord.model.run import Result
from mirrord.syncers.image.transfer.referrers import WAY_OUT
from mirrord.testing import Image, build_image, push
from mirrord.testing.distribution import Immutable
from mirrord.wire.oci.descriptor import OCI_INDEX, OCI_MANIFEST, index_of
from tests.support.artifacts import build_artifact, cosigned
from tests.support.world import World

IMAGE: Final = build_image(["linux/amd64"], layers=1)
SIGNATURE: Final = build_artifact(IMAGE, "application/vnd.dev.sigstore.bundle.v0.3+json", b"signature")
SBOM: Final = build_artifact(IMAGE, "application/spdx+json", b"sbom")
SIGNED_SBOM: Final = build_artifact(SBOM, "application/vnd.dev.sigstore.bundle.v0.3+json", b"signature of the sbom")
AN_INDEX: Final = {"Content-Type": OCI_INDEX}


def cosign_tag(image: Image) -> str:
    return image.digest.replace(":", "-") + ".sig"


async def test_one_repository_that_denies(world: World) -> None:
    """403 for the referrers of one repository says nothing of another one: its signatures come along."""
    source, target = await world.registry("source"), await world.registry("one")
    for name in ("private", "app"):
        await push(IMAGE, source, f"team/{name}", ["v1", "v2"])
        await push(SIGNATURE, source, f"team/{name}", [])
    source.faults.on("GET", "/v2/team/private/referrers/", times=None).status(403)
    for number, name in enumerate(("private", "app", "private")):
        wanted = {"repository": f"{source.host}/team/{name}", "tags": ["v1", "v2"]}
        keys: dict[str, Any] = {"as": f"copy{number}"}
        run = await world.run(world.mirror(wanted, target, name=f"mirror{number}", **keys))
        assert run.result is Result.SUCCESS
        assert {one.referrers for one in run.receipts} == {1 if name == "app" else 0}
    assert source.count("GET", "/v2/team/private/referrers/") == 1


@pytest.mark.parametrize("status", [400, 401, 404, 405, 406, 410, 415, 501])
async def test_statuses_that_say_no(world: World, status: int) -> None:
    """Each is one request, and the images get through."""
    source, target = await world.registry("source"), await world.registry("one")
    tags = [f"v{number}" for number in range(4)]
    for tag in tags:
        await push(build_image(["linux/amd64"], layers=1, seed=tag), source, "team/app", [tag])
    source.faults.on("GET", "/referrers/", times=None).status(status)
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app", "tags": tags}, target))
    assert run.result is Result.SUCCESS
    assert source.count("GET", "/referrers/") == 1


async def test_an_api_that_fails_is_not_asked_in_a_row(world: World) -> None:
    """The first request finds out whether there is an API; when it fails, the other images do not wait in line."""
    source, target = await world.registry("source"), await world.registry("one")
    world.parallel = 4
    tags = [f"v{number}" for number in range(4)]
    for tag in tags:
        await push(build_image(["linux/amd64"], layers=1, seed=tag, index=False), source, "team/app", [tag])
    source.faults.on("GET", "/referrers/", times=4).status(500)
    held = [source.faults.on("GET", "/referrers/").hold() for _ in tags[1:]]

    def release() -> None:
        for one in held:
            one.release()

    held[-1].do(release)
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app", "tags": tags}, target))
    assert Counter(one.outcome.value for one in run.receipts) == {"failed": 1, "done": 3}
    (detail,) = (one.detail for one in run.receipts if one.bad)
    assert "status 500; " + WAY_OUT in detail


async def test_a_target_that_refuses_signatures(world: World) -> None:
    """Harbor 1, Nexus and others refuse such manifests: the error names it, the way out, and that way leads out."""
    source, target = await world.registry("source"), await world.registry("one")
    await push(IMAGE, source, "team/app", ["v1"])
    await push(SIGNATURE, source, "team/app", [])
    refusal = b'{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}'
    target.faults.on("PUT", f"/manifests/{SIGNATURE.digest}", times=None).status(400, refusal)
    wanted = {"repository": f"{source.host}/team/app:v1"}
    run = await world.run(world.mirror(wanted, target))
    assert run.result is Result.FAILED
    assert run.receipts[0].detail.startswith(f"{SIGNATURE.digest}, which is about {IMAGE.digest}: ")
    assert run.receipts[0].detail.endswith(f"status 400: MANIFEST_INVALID: manifest invalid; {WAY_OUT}")
    assert (await world.run(world.mirror(wanted, target, signatures={"copy": False}))).result is Result.SUCCESS


async def test_tags_that_a_target_freezes(world: World) -> None:
    """A tag of cosign that the source moves, at a target whose tags never move: an error that says the way out."""
    source, target = await world.registry("source"), await world.registry("one", immutable_tags=Immutable())
    await push(IMAGE, source, "team/app", ["v1"])
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, target)
    results = []
    for signatures in (["a"], ["a", "b"], ["a", "b"]):
        await push(cosigned(*signatures), source, "team/app", [cosign_tag(IMAGE)])
        run = await world.run(mirror)
        results.append(run.result)
        world.later(days=1)
    assert results == [Result.SUCCESS, Result.FAILED, Result.FAILED]
    assert run.receipts[0].code == "immutable"
    assert run.receipts[0].detail.endswith(f"tag is immutable and cannot be overwritten; {WAY_OUT}")


@pytest.mark.parametrize("many", ["20000 entries", "5 MiB", "large signature"])
async def test_too_much_about_an_image(world: World, many: str) -> None:
    """Lists and signatures above the limits: one clear error, without reading on, that says how to go on."""
    source, target = await world.registry("source"), await world.registry("one")
    await push(IMAGE, source, "team/app", ["v1"])
    fault = source.faults.on("GET", "/referrers/", times=None)
    count = {"20000 entries": 20_000, "5 MiB": 40_000}.get(many, 0)
    if count:
        entries = [
            {"mediaType": OCI_MANIFEST, "digest": Digest.of(f"{one}".encode()), "size": 5} for one in range(count)
        ]
        fault.status(200, index_of(entries), AN_INDEX)
    else:
        large = build_artifact(IMAGE, annotations={"x": "y" * (4 << 20)})
        fault.status(200, index_of([dict(large.root)]), AN_INDEX)
        source.content.put_manifest("team/app", OCI_MANIFEST, large.body, digest=Digest.of(large.body))
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:v1"}, target))
    assert {one.code for one in run.receipts} == {"too_large"}
    assert run.receipts[0].detail.endswith(WAY_OUT)
    assert source.count("GET", "/referrers/") == 1
    assert source.count("GET", "/manifests/") <= 2


@pytest.mark.parametrize("wrong", ["not there", "about another", "no descriptor", "only the target has them"])
async def test_what_is_left_out_is_not_planned_again(world: World, wrong: str) -> None:
    """What a run would leave out again is not lacking: the runs of the days after have nothing to do."""
    source, target = await world.registry("source"), await world.registry("one")
    await push(IMAGE, source, "team/app", ["v1"])
    await push(SIGNED_SBOM, source, "team/app", [])
    entries: list[object] = [7]
    if wrong in ("not there", "about another"):
        entries = [dict((SBOM if wrong == "not there" else SIGNED_SBOM).root)]
    if wrong == "only the target has them":
        await push(build_artifact(data=b"ours"), target, "mirror/app", [cosign_tag(IMAGE)])
        await push(build_artifact(data=b"theirs"), source, "team/app", [cosign_tag(IMAGE)])
    else:
        source.faults.on("GET", "/referrers/", times=None).status(200, index_of(entries), AN_INDEX)
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, target)
    run = await world.run(mirror)
    assert run.result is Result.SUCCESS
    assert len(run.remarks) == 1
    for _ in range(2):
        world.later(days=1)
        assert (await world.run(mirror)).result is Result.NOOP


async def test_a_wrong_list_hides_nothing(world: World) -> None:
    """A signature that the list of another manifest has, too, is left out there, and goes with what it is about."""
    source, target = await world.registry("source"), await world.registry("one")
    image = build_image(["linux/amd64", "linux/arm64"], layers=1)
    signature = build_artifact(image, "application/vnd.dev.sigstore.bundle.v0.3+json", b"signature")
    await push(image, source, "team/app", ["v1"])
    await push(signature, source, "team/app", [])
    _, child = json.loads(image.body)["manifests"]
    wrong = index_of([dict(signature.root)])
    source.faults.on("GET", f"/referrers/{child['digest']}", times=None).status(200, wrong, AN_INDEX)
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:v1"}, target))
    said = f"{signature.digest}, which is about {child['digest']}: it says that it is about {image.digest}"
    assert run.remarks == (f"one: left out: {said}",)
    assert [one.referrers for one in run.receipts] == [1]
    assert signature.digest in target.manifests["mirror/app"]
