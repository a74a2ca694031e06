"""Artifacts with a subject, at registries with and without the referrers API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest

from mirrord.errors import BusyError, TooLargeError
from mirrord.model.run import Result
from mirrord.syncer.serving import Request
from mirrord.syncer.values import LOCAL
from mirrord.syncers.image import front
from mirrord.testing import DockerRegistry, Image, Registry, build_image, push, require
from mirrord.wire.oci.descriptor import OCI_INDEX, index_of
from tests.support.artifacts import build_artifact
from tests.support.localstore import said
from tests.support.world import World

IMAGE = build_image(["linux/amd64"])
ABOUT = [build_artifact(IMAGE, f"application/vnd.example.{kind}", kind.encode()) for kind in ("sbom", "sig", "att")]
TAG = IMAGE.digest.replace(":", "-")
TAGS = ["v1", "about0", "about1", "about2"]
TAGGED: dict[str, Any] = {"signatures": {"copy": False}}  # what is about an image is copied by its tag alone


async def filled(world: World) -> dict[str, Any]:
    source = await world.registry("source")
    for tag, image in zip(TAGS, (IMAGE, *ABOUT), strict=True):
        await push(image, source, "team/app", [tag])
    return {"repository": f"{source.host}/team/app", "tags": ["v1", "about*"]}


async def listed(host: str) -> Mapping[str, Any]:
    kind = "application/vnd.oci.image.index.v1+json"  # docker-registry answers 404 to who does not accept it
    url = f"http://{host}/v2/mirror/app/manifests/{TAG}"
    async with aiohttp.ClientSession(headers={"Accept": kind}) as client, client.get(url) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
        document: Mapping[str, Any] = json.loads(await answer.read())
        return document


def entry(image: Image, kind: str) -> dict[str, object]:
    return {
        "mediaType": image.media_type,
        "digest": image.digest,
        "size": len(image.body),
        "artifactType": f"application/vnd.example.{kind}",
    }


async def test_a_registry_without_the_api_gets_the_tag(world: World) -> None:
    """A6, go-containerregistry#2205: docker-registry 2.8 answers no OCI-Subject: the index lists all artifacts."""
    require("docker-registry")
    source = await filled(world)
    async with DockerRegistry() as target:
        run = await world.run(world.mirror(source, target))
        assert run.result is Result.SUCCESS, [one.detail for one in run.receipts]
        found = (await listed(target.host))["manifests"]
        assert sorted(found, key=lambda one: one["artifactType"]) == [
            entry(ABOUT[2], "att"),
            entry(ABOUT[0], "sbom"),
            entry(ABOUT[1], "sig"),
        ]
        world.store.__init__()  # type: ignore[misc]  # a lost record: everything is asked for again
        assert (await world.run(world.mirror(source, target))).result is Result.NOOP
        assert (await listed(target.host))["manifests"] == found


async def test_what_others_listed_stays(world: World) -> None:
    """An index that is there keeps its entries, whoever wrote them."""
    require("docker-registry")
    source = await filled(world)
    more: dict[str, Any] = {"as": "app", **TAGGED}
    async with DockerRegistry() as target:
        await world.run(world.mirror({**source, "tags": ["v1", "about0"]}, target, **TAGGED))
        await world.run(world.mirror({**source, "tags": ["about1"]}, target, name="other", **more))
        assert [one["digest"] for one in (await listed(target.host))["manifests"]] == [ABOUT[0].digest, ABOUT[1].digest]


async def test_a_registry_with_the_api_gets_no_tag(world: World) -> None:
    """Where OCI-Subject is answered, nothing but the asked-for tags is written, and nothing more is asked."""
    source, target = await filled(world), await world.registry("target")
    assert (await world.run(world.mirror(source, target))).result is Result.SUCCESS
    assert sorted(target.tags["mirror/app"]) == sorted(TAGS)
    assert target.count("*", TAG) == 0


