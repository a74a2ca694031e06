"""Makes the status of all mirrors of what is known of each. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from mirrord.errors import kind_of
from mirrord.model.history import Noted, Standing
from mirrord.model.run import Result
from mirrord.model.verification import TargetVerification
from mirrord.report.front import FrontStatus
from mirrord.report.moments import VerifiedStatus
from mirrord.report.schedules import scheduled
from mirrord.report.status import (
    HEALTHS,
    Condition,
    ErrorStatus,
    MirrorStatus,
    Running,
    Status,
    TargetStatus,
)
from mirrord.syncer.values import Addresses, Mirror

_NO_RUN: Mapping[str, Running] = MappingProxyType({})
_NO_TIME: Mapping[str, datetime] = MappingProxyType({})
_NO_ADDRESSES: Mapping[str, Addresses] = MappingProxyType({})
_NO_REASON: Mapping[str, str] = MappingProxyType({})
_NOWHERE = Addresses()
_MINUTE = timedelta(minutes=1)
_EVER, _NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class Board:
    """The state of all mirrors in memory. `learn` updates it, and only changed mirrors are built anew."""

    def __init__(self, standing: Iterable[Standing] = ()) -> None:
        """Begin with the state in the record."""
        self._known: dict[str, Mapping[str, Standing]] = {}
        self._made: Mapping[str, _Made] = {}
        self.learn(standing)

    def known(self, mirror: str) -> Mapping[str, Standing]:
        """Return the state of a mirror ("") and of its targets, by the target's name."""
        return self._known.get(mirror, {})

    def learn(self, standing: Iterable[Standing]) -> None:
        """Take the current state of these mirrors, each with all its targets."""
        found = defaultdict[str, dict[str, Standing]](dict)
        for entry in standing:
            found[entry.mirror][entry.target] = entry
        self._known |= found

    def status(
        self,
        version: str,
        now: datetime,
        mirrors: Iterable[Mirror],
        *,
        running: Mapping[str, Running] = _NO_RUN,
        next_runs: Mapping[str, datetime] = _NO_TIME,
        addresses: Mapping[str, Addresses] = _NO_ADDRESSES,
        started: datetime | None = None,
        stopping: bool = False,
        configuration_error: str = "",
        front: FrontStatus | None = None,
        denied: Mapping[str, str] = _NO_REASON,
    ) -> Status:
        """Say how these mirrors stand; `running`, `next_runs`, `addresses` are by mirror. May be called in any thread.

        Of a mirror of which nothing changed it is the very value of before. `started` is when the daemon began, or
        None when there is none; `configuration_error` why the last reload was refused, or ""; `denied` why mirrors were
        taken down, by their names.
        """
        before, made = self._made, dict[str, _Made]()
        for mirror in mirrors:
            name = mirror.name
            sources = _Sources(
                mirror,
                self.known(name),
                running.get(name),
                next_runs.get(name),
                addresses.get(name, _NOWHERE),
                denied.get(name, ""),
            )
            found = before.get(name)
            same = found is not None and found.sources == sources and found.holds(now)
            made[name] = found if found and same else _made(sources, now)
        self._made = made
        all_of_them = tuple(one.status for one in made.values())
        return Status(
            version,
            "offline" if started is None else "stopping" if stopping else "ready",
            now,
            started,
            configuration_error,
            all_of_them,
            front,
            totals=_totals(all_of_them),
        )


def _totals(mirrors: Iterable[MirrorStatus]) -> Mapping[str, int]:
    found = Counter[str]()
    for mirror in mirrors:
        found[mirror.health] += 1
        found["running"] += mirror.running is not None
    return {word: found[word] for word in (*HEALTHS, "running")}


@dataclass(frozen=True, slots=True)
class _Sources:
    """Everything that the status of a mirror is made from, but the time."""

    mirror: Mirror
    known: Mapping[str, Standing]
    running: Running | None
    next_run: datetime | None
    addresses: Addresses
    denied: str


@dataclass(frozen=True, slots=True)
class _Made:
    """A status, the sources that it was made from, and when it is right: from `begins` on, before `ends`."""

    sources: _Sources
    status: MirrorStatus
    begins: datetime
    ends: datetime

    def holds(self, now: datetime) -> bool:
        """Return whether it is right now; the clock of the machine may also go back."""
        return self.begins <= now < self.ends


