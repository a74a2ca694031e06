"""The series of mirrors: schedule, runs, items, and how each target stands."""

from __future__ import annotations

from collections import Counter as Tallies
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final, TypeVar

from mirrord import events
from mirrord.model.history import Standing
from mirrord.model.remote import RunCutOff
from mirrord.model.run import BESIDE, Outcome, Result, Run
from mirrord.model.verification import Level
from mirrord.report.registry import Counter, Gauge, Histogram, SeriesRegistry
from mirrord.syncer.values import Mirror

_SECONDS: Final = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600)
_Family = TypeVar("_Family", Counter, Gauge, Histogram)


class MirrorMetrics:
    """Series whose first label is `mirror`: of configured mirrors and targets only, gone when these are."""

    def __init__(self, registry: SeriesRegistry) -> None:
        """Add the families."""
        gauge, counter = registry.gauge, registry.counter
        self._mirrors: dict[str, Mirror] = {}
        self._targets: dict[str, frozenset[str]] = {}
        self._next: Mapping[str, datetime] = {}
        self._under_way = Tallies[str]()  # runs by mirror
        # By mirror: how each of its series is removed, by its family and its other labels.
        self._used: dict[str, dict[tuple[object, tuple[str, ...]], Callable[..., None]]] = {}
        self.info = gauge("mirror_info", "Constant 1 for each mirror; its kind is a label.", "mirror", "kind")
        self.interval = gauge("sync_interval_seconds", "Longest time between two scheduled starts.", "mirror")
        self.stale_after = gauge(
            "sync_stale_after_seconds", "Age of the last success from which on the mirror is stale.", "mirror"
        )
        self.success = gauge(
            "sync_last_success_timestamp_seconds", "End of the last successful run.", "mirror", "target"
        )
        self.attempt = gauge("sync_last_attempt_timestamp_seconds", "End of the last run.", "mirror")
        self.failures = gauge("sync_consecutive_failures", "Failed runs since the last successful one.", "mirror")
        self.problems = gauge("sync_problems", "Items left out because they are wrong upstream.", "mirror")
        self.active = gauge("sync_in_progress", "Whether a run is under way.", "mirror")
        self.next_run = gauge("sync_next_run_timestamp_seconds", "Time of the next run.", "mirror")
        self.items = gauge("sync_items", "Items known to be there.", "mirror", "target")
        self.size = gauge("sync_content_bytes", "Known bytes of these items, each digest once.", "mirror", "target")
        self.behind = gauge("sync_behind_items", "Items that it should have and has not.", "mirror", "target")
        self.behind_since = gauge(
            "sync_behind_since_timestamp_seconds", "Since when the oldest of them is behind.", "mirror", "target"
        )
        self.verifying = gauge("verify_interval_seconds", "Time between two verifications.", "mirror", "level")
        self.verified = gauge(
            "verify_last_timestamp_seconds", "End of the last verification of a level.", "mirror", "target", "level"
        )
        self.drift = gauge("verify_drift_items", "Items that it found to differ.", "mirror", "target")
        self.unknown = gauge("verify_unknown_items", "Items of which it found out nothing.", "mirror", "target")
        self.runs = counter("sync_runs", "Runs that ended.", "mirror", "kind", "result")
        self.skipped = counter("sync_runs_skipped", "Scheduled runs that did not start.", "mirror", "reason")
        self.duration = registry.histogram("sync_duration_seconds", "Wall time of runs.", "mirror", _SECONDS)
        self.planned = counter("items_planned", "Steps with something to do.", "mirror", "kind")
        self.copied = counter("items_copied", "Steps that wrote or deleted.", "mirror", "kind")
        self.deleted = counter("items_deleted", "Those of them that deleted.", "mirror", "kind")
        self.kept = counter("items_skipped", "Steps that had nothing to do.", "mirror", "kind")
        self.failed = counter("items_failed", "Steps that failed or were refused.", "mirror", "kind")
        self.refused = counter(
            "items_refused", "Steps that a rule forbids, in the plan or at execution.", "mirror", "kind"
        )

    @property
    def targets(self) -> frozenset[str]:
        """Return the names of the targets of all mirrors."""
        return frozenset[str]().union(*self._targets.values())

    def follow(self, mirrors: Iterable[Mirror], standing: Iterable[Standing]) -> None:
        """Follow a configuration: remove the series of removed mirrors and targets, add those of new mirrors."""
        before, self._mirrors = self._mirrors, {mirror.name: mirror for mirror in mirrors}
        for name, mirror in before.items():
            if name not in self._mirrors or self._mirrors[name].kind != mirror.kind:
                self._forget(name, lambda _: True)
        for name, mirror in self._mirrors.items():
            targets = frozenset(target.name for target in mirror.targets)
            for gone in self._targets.get(name, frozenset()) - targets:
                self._forget(name, lambda labels, gone=gone: labels[:1] == (gone,))  # type: ignore[misc]  # bound at once
            self._begin(mirror)
        self._targets = {name: frozenset(one.name for one in mirror.targets) for name, mirror in self._mirrors.items()}
        self.remember(standing)

    def remember(self, standing: Iterable[Standing]) -> None:
        """Take the state from the record, after each run and at the start: a restart must not look like a failure."""
        for entry in standing:
            mirror, target = entry.mirror, entry.target
            if mirror not in self._targets or target not in self._targets[mirror] | {""}:
                continue
            self._stand(self.success, entry.last_success, mirror, target)
            self._series(self.items, mirror, target).set(entry.items)
            self._series(self.size, mirror, target).set(entry.size)
            self._series(self.behind, mirror, target).set(entry.behind)
            self._stand(self.behind_since, entry.behind_since, mirror, target)
            if verified := entry.verified:
                for level, at in verified.levels.items():
                    self._stand(self.verified, at, mirror, target, level.value)
                self._series(self.drift, mirror, target).set(verified.drift)
                self._series(self.unknown, mirror, target).set(verified.unknown)
            if not target:
                self._series(self.problems, mirror).set(entry.problems.count)
                self._series(self.failures, mirror).set(entry.failures)
                self._stand(self.attempt, entry.last_attempt, mirror)

    def schedule(self, next_runs: Mapping[str, datetime]) -> None:
        """Take the time of the next run of each mirror that has one."""
        before, self._next = self._next, next_runs
        for name in before.keys() - next_runs.keys():
            self._stand(self.next_run, None, name)
        for name, at in next_runs.items():
            if before.get(name) != at:
                self._stand(self.next_run, at, name)

    def __call__(self, event: events.Event) -> None:
        """Count a run of a configured mirror; called with each event."""
        if isinstance(event, events.RunStarted):
            self._under_way[event.mirror] += 1
        elif isinstance(event, events.RunFinished):
            self._under_way -= Tallies([event.run.mirror])
        match event:
            case events.RunStarted(mirror=mirror) if mirror in self._targets:
                self._series(self.active, mirror).set(1)
            case events.Planned(plan) if plan.mirror in self._targets:
                self._series(self.planned, plan.mirror, plan.kind).inc(len(plan.active))
            case events.RunSkipped(mirror, reason) if mirror in self._targets:
                self._series(self.skipped, mirror, reason).inc()
            case RunCutOff(mirror, kind, trigger) if mirror in self._targets and trigger not in BESIDE:
                self._series(self.runs, mirror, kind, Result.INTERRUPTED.value).inc()
            case events.RunFinished(run) if run.mirror in self._targets:
                self._finish(run)
            case _:
                pass

    def _finish(self, run: Run) -> None:
        labels = (run.mirror, run.kind)
        counts = run.counts
        self._series(self.active, run.mirror).set(run.mirror in self._under_way)
        if run.trigger in BESIDE:
            self._series(self.deleted, *labels).inc(run.deleted)
            return
        self._series(self.runs, *labels, run.result.value).inc()
        self._series(self.duration, run.mirror).observe((run.finished - run.started).total_seconds())
        self._series(self.copied, *labels).inc(counts.get(Outcome.DONE.value, 0))
        self._series(self.deleted, *labels).inc(run.deleted)
        self._series(self.kept, *labels).inc(counts.get(Outcome.KEPT.value, 0) + run.idle)
        self._series(self.failed, *labels).inc(
            counts.get(Outcome.FAILED.value, 0) + counts.get(Outcome.REFUSED.value, 0)
        )
        self._series(self.refused, *labels).inc(run.forbidden)
        self._stand(self.attempt, run.finished, run.mirror)
        if run.result in (Result.SUCCESS, Result.NOOP):
            self._series(self.failures, run.mirror).set(0)
        elif run.result in (Result.FAILED, Result.PARTIAL):
            self._series(self.failures, run.mirror).inc()

    def _begin(self, mirror: Mirror) -> None:
        name = mirror.name
        self._series(self.info, name, mirror.kind).set(1)
        for family, seconds in ((self.interval, mirror.interval), (self.stale_after, mirror.stale)):
            if seconds is None:
                self._remove(family, name)
            else:
                self._series(family, name).set(seconds)
        rules = mirror.verifying
        for level in Level:
            if rules and rules.every and rules.level is level:
                self._series(self.verifying, name, level.value).set(rules.every)
            else:
                self._remove(self.verifying, name, level.value)
        if name not in self._targets:
            for family in (self.active, self.failures, self.problems):
                self._series(family, name).set(0)

    def _stand(self, family: Gauge, at: datetime | None, mirror: str, *labels: str) -> None:
        """Set a time; without one there is no series."""
        if at is None:
            self._remove(family, mirror, *labels)
        else:
            self._series(family, mirror, *labels).set(at.timestamp())

    def _series(self, family: _Family, mirror: str, *labels: str) -> _Family:
        self._used.setdefault(mirror, {})[family, labels] = family.remove
        return family.labels(mirror, *labels)

    def _remove(self, family: Gauge, mirror: str, *labels: str) -> None:
        if self._used.get(mirror, {}).pop((family, labels), None):
            family.remove(mirror, *labels)

    def _forget(self, mirror: str, chosen: Callable[[tuple[str, ...]], bool]) -> None:
        """Remove the series of a mirror whose other labels are chosen."""
        used = self._used.get(mirror, {})  # a thread that renders may add to it
        for family, labels in [key for key in list(used) if chosen(key[1])]:
            used.pop((family, labels))(mirror, *labels)
        if not used:
            self._used.pop(mirror, None)
