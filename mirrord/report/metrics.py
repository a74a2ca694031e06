"""The only door to prometheus_client: events in, Prometheus text out.

Labels are names from the configuration (mirrors, targets) and hosts, never a tag, digest or URL. The number of
hosts is bounded: those of an upstream that redirects to ever new names share one series called `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus

from prometheus_client import (  # noqa: TID251 - this is the door
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest  # noqa: TID251 - this is the door

from mirrord import events
from mirrord.model.history import Standing
from mirrord.model.run import Outcome, Result, Run
from mirrord.report.front import FrontStatus
from mirrord.syncer.values import Mirror

CONTENT_TYPE = CONTENT_TYPE_LATEST
_HOSTS = 64
_STATUSES = frozenset(int(status) for status in HTTPStatus)
_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600)
_REQUEST_SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600)


# The creation times of series are a fifth of all lines, and nothing uses them.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no type for it


class Metrics:
    """All series of one process, in a registry of its own; listens to events by being called with them."""

    def __init__(self, version: str) -> None:
        self._registry = CollectorRegistry()
        self._hosts: set[str] = set()
        self._targets: dict[str, frozenset[str]] = {}
        self._names: frozenset[str] = frozenset()  # of all targets
        self._upstreams: frozenset[str] = frozenset()  # of fronts
        self._next: Mapping[str, datetime] = {}
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._gauge("build_info", "Constant 1; the version is the label.", "version").labels(version).set(1)
        self.success = self._gauge(
            "sync_last_success_timestamp_seconds", "End of the last successful run.", "mirror", "target"
        )
        self.attempt = self._gauge("sync_last_attempt_timestamp_seconds", "End of the last run.", "mirror")
        self.failures = self._gauge("sync_consecutive_failures", "Failed runs since the last successful one.", "mirror")
        self.problems = self._gauge("sync_problems", "Items left out because they are wrong upstream.", "mirror")
        self.active = self._gauge("sync_in_progress", "Whether a run is under way.", "mirror")
        self.next_run = self._gauge("sync_next_run_timestamp_seconds", "Time of the next scheduled run.", "mirror")
        self.runs = self._counter("sync_runs", "Runs that ended.", "mirror", "kind", "result")
        self.skipped = self._counter("sync_runs_skipped", "Scheduled runs that did not start.", "mirror", "reason")
        self.duration = self._histogram("sync_duration_seconds", "Wall time of runs.", "mirror", _SECONDS)
        self.planned = self._counter("items_planned", "Steps with something to do.", "mirror", "kind")
        self.copied = self._counter("items_copied", "Steps that wrote.", "mirror", "kind")
        self.kept = self._counter("items_skipped", "Steps that had nothing to do.", "mirror", "kind")
        self.failed = self._counter("items_failed", "Steps that failed or were refused.", "mirror", "kind")
        self.bytes = self._counter("transfer_bytes", "Content bytes; target is empty for reads.", "direction", "target")
        self.requests = self._counter("upstream_requests", "HTTP exchanges; code 0: no answer.", "host", "code")
        self.seconds = self._histogram(
            "upstream_request_duration_seconds", "Time of HTTP exchanges.", "host", _REQUEST_SECONDS
        )
        self.retries = self._counter("upstream_retries", "Requests tried again.", "host", "reason")
        self.quota = self._gauge("upstream_ratelimit_remaining", "Requests left, as reported by the host.", "host")
        self.refused = self._counter("trust_refused", "Secrets not sent and connections not opened.", "reason")
        self.answers = self._counter(
            "front_answers", "Answers of the front with content.", "upstream", "kind", "outcome"
        )
        self.refusals = self._counter("front_refusals", "Requests that the front refused.", "reason")
        self.troubles = self._counter("front_failures", "Answers for which an upstream failed.", "upstream", "reason")
        self.carried = self._counter("front_bytes", "Content bytes of the front.", "direction", "upstream")
        self.evictions = self._counter("front_evictions", "Blobs and manifests that left the cache.")
        self.evicted = self._counter("front_evicted_bytes", "Their bytes.")
        self.cache_bytes = self._gauge("front_cache_bytes", "Content in the cache.")
        self.cache_entries = self._gauge("front_cache_entries", "Blobs and manifests in the cache.")
        self.limit = self._gauge("front_cache_limit_bytes", "Bytes that the content may have.")
        self.lists = self._gauge("front_lists_refused", "Allow lists that are wrong, so that older ones are in use.")
        self.reload = self._gauge("config_last_reload_successful", "Whether the last reload succeeded.")
        self.reloaded = self._gauge(
            "config_last_reload_success_timestamp_seconds", "Time of the last successful reload."
        )
        self.lag = self._gauge("event_loop_lag_seconds", "Delay of the last tick of the event loop.")
        self.free = self._gauge("storage_free_bytes", "Free space where the state is.")
        self.lost = self._gauge("log_lines_lost", "Log lines that could not be written.")

    def follow(
        self, mirrors: Iterable[Mirror], standing: Iterable[Standing], at: datetime, upstreams: Iterable[str] = ()
    ) -> None:
        """Follow a configuration: remove the series of removed mirrors and upstreams, add those of new mirrors."""
        before, self._upstreams = self._upstreams, frozenset(upstreams)
        for host in before - self._upstreams:
            self.answers.remove_by_labels({"upstream": host})
            self.carried.remove_by_labels({"upstream": host})
            self.troubles.remove_by_labels({"upstream": host})
        configured = {mirror.name: frozenset(target.name for target in mirror.targets) for mirror in mirrors}
        for name in self._targets.keys() - configured.keys():
            for series in (
                *(self.success, self.attempt, self.failures, self.problems, self.active, self.runs, self.skipped),
                *(self.duration, self.planned, self.copied, self.kept, self.failed),
            ):
                series.remove_by_labels({"mirror": name})
        for name, targets in self._targets.items():
            for target in targets - configured.get(name, frozenset()):
                self.success.remove_by_labels({"mirror": name, "target": target})
        for name in configured.keys() - self._targets.keys():
            self.active.labels(name).set(0)
            self.failures.labels(name).set(0)
            self.problems.labels(name).set(0)
        self._targets = configured
        self._names = frozenset[str]().union(*configured.values())
        self.remember(standing)
        self.reload.set(1)
        self.reloaded.set(at.timestamp())

    def text(self, next_runs: Mapping[str, datetime]) -> bytes:
        """Return all series in the Prometheus text format."""
        before, self._next = self._next, next_runs
        for name in before.keys() - next_runs.keys():
            self.next_run.remove(name)
        for name, at in next_runs.items():
            if before.get(name) != at:
                self.next_run.labels(name).set(at.timestamp())
        return generate_latest(self._registry)

    def __call__(self, event: events.Event) -> None:
        """Count `event`."""
        match event:
            case events.BytesRead(_, count):
                self.bytes.labels("read", "").inc(count)
            case events.BytesSent(target, count):
                name = target.rpartition("/")[2]
                self.bytes.labels("sent", name if name in self._names else "other").inc(count)
            case events.RequestDone(host, _, status, seconds):
                code = str(status) if status in _STATUSES or status == 0 else "other"
                self.requests.labels(self._host(host), code).inc()
                self.seconds.labels(self._host(host)).observe(seconds)
            case events.Retrying(host, reason, _):
                self.retries.labels(self._host(host), reason).inc()
            case events.RateLimit(host, remaining):
                self.quota.labels(self._host(host)).set(remaining)
            case events.TrustRefused(_, reason):
                self.refused.labels(reason).inc()
            case events.Reloaded(error) if error:
                self.reload.set(0)
            case _:
                self._count_run(event)
                self._count_front(event)

    def _count_front(self, event: events.Event) -> None:
        match event:
            case events.FrontAnswered(upstream, kind, outcome):
                self.answers.labels(self._upstream(upstream), kind, outcome).inc()
            case events.FrontRefused(reason=reason):
                self.refusals.labels(reason).inc()
            case events.FrontFailed(upstream, reason=reason):
                self.troubles.labels(self._upstream(upstream), reason).inc()
            case events.FrontBytes(upstream, direction, size):
                self.carried.labels(direction, self._upstream(upstream)).inc(size)
            case events.Evicted(entries, size):
                self.evictions.inc(entries)
                self.evicted.inc(size)
            case _:
                pass

    def cached(self, front: FrontStatus) -> None:
        """Take what is not counted but stands."""
        self.cache_bytes.set(front.cache_bytes)
        self.cache_entries.set(front.cache_entries)
        self.limit.set(front.cache_limit)
        self.lists.set(len(front.list_errors))

    def _upstream(self, host: str) -> str:
        return host if host in self._upstreams or not host else "other"

    def _count_run(self, event: events.Event) -> None:
        match event:
            case events.RunStarted(mirror=mirror) if mirror in self._targets:
                self.active.labels(mirror).set(1)
            case events.Planned(plan) if plan.mirror in self._targets:
                self.planned.labels(plan.mirror, plan.kind).inc(len(plan.active))
            case events.RunSkipped(mirror, reason) if mirror in self._targets:
                self.skipped.labels(mirror, reason).inc()
            case events.RunFinished(run) if run.mirror in self._targets:
                self._finish(run)
            case _:
                pass

    def _finish(self, run: Run) -> None:
        labels = (run.mirror, run.kind)
        counts = run.counts
        self.active.labels(run.mirror).set(0)
        self.runs.labels(*labels, run.result.value).inc()
        self.duration.labels(run.mirror).observe((run.finished - run.started).total_seconds())
        self.copied.labels(*labels).inc(counts.get(Outcome.DONE.value, 0))
        self.kept.labels(*labels).inc(counts.get(Outcome.KEPT.value, 0) + run.idle)
        self.failed.labels(*labels).inc(counts.get(Outcome.FAILED.value, 0) + counts.get(Outcome.REFUSED.value, 0))
        self.attempt.labels(run.mirror).set(run.finished.timestamp())
        if run.result in (Result.SUCCESS, Result.NOOP):
            self.failures.labels(run.mirror).set(0)
        elif run.result in (Result.FAILED, Result.PARTIAL):
            self.failures.labels(run.mirror).inc()

    def remember(self, standing: Iterable[Standing]) -> None:
        """Take the state from the record, after each run and at the start: a restart must not look like a failure."""
        for entry in standing:
            if entry.mirror not in self._targets or entry.target not in self._targets[entry.mirror] | {""}:
                continue
            if entry.last_success is not None:
                self.success.labels(entry.mirror, entry.target).set(entry.last_success.timestamp())
            if not entry.target:
                self.problems.labels(entry.mirror).set(entry.problems.count)
                self.failures.labels(entry.mirror).set(entry.failures)
                if entry.last_attempt is not None:
                    self.attempt.labels(entry.mirror).set(entry.last_attempt.timestamp())

    def _host(self, host: str) -> str:
        if host not in self._hosts and len(self._hosts) >= _HOSTS:
            return "other"
        self._hosts.add(host)
        return host

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"mirrord_{name}", text, labels, registry=self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"mirrord_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, label: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"mirrord_{name}", text, (label,), buckets=buckets, registry=self._registry)