def _made(sources: _Sources, now: datetime) -> _Made:
    mirror, known, running, addresses = sources.mirror, sources.known, sources.running, sources.addresses
    whole, patience = known.get(""), mirror.stale
    targets = tuple(
        TargetStatus(
            target.name,
            **_fields(known.get(target.name), patience, now),
            place=addresses.shown(target.name),
            link=addresses.pages.get(target.name, ""),
        )
        for target in mirror.targets
    )
    own = MirrorStatus(
        mirror.name,
        **_fields(whole, patience, now),
        kind=mirror.kind,
        state="running" if running else "idle" if whole else "new",
        problems=whole.problems if whole else Noted(),
        remarks=whole.remarks if whole else Noted(),
        schedule=scheduled(mirror.schedule),
        next_run=sources.next_run,
        running=running,
        targets=targets,
        address=addresses.served,
        source=addresses.source,
        stale_after=patience,
        stale_at=_stale_at(whole, patience),
    )
    if sources.next_run and own.deferred_until and sources.next_run < own.deferred_until:
        own = replace(own, deferred_until=None)  # the regular run comes first, and is the one
    # Not every counted item is remembered by name.
    own = replace(own, items=max([own.items, *(target.items for target in targets)]))
    if sources.denied:
        own = _denied(own, sources.denied)
    changes = [at for entry in known.values() for at in _changes(entry, patience, now)]
    begins = max((at for at in changes if at <= now), default=_EVER)
    return _Made(sources, own, begins, min((at for at in changes if at > now), default=_NEVER))


def _denied(own: MirrorStatus, reason: str) -> MirrorStatus:
    """Return how a mirror stands that was taken down: it does not run, so nothing about it is late or wrong."""
    calm: dict[str, Any] = {
        "health": "denied",
        "consecutive_failures": 0,
        "failing_since": None,
        "last_error": None,
        "troubles": (),
        "behind": 0,
        "behind_since": None,
        "lag": None,
        "deferred_until": None,
        "verified": None,
    }
    targets = tuple(replace(target, **calm) for target in own.targets)
    return replace(
        own, **calm, targets=targets, next_run=None, stale_after=None, stale_at=None, address="", denied=reason
    )


def _changes(standing: Standing, patience: float | None, now: datetime) -> Iterator[datetime]:
    """Yield times between which nothing changes by itself, among them the last one before now, and the next one."""
    if stale_at := _stale_at(standing, patience):
        yield stale_at
    if since := standing.behind_since:
        minute = since + timedelta(seconds=_lag(since, now))
        yield from (minute, minute + _MINUTE)


def _lag(since: datetime, now: datetime) -> int:
    return 60 * max(0, (now - since) // _MINUTE)


def _stale_at(standing: Standing | None, patience: float | None) -> datetime | None:
    """Return when a mirror or target is stale: so long after its last success, without one after its first attempt."""
    since = (standing.last_success or standing.first_attempt) if standing else None
    return since + timedelta(seconds=patience) if since and patience is not None else None


def _fields(standing: Standing | None, patience: float | None, now: datetime) -> dict[str, Any]:
    if standing is None:
        return {}
    last = standing.last
    error = ErrorStatus(standing.code, standing.error, not kind_of(standing.code).passing) if standing.error else None
    return {
        "result": standing.result,
        "last_success": standing.last_success,
        "last_attempt": standing.last_attempt,
        "consecutive_failures": standing.failures,
        "failing_since": standing.failing_since,
        "last_error": error,
        "items": standing.items,
        "last_run": last,
        "troubles": last.troubles if last else (),
        "health": _health(standing, _stale_at(standing, patience), now),
        "behind": standing.behind,
        "behind_since": standing.behind_since,
        "lag": _lag(standing.behind_since, now) if standing.behind_since else 0,
        "size": standing.size,
        "deferred_until": standing.until,
        "verified": _verified(standing.verified),
        "rate": round(last.sent / last.seconds) if last and last.sent and last.seconds else None,
    }


def _verified(found: TargetVerification | None) -> VerifiedStatus | None:
    if found is None:
        return None
    texts = tuple(f"{one.code}: {one.text}" for one in found.findings)
    counts = found.checked, found.drift, found.unknown, found.read, found.size
    return VerifiedStatus(found.at, found.level, *counts, texts, found.refused, found.levels)


def _health(standing: Standing, stale_at: datetime | None, now: datetime) -> Condition:
    if standing.failures:
        return "failing"
    if stale_at is not None and stale_at <= now:
        return "stale"
    if standing.result is Result.DEFERRED:
        return "deferred"
    return "ok" if standing.last_success else "new"
