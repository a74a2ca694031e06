"""What targets should have and have not, since when, and why: kept from run to run, in every store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirrord.model.history import Behind
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.record.behind import BEHIND
from mirrord.record.store import PAGE, Store
from mirrord.testing import build_image, push
from tests.support.world import World, open_world

T0 = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
LATE = ("one", "two")


def at(minute: int) -> datetime:
    return T0 + timedelta(minutes=minute)


def step(item: str, target: str = "one", action: Action = Action.COPY, reason: str = "not there") -> Step:
    return Step(action, item, f"sha256:{item}", target, (item,), reason)


def receipt(one: Step, outcome: Outcome = Outcome.DONE, detail: str = "", code: str = "") -> Receipt:
    return Receipt(one, outcome, detail, code)


def run(
    minute: int, *receipts: Receipt, steps: tuple[Step, ...] = (), missing: tuple[str, ...] = (), **more: str
) -> Run:
    plan = Plan("m", "image", at(minute), tuple(one.step for one in receipts) + steps, missing=missing)
    places = {target: f"here > {target}" for target in LATE}
    fields = {"trigger": "schedule", **more}
    ended = at(minute) + timedelta(seconds=9)
    return Run("m", "image", started=at(minute), finished=ended, plan=plan, receipts=receipts, places=places, **fields)  # type: ignore[arg-type]  # texts by keyword


def failed(item: str, target: str = "one") -> Receipt:
    return receipt(step(item, target), Outcome.FAILED, f"{item}: one\nsays no", "server")


async def lag(store: Store) -> dict[str, tuple[int, datetime | None]]:
    """Return by target ("" the mirror) how many items are behind, and since when."""
    return {one.target: (one.behind, one.behind_since) for one in await store.standing("m")}


async def names(store: Store) -> list[tuple[str, str]]:
    return [(one.target, one.item) for one in await store.behind("m")]


async def test_what_each_outcome_leaves_behind(store: Store) -> None:
    """Failed, refused and cancelled copies are behind; what is there, wrong upstream or to be deleted is not."""
    left_out = receipt(step("odd"), Outcome.LEFT_OUT, "is no image", "content")
    gone = receipt(step("old", action=Action.DELETE), Outcome.FAILED, "no", "server")
    refused = receipt(step("big"), Outcome.REFUSED, "too large", "refused")
    idle = (step("v1", action=Action.KEEP), step("never", action=Action.REFUSE, reason="never moves"), step("late"))
    done = receipt(step("v2"))
    ended = run(0, done, left_out, gone, failed("v3"), refused, steps=idle, error="stopped by you", code="interrupted")
    await store.add_run(ended)
    now = at(0)
    assert await store.behind("m") == [
        Behind("one", "big", "sha256:big", now, "refused", "too large"),
        Behind("one", "late", "sha256:late", now, "interrupted", "stopped by you"),
        Behind("one", "never", "sha256:never", now, "refused", "never moves"),
        Behind("one", "v3", "sha256:v3", now, "server", "one says no"),
    ]
    assert await lag(store) == {"": (4, now), "one": (4, now)}


async def test_parts_by_name(store: Store) -> None:
    """Behind a target and an item comes what follows them by name, whatever is older; each row once.

    Names are in the order of the pages, v9 before v10, also among those that are equally old.
    """
    await store.add_run(run(0, failed("v10"), failed("v1", "two")))
    await store.add_run(run(5, failed("v10"), failed("v1"), failed("v9"), failed("v1", "two"), failed("v0", "two")))
    assert await names(store) == [("one", "v10"), ("two", "v1"), ("one", "v1"), ("one", "v9"), ("two", "v0")]
    await store.add_run(run(6, *(failed(f"v{number}", "three") for number in (100, 20, 3))))
    assert (await names(store))[-3:] == [("three", "v3"), ("three", "v20"), ("three", "v100")]
    await store.add_run(run(7, *(receipt(step(f"v{number}", "three")) for number in (100, 20, 3))))
    found, after = list[tuple[str, str]](), ("", "")
    while part := await store.behind("m", 2, after):
        assert len(part) <= 2
        found += [(one.target, one.item) for one in part]
        after = found[-1]
    assert found == [("one", "v1"), ("one", "v9"), ("one", "v10"), ("two", "v0"), ("two", "v1")]


async def test_since_survives_until_the_target_has_it(store: Store) -> None:
    """An item is behind since the first run that found it so, whatever later runs say of it or its digest."""
    await store.add_run(run(0, failed("v1"), failed("v2"), failed("v1", "two")))
    moved = replace(step("v1"), digest="sha256:new")
    later = receipt(moved, Outcome.REFUSED, "no", "refused")
    await store.add_run(run(5, later, receipt(step("v2")), failed("v3"), receipt(step("v1", "two"))))
    assert await store.behind("m") == [
        Behind("one", "v1", "sha256:new", at(0), "refused", "no"),
        Behind("one", "v3", "sha256:v3", at(5), "server", "one says no"),
    ]
    assert await lag(store) == {"": (2, at(0)), "one": (2, at(0)), "two": (0, None)}
    await store.add_run(run(9, receipt(step("v1")), receipt(step("v3"))))
    assert (await store.behind("m"), (await lag(store))[""]) == ([], (0, None))
    await store.add_run(run(12, failed("v1")))
    assert (await lag(store))["one"] == (1, at(12))


async def test_since_is_never_ahead(store: Store) -> None:
    """A clock that was ahead does not hide a lag: an item is behind at least since the run that finds it so."""
    for minute in (60, 10, 20):
        await store.add_run(run(minute, failed("x")))
    assert (await lag(store))["one"] == (1, at(10))


async def test_a_run_that_decides_nothing_leaves_it(store: Store) -> None:
    """A run that fails before its plan, or plans nothing for a target, changes nothing of what is behind there."""
    await store.add_run(run(0, failed("v1"), failed("v1", "two")))
    before = await store.behind("m")
    unread = replace(run(1), plan=None, error="the source cannot be read", code="unreachable")
    for ended in (unread, run(2), run(3, receipt(step("v1", "two")))):
        await store.add_run(ended)
    assert await store.behind("m") == before[:1]
    assert await lag(store) == {"": (1, at(0)), "one": (1, at(0)), "two": (0, None)}


@pytest.mark.parametrize("part", [{"trigger": "publish"}, {"missing": ("team/db: cannot be read",)}])
async def test_a_run_over_some_items_leaves_the_others(store: Store, part: dict[str, object]) -> None:
    """A publish, and a run that could not read all of its source, say nothing of items that they did not plan."""
    await store.add_run(run(0, failed("v1"), failed("v2")))
    await store.add_run(run(1, receipt(step("v2")), failed("v3"), **part))  # type: ignore[arg-type]  # by keyword
    assert await names(store) == [("one", "v1"), ("one", "v3")]
    assert (await lag(store))["one"] == (2, at(0))
    await store.add_run(run(2, failed("v3")))
    assert await names(store) == [("one", "v3")]  # the source has no v1 any more


async def test_a_target_that_is_gone_is_not_behind(store: Store) -> None:
    """When a target leaves the configuration, the mirror does not wait for it any more."""
    await store.add_run(run(0, failed("v1"), failed("v1", "two")))
    await store.add_run(replace(run(1, receipt(step("v1"))), places={"one": "here > one"}))
    assert await store.behind("m") == []
    assert await lag(store) == {"": (0, None), "one": (0, None), "two": (0, None)}


async def test_it_is_bounded(store: Store) -> None:
    """All are counted; a thousand of a target are kept, those that are behind longest, and pages are no larger."""
    await store.add_run(run(0, *(failed(f"v{number:04}") for number in range(5))))
    many = [failed(f"a{number:04}") for number in range(BEHIND + 200)]
    await store.add_run(run(1, *(failed(f"v{number:04}") for number in range(5)), *many))
    found = await store.behind("m", 10 * PAGE)
    assert (len(found), [one.item for one in found[:6]]) == (BEHIND, [*(f"v000{n}" for n in range(5)), "a0000"])
    assert (await lag(store))["one"] == (BEHIND + 205, at(0))
    assert len(await store.behind("m", 3)) == 3


async def test_long_reasons_are_cut(store: Store) -> None:
    """A reason is one line of 600 characters, whatever a target sends."""
    await store.add_run(run(0, receipt(step("v1"), Outcome.FAILED, "x\x85y " * 5000, "server")))
    (found,) = await store.behind("m")
    assert (len(found.reason), found.reason[:7]) == (600, "x y x y")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


async def test_a_real_run_with_a_failing_target(world: World) -> None:
    """Two of three tags cannot be set at one target: they are behind there until a run can set them."""
    source, one, two = [await world.registry(name) for name in ("source", "one", "two")]
    for tag in ("v1", "v2", "v3"):
        await push(build_image(["linux/amd64"], layers=1, layer_size=500, seed=tag), source, "team/app", [tag])
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["v*"]}, one, two)
    for tag in ("v1", "v3"):
        one.faults.on("PUT", f"/manifests/{tag}", times=None).status(403)
    began = world.now
    assert (await world.run(mirror)).result is Result.PARTIAL
    found = await world.store.behind("app")
    assert [(entry.target, entry.item, entry.since, entry.code) for entry in found] == [
        ("one", "v1", began, "denied"),
        ("one", "v3", began, "denied"),
    ]
    assert "403" in found[0].reason
    one.faults.clear()
    one.faults.on("PUT", "/manifests/v3", times=None).status(500)
    world.later(hours=1)
    await world.run(mirror)
    (left,) = await world.store.behind("app")
    assert (left.item, left.since, left.code) == ("v3", began, "server")
    one.faults.clear()
    source.faults.on("GET", "/tags/list", times=None).status(404)
    world.later(hours=1)
    assert (await world.run(mirror)).result is Result.FAILED
    assert len(await world.store.behind("app")) == 1
    source.faults.clear()
    world.later(hours=1)
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert await world.store.behind("app") == []
    last = {entry.target: entry.last for entry in await world.store.standing("app")}["one"]
    assert last is not None
    assert last.seconds > 0
