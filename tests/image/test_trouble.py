"""What goes wrong on the way: uploads are sent again from the spool, sources are resumed, lies go nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrord.blobs.spool import WITHHELD
from mirrord.errors import BrokenError
from mirrord.events import BytesRead, Event
from mirrord.model.digest import Digest
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.image.upstream import survey
from mirrord.testing import Fault, Image, Moment, Registry, build_image, push
from mirrord.wire.http.message import HttpRequest, Limits
from tests.support.auth import Auth
from tests.support.layouts import write_layout
from tests.support.localstore import place_in
from tests.support.world import World, by_target, open_world

MIB = 1 << 20
PLACE = "mirror/app"
ONE = ["linux/amd64"]


def big(size: int = 3 * MIB, layers: int = 1) -> Image:
    return build_image(ONE, layers=layers, layer_size=size)


async def filled(world: World, image: Image) -> Registry:
    source = await world.registry("source")
    await push(image, source, "team/app", ["main"])
    return source


def main_of(source: Registry) -> dict[str, str]:
    return {"repository": f"{source.host}/team/app:main"}


def layer(image: Image, number: int = 0) -> str:
    """Return the hex digits of a layer's digest: they stand in paths and in queries."""
    return Digest(image.layers[number]).hex


def unauthorized(target: Registry) -> Fault:
    assert isinstance(target.auth, Auth)
    challenge = {"WWW-Authenticate": f'Bearer realm="{target.url}/token",service="registry.test",error="invalid_token"'}
    return target.faults.on("PUT", "/blobs/uploads/").do(target.auth.expire).refuse_after(MIB, 401, challenge)


def failing(target: Registry) -> Fault:
    return target.faults.on("PUT", "/blobs/uploads/").refuse_after(MIB, 503)


def answer_lost(target: Registry) -> Fault:
    return target.faults.on("PUT", "/blobs/uploads/").close_mid_header()


def reset(target: Registry) -> Fault:
    return target.faults.on("PUT", "/blobs/uploads/").close()


@pytest.mark.parametrize("break_", [unauthorized, failing, answer_lost, reset])
async def test_a_failed_upload_is_sent_again_from_the_spool(world: World, break_: Callable[[Registry], Fault]) -> None:
    """401, 5xx or a reset in the middle of an upload costs the target one more, and the source nothing (F20)."""
    image = big()
    source, good = await filled(world, image), await world.registry("good")
    bad = await world.registry("bad", auth=Auth(bearer=("", "")))
    happened = break_(bad)
    run = await world.run(world.mirror(main_of(source), good, bad))
    assert happened.hits == 1
    assert run.result is Result.SUCCESS, run.receipts
    assert (source.count("GET", "/blobs/"), run.read) == (2, image.size)
    assert bad.tags == good.tags == {PLACE: {"main": image.digest}}
    assert bad.protocol.uploads.open.keys() <= {1, 2}


async def test_a_broken_source_is_resumed_where_it_broke(world: World) -> None:
    """A source that breaks in the middle is asked for the rest by Range, and the targets notice nothing (F16)."""
    image = big()
    source, target = await filled(world, image), await world.registry("one")
    source.faults.on("GET", layer(image)).truncate(2 * MIB)
    run = await world.run(world.mirror(main_of(source), target, LOCAL))
    assert run.result is Result.SUCCESS
    first, second = source.select("GET", layer(image))
    assert "range" not in first.headers
    assert 0 < int(second.headers["range"].removeprefix("bytes=").rstrip("-")) <= 2 * MIB
    assert second.status == 206
    assert target.count("PUT", layer(image)) == 1
    assert target.content.dangling() == []


async def test_a_source_that_falls_silent_is_resumed(tmp_path: Path) -> None:
    """A source that stalls in the middle is left, and asked for the rest; the target gets one upload (F15)."""
    image = big()
    async with open_world(tmp_path, limits=Limits(stall=0.3)) as world:
        source, target = await filled(world, image), await world.registry("one")
        source.faults.on("GET", layer(image)).stall(2 * MIB)
        run = await world.run(world.mirror(main_of(source), target, LOCAL))
        source.faults.clear()
        assert run.result is Result.SUCCESS, run.receipts
        first, second = source.select("GET", layer(image))
        assert "range" not in first.headers
        assert (second.headers["range"], second.status) == (f"bytes={2 * MIB}-", 206)
        assert target.count("PUT", layer(image)) == 1
        assert target.content.dangling() == []


