"""What pages and documents read of a record: days, pages of runs, items and moves, sizes. The same in every store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from mirrord.model.history import Day, ItemRow
from mirrord.model.ledger import LedgerEntry
from mirrord.model.memory import LastSeen
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.record.standings import KEPT_DAYS
from mirrord.record.store import PAGE, Store

T0 = datetime(2026, 11, 21, 23, 59, 50, tzinfo=UTC)


def step(item: str, target: str = "a", action: Action = Action.COPY, digest: str = "") -> Step:
    return Step(action, item, digest or f"sha256:{item}", target, (item,), "")


def done(
    item: str, target: str = "a", size: int | None = None, platforms: Sequence[str] = (), digest: str = ""
) -> Receipt:
    one = step(item, target, digest=digest)
    return Receipt(one, Outcome.DONE, sent=5, size=size, platforms=tuple(platforms))


def run(
    began: datetime, *receipts: Receipt, seconds: float = 4.0, steps: Sequence[Step] = (), mirror: str = "m"
) -> Run:
    plan = Plan(mirror, "image", began, (*(one.step for one in receipts), *steps))
    ended = began + timedelta(seconds=seconds)
    return Run(mirror, "image", "schedule", began, ended, plan, receipts, read=10, took={"a": 2.5})


async def test_runs_of_a_day_are_added_up(store: Store) -> None:
    """A run counts on the day in UTC on which it ended, with its bytes, items and seconds; the worst result stays."""
    gone = Receipt(step("v0", action=Action.DELETE), Outcome.DONE)
    bad = Receipt(step("v2"), Outcome.FAILED, "no", "server")
    await store.add_run(run(T0, done("v1"), done("v1", "b"), gone))
    await store.add_run(run(T0, seconds=5.0))
    await store.add_run(run(T0 + timedelta(seconds=20), bad, done("v1"), seconds=1.5))
    await store.add_run(run(T0 + timedelta(seconds=30), seconds=-3.0))  # the clock was set back
    await store.add_run(run(T0, mirror="other"))
    assert await store.days("m") == [
        Day(date(2026, 11, 21), 2, 0, 9.0, 5.0, 20, 10, 2, 1, Result.SUCCESS),
        Day(date(2026, 11, 22), 2, 1, 1.5, 1.5, 20, 5, 1, 0, Result.PARTIAL),
    ]
    assert await store.days("nothing") == []


async def test_ninety_days_are_kept(store: Store) -> None:
    """Days of more than 90 days ago go with the next run; a mirror that rests keeps its own."""
    for number in range(KEPT_DAYS + 5):
        await store.add_run(run(T0 + timedelta(days=number)))
    await store.add_run(run(T0, mirror="resting"))
    days = [day.day for day in await store.days("m")]
    assert days == [(T0 + timedelta(days=number)).date() for number in range(5, KEPT_DAYS + 5)]
    await store.add_run(run(T0 + timedelta(days=400)))
    assert len(await store.days("m")) == 1
    assert len(await store.days("resting")) == 1


async def test_a_clock_that_was_set_forward_costs_no_day(store: Store) -> None:
    """A run at a wrong time long ago has a day of its own, and takes none of the others away."""
    await store.add_run(run(T0))
    await store.add_run(run(T0 - timedelta(days=9000)))
    assert [day.day for day in await store.days("m")] == [(T0 - timedelta(days=9000)).date(), T0.date()]


async def test_the_last_run_says_bytes_and_seconds(store: Store) -> None:
    """Of each target there are the bytes that the last run sent and how long that took, for a rate."""
    await store.add_run(run(T0, done("v1"), done("v2"), done("v1", "b")))
    last = {entry.target: entry.last for entry in await store.standing("m")}
    assert [(one.sent, one.seconds) for one in (last["a"], last["b"]) if one] == [(10, 2.5), (5, 0.0)]


async def test_runs_come_in_pages(store: Store) -> None:
    """Each run has a number; the runs before one are the next page, and no page has more than a thousand."""
    for minute in range(7):
        await store.add_run(run(T0 + timedelta(minutes=minute), done("v1")))
        await store.add_run(run(T0, mirror="other"))
    pages, before = [], None
    while found := await store.runs("m", 3, before):
        pages.append([one.started.minute for one in found])
        before = found[-1].id
        assert all(one.targets[0].done == 1 for one in found)
    assert pages == [[5, 4, 3], [2, 1, 0], [59]]
    assert [one.id for one in await store.runs("m", 9, 1)] == []


async def test_moves_come_in_pages(store: Store) -> None:
    """Each move has a number; without a limit all come, as ever."""
    entries = [LedgerEntry("m", "a", f"v{n}", "one.example/app", None, "sha256:1", T0, T0) for n in range(5)]
    await store.intend(entries)
    await store.intend([replace(entries[0], mirror="other")])
    found = await store.moves("m")
    assert [one.name for one in found] == ["v4", "v3", "v2", "v1", "v0"]
    first = await store.moves("m", limit=2)
    second = await store.moves("m", limit=2, before=first[-1].id)
    assert [one.name for one in (*first, *second)] == ["v4", "v3", "v2", "v1"]
    assert await store.moves("m", limit=9, before=found[-1].id) == []
    assert (await store.moves("m", limit=10 * PAGE)) == found


async def test_items_come_in_pages_by_name(store: Store) -> None:
    """Items are in the order of their names, v2 before v10, each with its state at every target that has it."""
    names = ["v1", "v10", "v2", "ümlaut", "A", "a_b", "a%b", "x" * 1000]
    await store.add_run(run(T0, *(done(name, target, 7) for name in names for target in "ba"), done("only", "b")))
    await store.add_run(run(T0, done("v1"), mirror="other"))
    pages, after = list[list[str]](), ""
    while found := await store.items("m", 4, after):
        pages.append([one.item for one in found])
        after = found[-1].item
    assert pages == [["A", "a%b", "a_b", "only"], ["v1", "v2", "v10", "x" * 1000], ["ümlaut"]]
    (only,) = await store.items("m", find="only")
    seen = LastSeen("sha256:only", T0 + timedelta(seconds=4))
    assert only == ItemRow("only", {"b": seen})
    assert sorted((await store.items("m", 1))[0].at) == ["a", "b"]


@pytest.mark.parametrize(
    ("find", "found"),
    [
        ("%", ["a%b"]),
        ("_", ["a_b"]),
        ("B", ["a%b", "a_b"]),
        ("*", []),
        ("", ["a%b", "a_b", "ÄX"]),
        ("äx", []),
        ("Äx", ["ÄX"]),
    ],
)
async def test_a_search_is_literal(store: Store, find: str, found: list[str]) -> None:
    """No character of a search has a meaning of its own; only letters of ASCII match in either case."""
    await store.add_run(run(T0, *(done(name) for name in ("a%b", "a_b", "ÄX"))))
    assert [one.item for one in await store.items("m", find=find)] == found


async def test_sizes_stay_with_their_content(store: Store) -> None:
    """What a later run confirms without a size keeps it; other content loses it, and learns its own."""
    amd = ("linux/amd64",)
    await store.add_run(
        run(T0, done("v1", size=100, platforms=amd), done("main", size=100, platforms=amd, digest="sha256:v1"))
    )
    confirmed = replace(step("v1", action=Action.KEEP), confirmed=True)
    await store.add_run(run(T0, done("main"), steps=[confirmed]))
    memory = await store.memory("m")
    assert [(memory["a", item].size, memory["a", item].platforms) for item in ("v1", "main")] == [
        (100, amd),
        (None, ()),
    ]
    await store.add_run(run(T0, done("main", size=40)))
    assert (await store.memory("m"))["a", "main"].size == 40
    assert {entry.target: entry.size for entry in await store.standing("m")} == {"": 140, "a": 140}


async def test_what_one_target_learns_holds_at_all(store: Store) -> None:
    """Targets and tags with the same content share size and platforms that one receipt of a run has."""
    first = done("v1", size=9, platforms=["linux/arm64"])
    same = Receipt(step("v1", "b"), Outcome.KEPT)
    alias = done("latest", "b", digest="sha256:v1")
    await store.add_run(run(T0, same, first, alias))
    found = {(seen.size, seen.platforms) for seen in (await store.memory("m")).values()}
    assert found == {(9, ("linux/arm64",))}
    assert {entry.target: entry.size for entry in await store.standing("m")} == {"": 9, "a": 9, "b": 9}


async def test_a_tag_that_moves_to_known_content_has_its_size(store: Store) -> None:
    """When `stable` is set to what `v1` is, its size is that of `v1`, though the run read nothing of it."""
    await store.add_run(run(T0, done("v1", size=9, platforms=["linux/arm64"]), done("stable", size=5)))
    await store.add_run(run(T0, done("stable", digest="sha256:v1")))
    assert (await store.memory("m"))["a", "stable"].size == 9
    assert (await store.memory("m"))["a", "stable"].platforms == ("linux/arm64",)
    await store.add_run(run(T0, done("stable", digest="sha256:other")))
    assert (await store.memory("m"))["a", "stable"].size is None


async def test_signatures_stay_with_their_content(store: Store) -> None:
    """A run that only confirms content keeps how many signatures it has, by whom, and of which index it was made."""
    signed = replace(step("v1"), signer="release.pub", origin="sha256:whole")
    await store.add_run(run(T0, Receipt(signed, Outcome.DONE, size=9, referrers=2)))
    seen = LastSeen("sha256:v1", T0 + timedelta(seconds=4), "", 9, (), 2, "release.pub", "sha256:whole")
    assert (await store.memory("m"))["a", "v1"] == seen
    await store.add_run(run(T0, steps=[replace(step("v1", action=Action.KEEP), confirmed=True)]))
    assert (await store.memory("m"))["a", "v1"] == replace(seen, at=T0)
    more = Receipt(replace(signed, signer="new.pub"), Outcome.DONE, size=9, referrers=3)
    await store.add_run(run(T0, more, Receipt(step("v1", "b"), Outcome.KEPT, referrers=0)))
    memory = await store.memory("m")
    assert memory["a", "v1"] == replace(seen, referrers=3, signer="new.pub")
    assert memory["b", "v1"] == replace(seen, referrers=0, signer="new.pub"), "each target has its own signatures"
    await store.add_run(run(T0, done("v1", digest="sha256:other")))
    assert (await store.memory("m"))["a", "v1"] == LastSeen("sha256:other", seen.at)


async def test_signatures_of_a_former_place_are_not_those_of_this_one(store: Store) -> None:
    """Of content that another place has, too, nobody knows yet how many signatures are there."""
    await store.add_run(replace(run(T0, Receipt(step("v1"), Outcome.DONE, referrers=2)), places={"a": "one.example"}))
    there = replace(step("v1", action=Action.KEEP), confirmed=True, signer="release.pub")
    await store.add_run(replace(run(T0, steps=[there]), places={"a": "two.example"}))
    seen = (await store.memory("m"))["a", "v1"]
    assert (seen.place, seen.referrers, seen.signer) == ("two.example", None, "release.pub")


async def test_names_without_numbers_are_sorted_by_what_is_stored(store: Store) -> None:
    """Bytes of a name that are no text are stored in another form, and found again behind the name before them."""
    names = ["a\udc80", "a2", "a10", "b"]
    await store.add_run(run(T0, *(done(name) for name in names)))
    found, after = list[str](), ""
    while rows := await store.items("m", 1, after):
        after = rows[0].item
        found.append(after)
    assert len(found) == len(names)
