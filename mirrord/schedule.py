"""The only door to APScheduler: a clock that calls back with the name of a mirror, and knows nothing else.

Schedules live in memory and are made from the configuration at every start, so there is no second truth on
disk; when a deferred run goes on (`again`) is in the record. Of the ticks that the process slept through (suspended
machine, blocked loop) the newest is made up when it is less than an hour late; the others, and one that is later still,
are dropped, and the mirror waits for its next tick. Whether a mirror may run at all is not decided here.

APScheduler below 3.11.1 goes backwards when summer time ends (its issue 1036); the dependency excludes it.
A `cron` in a zone with summer time fires twice in the hour that is repeated, and once for the one that is skipped:
the default zone is UTC.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.schedulers.asyncio import AsyncIOScheduler  # noqa: TID251 - this is the door
from apscheduler.triggers.base import BaseTrigger  # noqa: TID251 - this is the door
from apscheduler.triggers.cron import CronTrigger  # noqa: TID251 - this is the door
from apscheduler.triggers.interval import IntervalTrigger  # noqa: TID251 - this is the door

from mirrord.syncer.values import Mirror, Schedule

STAGGER = 0.5
"""Seconds between the first runs of mirrors with an interval: a start does not ask all hosts at once."""
LATEST = 30.0
"""All first runs begin within this many seconds; with many mirrors they are closer together."""
_GRACE = 3600  # seconds by which a tick may be late
_VERIFY = "verify "  # likewise
_AGAIN = "again "  # before the name of a mirror; no name has a blank


class Clock:
    """Calls `tick(name)` when the schedule of a mirror says so."""

    def __init__(
        self,
        tick: Callable[[str], Awaitable[None]],
        now: Callable[[], datetime],
        offset: Callable[[str, float], float] | None = None,
        goes_on: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """Tick; with `offset` intervals are counted from so many seconds after 1970, alike at all replicas.

        `goes_on` is called in place of `tick` where a deferred run goes on.
        """
        self._tick, self._offset, self._goes_on = tick, offset, goes_on or tick
        self._now = now
        self._mirrors: dict[str, Schedule] = {}
        self._running = False
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": _GRACE}
        )

    @property
    def running(self) -> bool:
        """Whether ticks come."""
        return self._running

    def start(self, mirrors: Iterable[Mirror]) -> None:
        """Begin to tick for these mirrors. MUST be called in the event loop."""
        self._scheduler.start()
        self._running = True
        self.replace(mirrors)

    def stop(self) -> None:
        """Tick no more; runs under way are none of the clock's business."""
        if self._running:
            self._running = False  # the scheduler itself ends a turn of the event loop later
            self._scheduler.shutdown(wait=False)

    def replace(self, mirrors: Iterable[Mirror]) -> None:
        """Follow a new configuration; a mirror whose schedule did not change keeps its next time."""
        schedules = {mirror.name: mirror.schedule for mirror in mirrors}
        wanted = {name: schedule for name, schedule in schedules.items() if schedule is not None}
        fresh = sorted(name for name, schedule in wanted.items() if self._mirrors.get(name) != schedule)
        now = self._now()
        firsts = {name: now + timedelta(seconds=delay) for name, delay in stagger(fresh).items()}
        triggers = {  # raises before all changes
            name: trigger(wanted[name], self._start(name, wanted[name], first)) for name, first in firsts.items()
        }
        for name in self._mirrors.keys() - wanted.keys():
            self._scheduler.remove_job(name)
        for name in self.next_runs().keys() - schedules.keys():  # one that was deferred
            self.again(name, None)
        for name, made in triggers.items():
            begin = {"next_run_time": firsts[name]} if wanted[name].every is not None else {}
            self._scheduler.add_job(
                self._tick, trigger=made, args=(name,), id=name, name=name, replace_existing=True, **begin
            )
        self._mirrors = wanted

    def _start(self, name: str, schedule: Schedule, first: datetime) -> datetime:
        if self._offset is None or schedule.every is None:
            return first
        return datetime.fromtimestamp(round(self._offset(name, schedule.every)), UTC)

    def again(self, mirror: str, at: datetime | None) -> None:
        """Tick once more at this time, unless the schedule comes first; None: no longer.

        Among replicas it is not known which of them runs what the schedule says: whatever ran says then what holds.
        """
        key = _AGAIN + mirror
        if self._scheduler.get_job(key) is not None:  # one that has fired is gone
            self._scheduler.remove_job(key)
        regular = self.next_runs().get(mirror) if at is not None and self._offset is None else None
        if at is None or not self._running or (regular is not None and regular <= at):
            return
        late = {"misfire_grace_time": None}  # a machine that slept goes on however late it is
        self._scheduler.add_job(self._goes_on, "date", run_date=at, args=(mirror,), id=key, name=mirror, **late)

    def verify(
        self, call: Callable[[str], Awaitable[None]], due: Mapping[str, datetime], *, only: str | None = None
    ) -> None:
        """Call for each mirror at its time, once; without `only` for no others any more."""
        for job in self._scheduler.get_jobs():
            if job.id.startswith(_VERIFY) and only in (None, job.id.removeprefix(_VERIFY)):
                self._scheduler.remove_job(job.id)
        late = {"misfire_grace_time": None}  # a machine that slept verifies however late it is
        for name, at in due.items() if self._running else ():
            self._scheduler.add_job(call, "date", run_date=at, args=(name,), id=_VERIFY + name, name=name, **late)

    def next_runs(self) -> Mapping[str, datetime]:
        """Return when each mirror fires next (UTC)."""
        found: dict[str, datetime] = {}
        for job in self._scheduler.get_jobs():
            name, at = str(job.id).removeprefix(_AGAIN), job.next_run_time
            if at is not None and not name.startswith(_VERIFY) and (name not in found or at < found[name]):
                found[name] = at.astimezone(UTC)
        return found


def trigger(schedule: Schedule, first: datetime) -> BaseTrigger:
    """Make the trigger of a schedule; an interval counts from `first`."""
    jitter = round(schedule.jitter) or None
    if schedule.every is not None:
        return IntervalTrigger(seconds=round(schedule.every), start_date=first, timezone=UTC, jitter=jitter)
    minute, hour, day, month, weekday = (schedule.cron or "").split()
    zone = ZoneInfo(schedule.timezone)
    return CronTrigger(
        minute=minute, hour=hour, day=day, month=month, day_of_week=weekday, timezone=zone, jitter=jitter
    )


def stagger(names: Iterable[str]) -> Mapping[str, float]:
    """Return how many seconds after the start each of these mirrors runs first."""
    ordered = list(names)
    step = min(STAGGER, LATEST / max(1, len(ordered)))
    return {name: (index + 1) * step for index, name in enumerate(ordered)}