async def test_a_blob_without_length_that_ends_early_is_resumed(world: World) -> None:
    """The descriptor says how long it is: an early end without Content-Length is no end of the blob (F16)."""
    image = big()
    source, target = await filled(world, image), await world.registry("one")
    source.faults.on("GET", layer(image)).header("Content-Length", None).truncate(2 * MIB)
    run = await world.run(world.mirror(main_of(source), target, LOCAL))
    assert run.result is Result.SUCCESS, run.receipts
    first, second = source.select("GET", layer(image))
    assert (first.headers.get("range"), second.headers["range"], second.status) == (None, f"bytes={2 * MIB}-", 206)
    assert target.count("PUT", layer(image)) == 1
    assert target.content.dangling() == []


async def test_a_token_that_ends_during_a_download_is_renewed_once(tmp_path: Path) -> None:
    """401 to the request for the rest: one new token, and the rest alone is asked for again (F20)."""
    image, auth = big(), Auth()
    async with open_world(tmp_path) as world:
        source, target = await world.registry("source", auth=auth), await world.registry("one")
        await push(image, source, "team/app", ["main"])
        auth.bearer = ("", "")
        source.faults.on("GET", layer(image)).truncate(2 * MIB).then(auth.expire)
        run = await world.run(world.mirror(main_of(source), target))
        assert run.result is Result.SUCCESS, run.receipts
        ranges = [(one.headers.get("range"), one.status) for one in source.select("GET", layer(image))]
        assert ranges == [(None, 200), (f"bytes={2 * MIB}-", 401), (f"bytes={2 * MIB}-", 206)]
        assert len(auth.issued) == 2
        assert target.count("PUT", layer(image)) == 1


async def test_a_lying_source_completes_no_upload(world: World) -> None:
    """Wrong bytes at the very end: no target ever has them as a blob, no tag is set, and the error says digest."""
    image = big()
    source, targets = await filled(world, image), [await world.registry(name) for name in ("one", "two")]
    source.faults.on("GET", layer(image), times=None).corrupt(-1)
    run = await world.run(world.mirror(main_of(source), *targets, LOCAL))
    assert run.result is Result.FAILED
    assert {receipt.code for receipt in run.receipts} == {"digest_mismatch"}
    for target in targets:
        assert image.layers[0] not in target.blobs
        assert (target.tags, target.manifests) == ({}, {})
        size = len(image.blobs[image.layers[0]])
        assert all(put.received < size for put in target.select("PUT", layer(image)))
    assert world.local_tags() == {}
    assert place_in(world.folder / "blobs", Digest(image.layers[0])) is None
    assert not any(layer(image) in file.name for file in world.spooled())


async def test_a_source_that_heals_is_read_twice(world: World) -> None:
    """Wrong bytes once: the blob is read anew from its start, sent anew, and all is well (fault F17)."""
    image = big()
    source, target = await filled(world, image), await world.registry("one")
    source.faults.on("GET", layer(image)).corrupt(100)
    run = await world.run(world.mirror(main_of(source), target, LOCAL))
    assert run.result is Result.SUCCESS, run.receipts
    assert [exchange.headers.get("range") for exchange in source.select("GET", layer(image))] == [None, None]
    assert target.content.dangling() == []


async def test_the_last_chunk_is_withheld(world: World) -> None:
    """While the last byte of a blob is not there, targets have all but the last 64 KiB of it."""
    image = big()
    size = len(image.blobs[image.layers[0]])
    source, target = await filled(world, image), await world.registry("one")
    held = source.faults.on("GET", layer(image)).stall(after=size - 1)
    running = asyncio.ensure_future(world.run(world.mirror(main_of(source), target)))
    put = await target.wait(Moment.FIRST_RECEIVED, "PUT", layer(image))
    while put.received < size - WITHHELD - 1:  # noqa: ASYNC110 - what a double has received has no event
        await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)
    assert put.received <= size - WITHHELD
    held.release()
    assert (await running).result is Result.SUCCESS


