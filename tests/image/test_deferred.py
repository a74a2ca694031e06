"""A host that limits the rate puts a run off: nobody hammers it, others go on, and what was copied stays (F12)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import accumulate
from typing import Any

import pytest

from mirrord.model.run import Outcome, Result
from mirrord.testing import Image, Registry, build_image, push
from mirrord.testing.exchange import Moment
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.secret import Credential, Secret
from tests.support.auth import Auth
from tests.support.layouts import write_layout
from tests.support.world import World

TAGS = [f"v{number}" for number in range(20)]
LIMITED = {"Retry-After": "3000"}


def image(name: str) -> Image:
    return build_image(["linux/amd64"], layers=1, layer_size=1000, seed=name, index=False)


async def filled(world: World, name: str = "source") -> Registry:
    source = await world.registry(name)
    for tag in TAGS:
        await push(image(tag), source, "team/app", [tag])
    return source


def all_of(source: Registry) -> dict[str, Any]:
    return {"repository": f"{source.host}/team/app", "tags": TAGS}


async def test_a_budget_that_runs_out_in_the_middle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five images, the sixth is told to come back: nobody asks for the others, and the next run brings them alone."""
    source, target = await filled(world), await world.registry("one")
    world.parallel = 1
    source.faults.on("GET", "/manifests/", times=None, skip=5).status(429, headers=LIMITED)
    run = await world.run(world.mirror(all_of(source), target))
    assert run.result is Result.DEFERRED
    assert [one.outcome for one in run.receipts] == [Outcome.DONE] * 5 + [Outcome.FAILED] * 15
    assert {one.code for one in run.receipts if one.bad} == {"throttled"}
    assert len(target.tags["mirror/app"]) == 5
    assert source.count("GET", "/manifests/") == 6
    assert run.until is not None
    assert abs(run.until - run.finished - timedelta(seconds=3000)) < timedelta(seconds=60)
    before = len(source.log)
    again = await world.run(world.mirror(all_of(source), target, name="other"))
    assert (again.result, len(source.log)) == (Result.DEFERRED, before)
    source.faults.clear()
    monkeypatch.setattr("mirrord.wire.http.quotas.monotonic", lambda: 1e9)
    world.later(hours=1)
    run = await world.run(world.mirror(all_of(source), target))
    assert (run.result, run.until, len(target.tags["mirror/app"])) == (Result.SUCCESS, None, 20)
    assert source.count("GET", "/manifests/") == 6 + 15


