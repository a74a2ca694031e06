"""Registries that refuse HEAD: a GET, or the upload itself, decides (google/go-containerregistry#1691)."""

from __future__ import annotations

import pytest

from mirrord.model.plan import Action
from mirrord.model.run import Outcome, Result
from mirrord.testing import Registry, build_image, push
from tests.support.auth import Auth
from tests.support.world import World

ONE = ["linux/amd64"]
UNSURE = [400, 401, 403, 404, 405, 500, 501]


def source_of(source: Registry) -> dict[str, str]:
    return {"repository": f"{source.host}/team/app:main"}


@pytest.mark.parametrize("status", UNSURE)
async def test_a_source_that_refuses_head_is_asked_by_get(world: World, status: int) -> None:
    """A5: 400 to 501 for HEAD of manifests and 200 for GET: the image is copied, after one more request for its tag."""
    source, target = await world.registry("source"), await world.registry("target")
    await push(build_image(ONE), source, "team/app", ["main"])
    refused = source.faults.on("HEAD", "/manifests/", times=None).status(status)
    source.log.clear()
    run = await world.run(world.mirror(source_of(source), target))
    assert run.result is Result.SUCCESS, run
    assert refused.hits == 1
    asked = [(one.method, one.path) for one in source.log if "/manifests/main" in one.path]
    assert [method for method, _ in asked] == ["HEAD", "GET"]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_source_that_is_in_trouble_is_not_asked_more(world: World, status: int) -> None:
    """A5: what says "later" is no refusal: no GET is sent after it."""
    source, target = await world.registry("source"), await world.registry("target")
    await push(build_image(ONE), source, "team/app", ["main"])
    source.faults.on("HEAD", "/manifests/", times=None).status(status)
    source.log.clear()
    run = await world.run(world.mirror(source_of(source), target))
    assert run.result in (Result.FAILED, Result.DEFERRED)
    assert {one.method for one in source.log if "/manifests/" in one.path} == {"HEAD"}


async def test_a_source_without_the_tag_is_missing(world: World) -> None:
    """404 for HEAD and GET alike: the tag is not there, and the run says so."""
    source, target = await world.registry("source"), await world.registry("target")
    run = await world.run(world.mirror(source_of(source), target))
    assert run.result is Result.FAILED
    assert run.plan is not None
    assert "main" in run.plan.missing[0]
    assert "does not exist" in run.plan.missing[0]


@pytest.mark.parametrize("status", [500, 501])
async def test_a_target_that_fails_head_is_asked_by_get(world: World, status: int) -> None:
    """A5: a target that fails HEAD and knows GET: what is there stays, what is not there is written."""
    source, target = await world.registry("source"), await world.registry("target")
    image = build_image(ONE)
    await push(image, source, "team/app", ["v1", "v2"])
    await push(image, target, "mirror/app", ["v1"])
    target.faults.on("HEAD", "/(manifests|blobs)/", times=None).status(status)
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app", "tags": ["v1", "v2"]}, target))
    assert run.result is Result.SUCCESS, run
    assert [step.item for step in run.plan.steps if step.active] == ["v2"] if run.plan else False
    assert target.tags["mirror/app"] == {"v1": image.digest, "v2": image.digest}


@pytest.mark.parametrize("status", [400, 401, 403, 405])
async def test_a_target_that_denies_what_it_lacks_is_written(world: World, status: int) -> None:
    """A5: a target whose HEAD and GET refuse what is not there takes the image; its blobs are asked for once each."""
    source, target = await world.registry("source"), await world.registry("target")
    image = build_image(ONE)
    await push(image, source, "team/app", ["main"])
    target.faults.on("HEAD|GET", "/(manifests|blobs)/", times=None).status(status)
    mirror = world.mirror(source_of(source), target)
    run = await world.run(mirror)
    assert run.result is Result.SUCCESS, run
    target.faults.clear()
    assert target.tags["mirror/app"] == {"main": image.digest}


async def test_a_denying_target_keeps_what_it_speaks_of(world: World) -> None:
    """One name is denied and the other is there: only the one that is denied is written."""
    source, target = await world.registry("source"), await world.registry("target")
    image = build_image(ONE)
    await push(image, source, "team/app", ["v1", "v2"])
    await push(image, target, "mirror/app", ["v1"])
    target.faults.on("HEAD|GET", "/manifests/v2", times=None).status(403)
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["v1", "v2"]}, target)
    plan = await world.plan(mirror)
    assert {step.item: step.action for step in plan.steps} == {"v1": Action.KEEP, "v2": Action.COPY}
    assert (await world.run(mirror)).result is Result.SUCCESS
    target.faults.clear()
    assert target.tags["mirror/app"] == {"v1": image.digest, "v2": image.digest}


async def test_a_target_that_lets_nobody_push_costs_the_source_nothing(world: World) -> None:
    """A wrong password at a target: its own words are reported, and no blob is read for it."""
    source = await world.registry("source")
    target = await world.registry("target", auth=Auth(basic=("u", "right")))
    await push(build_image(ONE), source, "team/app", ["main"])
    source.log.clear()
    run = await world.run(world.mirror(source_of(source), target))
    assert run.result is Result.FAILED
    (receipt,) = run.receipts
    assert (receipt.outcome, receipt.code) == (Outcome.REFUSED, "denied")
    assert "status 401" in receipt.detail
    assert not [one.path for one in source.log if "/blobs/" in one.path]