async def test_the_budget_comes_before_reading_once(tmp_path: Path) -> None:
    """A hanging target is sent away so that the spool stays within its budget, is served later, and gets everything."""
    image = big(6 * MIB, layers=3)
    budget = 14 * MIB
    async with open_world(tmp_path, budget=budget) as world:
        source, fast = await filled(world, image), await world.registry("fast")
        slow = await world.registry("slow", socket_buffer=4096)
        slow.faults.on("PUT", "/blobs/uploads/", times=None).hold()
        most = 0

        def watch(event: Event) -> None:
            nonlocal most
            if isinstance(event, BytesRead):
                most = max(most, sum(file.stat().st_size for file in world.spooled()))

        world.services.events.listen(watch)
        running = asyncio.ensure_future(world.run(world.mirror(main_of(source), fast, slow, LOCAL)))
        waiting = asyncio.ensure_future(fast.wait(Moment.ENDED, "PUT", "/manifests/main"))
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        assert not running.done(), running.result().receipts
        assert PLACE not in slow.tags
        slow.faults.clear()
        run = await running
        assert run.result is Result.SUCCESS, run.receipts
        assert fast.tags == slow.tags == {PLACE: {"main": image.digest}}
        assert slow.content.dangling() == []
        assert budget - 3 * MIB < most <= budget
        assert len(image.blobs) < source.count("GET", "/blobs/") <= 2 * len(image.blobs)


async def test_a_blob_beyond_the_budget_names_the_setting(tmp_path: Path) -> None:
    """A layer that can never fit fails with the setting to raise; an image that fits goes on."""
    image, small = big(), build_image(ONE, seed="small")
    async with open_world(tmp_path, budget=MIB) as world:
        source, target = await filled(world, image), await world.registry("one")
        await push(small, source, "team/app", ["small"])
        mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["main", "small"]}, target)
        run = await world.run(mirror)
        receipts = {receipt.step.item: receipt for receipt in run.receipts}
        assert (receipts["main"].code, receipts["small"].outcome) == ("storage", Outcome.DONE)
        assert "spool.budget" in receipts["main"].detail
        assert target.tags == {PLACE: {"small": small.digest}}


async def test_a_run_past_its_deadline_is_cancelled(world: World) -> None:
    """A run that hangs ends at its deadline, says so, and leaves no tag where content is missing."""
    image = big()
    source, target = await filled(world, image), await world.registry("one")
    target.faults.on("PUT", "/blobs/uploads/", times=None).hold()
    run = await world.run(world.mirror(main_of(source), target, deadline=0.2))
    assert (run.result, run.code) == (Result.FAILED, "deadline")
    assert "deadline" in run.error
    assert target.tags == {}
    target.faults.clear()
    assert (await world.run(world.mirror(main_of(source), target))).result is Result.SUCCESS


async def test_a_target_that_heals_is_served_by_the_next_run(world: World) -> None:
    """What a dead target missed is brought when it is back, and only there."""
    image = big()
    source, good, back = await filled(world, image), await world.registry("good"), await world.registry("back")
    mirror = world.mirror(main_of(source), good, back)
    await back.stop()
    assert (await world.run(mirror)).result is Result.PARTIAL
    await back.start()
    world.wire.exchanges.clear()
    run = await world.run(mirror)
    assert run.result is Result.SUCCESS
    assert list(by_target(run)) == ["back"]
    assert (good.log, source.count("GET", "/blobs/")) == ([], 0)
    assert back.tags == {PLACE: {"main": image.digest}}


async def test_a_target_that_never_answers_holds_nobody_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that hangs when it is asked what it has is given up after a while, and the plan says so."""
    monkeypatch.setattr(survey, "PATIENCE", 2.0)  # the good one answers within that on a busy machine, too
    source, good, deaf = await filled(world, big()), await world.registry("good"), await world.registry("deaf")
    deaf.faults.on("HEAD", "/manifests/main").hold()
    run = await world.run(world.mirror(main_of(source), good, deaf))
    assert run.plan is not None
    assert {step.target: step.reason for step in run.plan.steps} == {
        "good": "main not there",
        "deaf": f"the target cannot be read: {deaf.host}: HEAD not done within 2 s",
    }
    assert run.result is Result.SUCCESS
    assert good.tags == deaf.tags


async def test_a_question_that_waits_in_line_is_no_answer_that_is_late(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F3b: while other requests fill a host's line, the patience for a target's answer does not run."""
    monkeypatch.setattr(survey, "PATIENCE", 2.0)  # it answers within that, once asked, on a busy machine, too
    source, busy = await filled(world, big(1000)), await world.registry("busy")
    held, calls = busy.faults.on("GET", "/v2/$", times=None).hold(), world.services.http
    others = [asyncio.ensure_future(calls.fetch(HttpRequest("GET", f"{busy.url}/v2/", busy.host))) for _ in range(100)]
    await held.reached.wait()
    planning = asyncio.ensure_future(world.plan(world.mirror(main_of(source), busy)))
    done, _ = await asyncio.wait({planning}, timeout=1.2 * survey.PATIENCE)
    assert not done
    assert busy.count("HEAD", "") == 0
    held.release()
    await asyncio.gather(*others)
    assert [step.reason for step in (await planning).steps] == ["main not there"]