async def test_a_hundred_mirrors_go_on_at_the_same_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One host puts all off: nobody asks in its pause, one request after it finds out, and then all end (F12)."""
    source, target, now = await filled(world), await world.registry("one"), [0.0]
    monkeypatch.setattr("mirrord.wire.http.quotas.monotonic", lambda: now[0])
    few = {"repository": f"{source.host}/team/app", "tags": TAGS[:2]}
    mirrors = [world.mirror(few, target, name=f"m{number}") for number in range(100)]

    async def all_run() -> tuple[set[Result], int]:
        before = len(source.log)
        runs = await asyncio.gather(*map(world.run, mirrors))
        return {run.result for run in runs}, len(source.log) - before

    at_once = HostPolicy("").requests
    source.faults.on("*", "/v2/", times=None).status(429, headers=LIMITED)
    result, asked = await all_run()
    assert (result, asked <= at_once) == ({Result.DEFERRED}, True)
    assert await all_run() == ({Result.DEFERRED}, 0)
    for _ in range(3):
        now[0] += 3001
        assert await all_run() == ({Result.DEFERRED}, 1)
        assert await all_run() == ({Result.DEFERRED}, 0)
    source.faults.clear()
    now[0] += 3001
    result, asked = await all_run()
    assert result == {Result.SUCCESS}
    assert sum(len(tags) for tags in target.tags.values()) == 2 * 100
    log = source.log[-asked:]
    marks = sorted((one.at(moment), step) for one in log for moment, step in ((Moment.STARTED, 1), (Moment.ENDED, -1)))
    assert max(accumulate(step for _, step in marks)) <= at_once


async def test_other_hosts_go_on(world: World) -> None:
    """Of a list over two registries one limits the rate: all of the other one is mirrored, and the rest put off."""
    limited, free, target = await filled(world, "a"), await filled(world, "b"), await world.registry("one")
    limited.faults.on("*", "/v2/", times=None).status(429, headers=LIMITED)
    lines = [f"{source.host}/team/app:{tag}" for source in (limited, free) for tag in TAGS[:8]]
    (world.folder / "images.txt").write_text("\n".join(lines))
    run = await world.run(world.mirror({"list": str(world.folder / "images.txt")}, target))
    assert run.result is Result.DEFERRED, run.error
    assert run.until is not None
    assert run.plan is not None
    assert run.plan.missing_code == "throttled"
    assert [len(tags) for tags in target.tags.values()] == [8]
    assert len(limited.log) <= 8  # those that were under way when the first answer came


async def test_a_target_that_limits_the_rate(world: World) -> None:
    """The other target gets everything; the one that asks for patience gets no further request (F12, F22)."""
    source, one, two = await filled(world), await world.registry("one"), await world.registry("two")
    world.parallel = 1
    one.faults.on("POST", "/blobs/uploads/", times=None).status(429, headers=LIMITED)
    run = await world.run(world.mirror(all_of(source), one, two))
    assert run.result is Result.DEFERRED
    assert (len(two.tags["mirror/app"]), one.tags) == (20, {})
    assert one.count("POST", "/blobs/uploads/") <= 2  # layer and config of the first image
    assert {receipt.code for receipt in run.receipts if receipt.bad} == {"throttled"}


async def test_a_revoked_login_is_not_hammered(world: World) -> None:
    """401 for one image: no further image of the repository asks, and the message says whose login it is (F21)."""
    source, target = await filled(world), await world.registry("one")
    world.parallel = 1
    http = world.services.http
    book = HostBook({source.host: HostPolicy(source.host, Credential("me", Secret("revoked-password")))})
    assert isinstance(http.book, HostBook)
    http.book.policies.update(book.policies)  # type: ignore[attr-defined]  # a dict
    challenge = {"WWW-Authenticate": "Basic realm=r"}
    source.faults.on("*", "/v2/team/app/manifests/sha256", times=None).status(401, headers=challenge)
    run = await world.run(world.mirror(all_of(source), target))
    assert run.result is Result.FAILED
    assert {receipt.code for receipt in run.receipts} == {"denied"}
    assert source.count("GET", "/manifests/sha256") <= 2  # without and with the login
    assert "used the credentials of `auth:` under hosts:" in run.receipts[-1].detail


async def test_a_run_goes_on_a_minute_later_at_the_earliest(world: World) -> None:
    """One pass may wait for many short pauses: the next one is not at once."""
    source, target = await filled(world), await world.registry("one")
    source.faults.on("GET", "/manifests/", times=None).status(429, headers={"Retry-After": "61"})
    run = await world.run(world.mirror(all_of(source), target))
    assert run.until is not None
    assert timedelta(seconds=60) <= run.until - run.finished <= timedelta(seconds=63)


async def test_a_publish_does_not_go_on_by_itself(world: World) -> None:
    """Only whoever publishes has the build: it promises no time, and the mirror goes on when it would have."""
    source, target = await filled(world), await world.registry("one")
    mirror = world.mirror(all_of(source), target)
    folder = write_layout(image("build"), world.folder / "build")
    target.faults.on("POST", "/blobs/uploads/", times=None).status(429, headers=LIMITED)
    published = await world.publish(mirror, f"oci:{folder}", "main-1")
    assert (published.result, published.until) == (Result.DEFERRED, None)
    assert {one.until for one in await world.store.standing()} == {None}
    until = (await world.run(mirror)).until
    assert until is not None
    await world.publish(mirror, f"oci:{folder}", "main-1")
    assert {one.until for one in await world.store.standing()} == {until}


@pytest.mark.parametrize(("headers", "seconds"), [(LIMITED, 3000), ({}, 900)])
async def test_a_token_server_that_limits_the_rate(world: World, headers: dict[str, str], seconds: int) -> None:
    """It puts the run off as the registry does; a time that it names holds for all others, too (F12)."""
    source, target = await filled(world), await world.registry("one")
    source.auth = Auth(bearer=("ann", "secret"))
    source.faults.on("GET", "/token", times=None).status(429, headers=headers)
    run = await world.run(world.mirror(all_of(source), target))
    assert run.result is Result.DEFERRED, run.error
    assert "/token: status 429" in run.error
    assert run.until is not None
    assert abs(run.until - run.finished - timedelta(seconds=seconds)) < timedelta(seconds=60)
    if headers:
        before = len(source.log)
        again = await world.run(world.mirror(all_of(source), target, name="other"))
        assert (again.result, len(source.log)) == (Result.DEFERRED, before)
        assert source.count("GET", "/token") == 1