async def test_a_list_that_others_overwrite(world: World) -> None:
    """Another client replaces the index each time: the step fails with that reason, and does not try for ever."""
    source, target = await filled(world), await world.registry("target")
    target.faults.on("PUT", f"/manifests/{ABOUT[0].digest}", times=None).header("OCI-Subject", None)
    puts = target.faults.on("PUT", f"/manifests/{TAG}", times=None).then(lambda: _forget(target))
    run = await world.run(world.mirror({**source, "tags": ["v1", "about0"]}, target, **TAGGED))
    assert run.result is Result.PARTIAL
    assert [receipt.code for receipt in run.receipts if not receipt.good] == [BusyError.code]
    assert puts.hits == 5


async def test_a_list_that_others_overwrite_later(world: World) -> None:
    """Another client that has read the list before us writes it after us: it is read again before the tag is set."""
    require("docker-registry")
    source, target = await filled(world), await world.registry("target", referrers=False)
    other = OCI_INDEX, index_of([entry(ABOUT[2], "att")])
    late = target.faults.on("GET", f"/manifests/{TAG}", skip=5).then(
        lambda: target.content.put_manifest("mirror/app", *other, TAG)
    )
    assert (await world.run(world.mirror({**source, "tags": ["v1"]}, target))).result is Result.SUCCESS
    assert late.hits == 1
    assert {one["digest"] for one in (await listed(target.host))["manifests"]} == {one.digest for one in ABOUT}
    paths = [exchange.path.rpartition("/")[2] for exchange in target.log if exchange.method == "PUT"]
    assert paths.index("v1") > max(number for number, path in enumerate(paths) if path == TAG)


@pytest.mark.parametrize("first", [403, 500, None], ids=["refused", "outage", "killed"])
async def test_what_came_without_being_listed_is_listed_by_the_next_run(world: World, first: int | None) -> None:
    """The artifact is there by digest, its listing failed or never began: the next run lists it, then tags it."""
    source, target = await filled(world), await world.registry("target")
    target.faults.on("PUT", f"/manifests/{ABOUT[0].digest}", times=None).header("OCI-Subject", None)
    mirror = world.mirror({**source, "tags": ["v1", "about0"]}, target, **TAGGED)
    if first is None:
        await push(ABOUT[0], target, "mirror/app", [])
    else:
        target.faults.on("PUT", f"/manifests/{TAG}", times=1 if first == 403 else 9).status(first)
        assert (await world.run(mirror)).result is Result.PARTIAL
        assert sorted(target.tags["mirror/app"]) == ["v1"]
        target.faults.clear()
        target.faults.on("PUT", f"/manifests/{ABOUT[0].digest}", times=None).header("OCI-Subject", None)
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert sorted(target.tags["mirror/app"]) == sorted(["v1", "about0", TAG])
    assert [one["digest"] for one in (await listed(target.host))["manifests"]] == [ABOUT[0].digest]


async def test_more_than_fits_one_list(world: World) -> None:
    """Three artifacts with 1.9 MB of annotations: a list holds two; the third fails with the reason, pages hold all."""
    source, target = await world.registry("source"), await world.registry("target")
    large = [build_artifact(IMAGE, data=bytes([n]), annotations={"n": str(n) * 1_900_000}) for n in range(3)]
    for tag, image in zip(("v1", "t0", "t1", "t2"), (IMAGE, *large), strict=True):
        await push(image, source, "team/app", [tag])
    target.faults.on("PUT", "/manifests/sha256:", times=None).header("OCI-Subject", None)
    run = await world.run(
        world.mirror({"repository": f"{source.host}/team/app", "tags": ["v1", "t*"]}, target, LOCAL, **TAGGED)
    )
    failed = [receipt for receipt in run.receipts if not receipt.good]
    assert [receipt.code for receipt in failed] == [TooLargeError.code]
    assert failed[0].detail.startswith(f"{target.host}/mirror/app:{TAG}: the list of what refers to it would have 57")
    found, query = [], dict[str, str]()
    for _ in range(2):
        page = await front.respond(Request("GET", "/v2/", f"app/referrers/{IMAGE.digest}", query), world.services)
        assert len(said(page)) <= 4 << 20
        found += [one["digest"] for one in json.loads(said(page))["manifests"]]
        link = page.headers.get("Link", "").partition(">")[0]
        query = dict(parse_qsl(urlsplit(link).query))
    assert not query
    assert found == sorted(image.digest for image in large)


def _forget(target: Registry) -> None:
    target.tags["mirror/app"].pop(TAG, None)