async def test_names_are_asked_a_few_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The patience for a target's answer does not run while a question waits for its turn."""
    monkeypatch.setattr(survey, "LOOKS", 2)
    target = await world.registry("one")
    folder = write_layout(big(1000), world.folder / "build")
    asked = world.mirror({"layout": folder, "names": [f"v{number}" for number in range(30)]}, target)
    held = target.faults.on("HEAD", "/manifests/", times=None).hold()
    planning = asyncio.ensure_future(world.plan(asked))
    await held.reached.wait()
    for _ in range(200):
        await asyncio.sleep(0)
    assert target.count("HEAD", "/manifests/") <= 2
    held.release()
    await planning
    assert target.count("HEAD", "/manifests/") == 30


@pytest.mark.parametrize(
    ("status", "headers", "result", "code"),
    [
        (429, {"Retry-After": "3000"}, Result.DEFERRED, "throttled"),
        (503, {"Retry-After": "3000"}, Result.DEFERRED, "throttled"),
        (503, {}, Result.FAILED, "server"),
        (403, {}, Result.FAILED, ""),
    ],
)
async def test_a_source_that_cannot_be_read(
    world: World, status: int, headers: dict[str, str], result: Result, code: str
) -> None:
    """A source that asks for patience puts the run off (F12), one that fails or denies fails it; targets stay."""
    source, target = await filled(world, big()), await world.registry("one")
    source.faults.on("*", "", times=None).status(status, headers=headers)
    run = await world.run(world.mirror(main_of(source), target))
    assert (run.result, run.code) == (result, code)
    assert target.tags == {}
    assert run.error or (run.plan is not None and "403" in run.plan.missing[0])


@pytest.mark.parametrize("status", [429, 503])
async def test_a_source_that_names_a_time_is_not_asked_before(world: World, status: int) -> None:
    """At most one request for each blob: neither `Http` nor the pool asks again at once; the next run does."""
    image = big()
    source, target = await filled(world, image), await world.registry("one")
    source.faults.on("GET", "/blobs/", times=None).status(status, headers={"Retry-After": "3000"})
    run = await world.run(world.mirror(main_of(source), target))
    assert {receipt.code for receipt in run.receipts if receipt.code} == {"throttled"}
    asked = [entry.target for entry in source.log if entry.method == "GET" and "/blobs/" in entry.target]
    assert asked
    assert len(asked) == len(set(asked))
    assert target.tags == {}


async def test_a_tag_that_is_missing_is_told(world: World) -> None:
    """A missing tag is one sentence in the plan; the others go on."""
    image = big()
    source, target = await filled(world, image), await world.registry("one")
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app", "tags": ["main", "gone"]}, target))
    assert run.plan is not None
    assert run.plan.missing == (f"gone: {source.host}/team/app:gone does not exist",)
    assert target.tags == {PLACE: {"main": image.digest}}


@pytest.mark.parametrize(
    ("status", "result"), [(404, Result.SUCCESS), (403, Result.PARTIAL), (502, Result.PARTIAL)], ids=str
)
async def test_a_listed_tag_that_cannot_be_had(world: World, status: int, result: Result) -> None:
    """A tag that a glob selects and the registry does not have is a counted problem; what may be our fault is not."""
    image = big()
    source, target = await filled(world, image), await world.registry("one")
    for tag in ("v1", "v2"):
        await push(image, source, "team/app", [tag])
    source.faults.on("*", "/manifests/v2", times=None).status(status)
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app", "tags": ["v*"]}, target))
    assert run.result is result
    assert run.plan is not None
    told = run.problems if result is Result.SUCCESS else run.plan.missing
    assert [text.partition(":")[0] for text in told] == ["v2"]
    assert target.tags == {PLACE: {"v1": image.digest}}


async def test_a_source_that_only_breaks_is_given_up(world: World) -> None:
    """A source that breaks without bringing anything is tried a few times, then every target hears why."""
    image = big()
    source, target = await filled(world, image), await world.registry("one")
    source.faults.on("GET", layer(image), times=None).truncate(0)
    run = await world.run(world.mirror(main_of(source), target, LOCAL))
    assert {receipt.code for receipt in run.receipts} == {BrokenError.code}
    assert 1 < source.count("GET", layer(image)) < 30
    assert target.tags == {}
