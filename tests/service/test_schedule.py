"""The clock: when what fires first, and next."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel

from mirrord.schedule import LATEST, Clock, stagger, trigger
from mirrord.syncer.values import Mirror, Schedule


class Nothing(BaseModel):
    pass


def mirror(name: str, **schedule: object) -> Mirror:
    plan = Schedule(**schedule) if schedule else None  # type: ignore[arg-type]  # kwargs
    return Mirror(name, "fake", Nothing(), (), plan)


async def nothing(_: str) -> None:
    return


def now() -> datetime:
    return datetime.now(UTC)


def test_stagger() -> None:
    """First runs are spread over a few seconds each, and over a few minutes in all, however many there are."""
    few = stagger(["a", "b", "c"])
    assert list(few) == ["a", "b", "c"]
    assert len(set(few.values())) == 3
    many = stagger([str(n) for n in range(10_000)])
    assert max(many.values()) <= LATEST
    assert len(set(many.values())) == 10_000
    assert stagger([]) == {}


async def test_first_and_next_runs() -> None:
    """Intervals run soon after the start, one after the other; a cron waits; without a schedule nothing runs."""
    clock = Clock(nothing, now)
    started = now()
    clock.start([mirror("b", every=3600.0), mirror("a", every=3600.0), mirror("c", cron="0 0 1 1 *"), mirror("d")])
    try:
        runs = clock.next_runs()
        assert sorted(runs) == ["a", "b", "c"]
        assert started < runs["a"] < runs["b"] < started + timedelta(minutes=1)
        assert (runs["c"].month, runs["c"].day, runs["c"].hour, runs["c"].tzinfo) == (1, 1, 0, UTC)
        assert "d" not in clock.next_runs()
    finally:
        clock.stop()
    assert not clock.running


async def test_a_deferred_run_goes_on_once_at_its_time() -> None:
    """Unless the schedule comes first; another time replaces it, and it goes with the mirror."""
    clock = Clock(nothing, now)
    later, yearly = now() + timedelta(hours=1), mirror("rare", cron="0 0 1 1 *")
    clock.start([yearly, mirror("often", every=600.0), mirror("never")])
    try:
        rare, often = (clock.next_runs()[name] for name in ("rare", "often"))
        for name in ("rare", "often", "never"):
            clock.again(name, later)
        assert clock.next_runs() == {"rare": min(later, rare), "often": often, "never": later}
        clock.again("never", later + timedelta(hours=1))
        assert clock.next_runs()["never"] == later + timedelta(hours=1)
        clock.again("rare", None)
        clock.replace([yearly])
        assert clock.next_runs() == {"rare": rare}
    finally:
        clock.stop()


@pytest.mark.parametrize("late", [timedelta(0), timedelta(hours=5)], ids=["in time", "late"])
async def test_the_time_to_go_on_ticks_once(late: timedelta) -> None:
    """A tick like any other, also after a sleep of the machine; afterwards nothing is left of it."""
    ticked, first = list[str](), asyncio.Event()

    async def tick(name: str) -> None:
        ticked.append(name)
        first.set()

    clock = Clock(tick, now)
    clock.start([mirror("never")])
    try:
        clock.again("never", now() - late)
        await asyncio.wait_for(first.wait(), 20)
        clock.again("never", None)
        assert (ticked, clock.next_runs()) == (["never"], {})
    finally:
        clock.stop()


async def test_ticks() -> None:
    """A tick calls back with the name of the mirror, in the event loop."""
    ticked: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def tick(name: str) -> None:
        ticked.set_result(name)

    clock = Clock(tick, lambda: now() - timedelta(hours=0.5))  # everything is late: made up once
    clock.start([mirror("a", every=3600.0)])
    try:
        assert await asyncio.wait_for(ticked, 20) == "a"
    finally:
        clock.stop()


async def test_missed_ticks_are_made_up_once() -> None:
    """However many ticks were slept through, one run makes up for them."""
    ticked: list[str] = []
    first = asyncio.Event()

    async def tick(name: str) -> None:
        ticked.append(name)
        first.set()

    clock = Clock(tick, lambda: now() - timedelta(minutes=30))
    clock.start([mirror("a", every=60.0)])
    try:
        await asyncio.wait_for(first.wait(), 20)
        for _ in range(50):
            await asyncio.sleep(0)
        assert ticked == ["a"]
        assert clock.next_runs()["a"] > now() - timedelta(seconds=1)
    finally:
        clock.stop()


@pytest.mark.parametrize("kind", [{"every": 3600.0}, {"cron": "0 3 * * *"}], ids=["every", "cron"])
def test_jitter(kind: dict[str, Any]) -> None:
    """`jitter` spreads the starts of a schedule over that many seconds; without it they are on time."""
    at = datetime(2026, 7, 1, tzinfo=UTC)
    plain = trigger(Schedule(**kind), at).get_next_fire_time(None, at)
    spread = trigger(Schedule(**kind, jitter=300.0), at)
    assert plain is not None
    starts = {fired for _ in range(20) if (fired := spread.get_next_fire_time(None, at))}
    assert len(starts) > 1
    assert all(abs(fired - plain) <= timedelta(seconds=300) for fired in starts)


async def test_replace() -> None:
    """A reload keeps the next time of what did not change, moves what did, and drops what is gone."""
    clock = Clock(nothing, now)
    clock.start([mirror("a", every=3600.0), mirror("b", every=3600.0), mirror("c", every=3600.0)])
    try:
        before = clock.next_runs()
        clock.replace([mirror("a", every=3600.0), mirror("b", cron="0 0 1 1 *"), mirror("n", every=60.0)])
        after = clock.next_runs()
        assert sorted(after) == ["a", "b", "n"]
        assert after["a"] == before["a"]
        assert after["b"].month == 1
    finally:
        clock.stop()
    clock.stop()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_summer_time_ends_and_begins(zone: str) -> None:
    """Through both changes of the year an hourly cron goes forward and never gets stuck (fault F31)."""
    cron = trigger(Schedule(cron="17 * * * *", timezone=zone), datetime(2026, 1, 1, tzinfo=UTC))
    at = datetime(2026, 3, 1, tzinfo=ZoneInfo(zone))
    times: list[datetime] = []
    while at < datetime(2026, 11, 30, tzinfo=ZoneInfo(zone)):
        fired = cron.get_next_fire_time(times[-1] if times else None, at)
        assert fired is not None
        times.append(fired)
        at = fired.astimezone(UTC) + timedelta(seconds=1)
    gaps = {later.astimezone(UTC) - earlier.astimezone(UTC) for earlier, later in pairwise(times)}
    assert min(gaps) > timedelta(0)
    assert max(gaps) <= timedelta(hours=2)


@pytest.mark.parametrize(
    ("zone", "cron", "twice"),
    [
        ("Europe/Berlin", "30 2 * * *", "2026-10-25"),
        ("America/New_York", "30 1 * * *", "2026-11-01"),
        ("Australia/Lord_Howe", "15 2 * * *", ""),  # by half an hour: 02:15 is never on 4 October
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-05"),
        ("Europe/Berlin", "0 3 * * *", ""),
    ],
)
def test_a_daily_run_at_a_change_of_the_clock(zone: str, cron: str, twice: str) -> None:
    """A time that the wall clock shows twice has two runs that day, one that it never shows has one (fault F31)."""
    trigger_of = trigger(Schedule(cron=cron, timezone=zone), datetime(2026, 1, 1, tzinfo=UTC))
    at, times = datetime(2026, 1, 1, tzinfo=ZoneInfo(zone)), list[datetime]()
    while at < datetime(2026, 12, 31, tzinfo=ZoneInfo(zone)):
        fired = trigger_of.get_next_fire_time(times[-1] if times else None, at)
        assert fired is not None
        times.append(fired)
        at = fired.astimezone(UTC) + timedelta(seconds=1)
    days = Counter(time.astimezone(ZoneInfo(zone)).date().isoformat() for time in times)
    assert [day for day, runs in days.items() if runs > 1] == ([twice] if twice else [])
    assert len(days) == 365


def test_cron_in_its_zone() -> None:
    """A cron means the wall clock of its zone; by default UTC."""
    at = datetime(2026, 7, 1, tzinfo=UTC)
    berlin = trigger(Schedule(cron="0 3 * * *", timezone="Europe/Berlin"), at).get_next_fire_time(None, at)
    plain = trigger(Schedule(cron="0 3 * * *"), at).get_next_fire_time(None, at)
    assert berlin is not None
    assert plain is not None
    assert (berlin.astimezone(UTC).hour, plain.astimezone(UTC).hour) == (1, 3)
