"""The series of one process: events in, Prometheus text out.

Labels are names from the configuration (mirrors, targets, receivers, repositories) and hosts, never a tag, digest or
URL. The number of hosts is bounded: those of an upstream that redirects to ever new names share one series called
`other`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Final

from mirrord import events
from mirrord.model.history import Standing
from mirrord.report.ask_metrics import AskMetrics
from mirrord.report.bucket_metrics import BucketMetrics
from mirrord.report.desks import IssueDeskStatus
from mirrord.report.fleet_metrics import FleetMetrics
from mirrord.report.front import FrontStatus
from mirrord.report.mirror_metrics import MirrorMetrics
from mirrord.report.registry import SeriesRegistry
from mirrord.report.status import ReceiverStatus
from mirrord.syncer.values import Mirror

_HOSTS: Final = 64
_STATUSES: Final = frozenset(int(status) for status in HTTPStatus)
_REVIEW_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 2)
_REQUEST_SECONDS: Final = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600)


class Metrics:
    """All series of one process, in a registry of its own; listens to events by being called with them."""

    def __init__(self, version: str) -> None:
        self.registry = SeriesRegistry()
        gauge, counter = self.registry.gauge, self.registry.counter
        self._hosts: set[str] = set()
        self._names: frozenset[str] = frozenset()  # of all targets
        self._upstreams: frozenset[str] = frozenset()  # of fronts
        self._rested: set[str] = set()  # hosts that were not asked for a while
        self._receivers: frozenset[str] = frozenset()  # of notifications
        self._desks: frozenset[str] = frozenset()  # repositories in whose issues people ask
        gauge("build_info", "Constant 1; the version is the label.", "version").labels(version).set(1)
        self.mirrors = MirrorMetrics(self.registry)
        self.asks = AskMetrics(self.registry)
        self.fleet = FleetMetrics(self.registry)
        self.bucket = BucketMetrics(self.registry)
        self.bytes = counter("transfer_bytes", "Content bytes; target is empty for reads.", "direction", "target")
        self.requests = counter("upstream_requests", "HTTP exchanges; code 0: no answer.", "host", "code")
        self.seconds = self.registry.histogram(
            "upstream_request_duration_seconds", "Time of HTTP exchanges.", "host", _REQUEST_SECONDS
        )
        self.retries = counter("upstream_retries", "Requests tried again.", "host", "reason")
        self.quota = gauge("upstream_ratelimit_remaining", "Requests left, as reported by the host.", "host")
        self.whole_quota = gauge("upstream_ratelimit_limit", "The whole of it, as reported by the host.", "host")
        self.resting = gauge("upstream_circuit_open", "Whether the host is not asked after failures.", "host")
        self.at_once = gauge("upstream_concurrency", "Requests that the host gets at once at present.", "host")
        self.refused = counter("trust_refused", "Secrets not sent and connections not opened.", "reason")
        self.notified = counter("notifications", "Attempts to send a message.", "receiver", "result")
        self.unsent = gauge("notifications_failing", "Whether the last message could not be sent.", "receiver")
        self.issues = gauge("issues_open", "Issues that ask for an image and are not over.", "repository")
        self.unasked = gauge("issues_failing", "Whether the repository's forge cannot be asked.", "repository")
        self.answers = counter("front_answers", "Answers of the front with content.", "upstream", "kind", "outcome")
        self.refusals = counter("front_refusals", "Requests that the front refused.", "reason")
        self.troubles = counter("front_failures", "Answers for which an upstream failed.", "upstream", "reason")
        self.carried = counter("front_bytes", "Content bytes of the front.", "direction", "upstream")
        self.evictions = counter("front_evictions", "Blobs and manifests that left the cache.")
        self.evicted = counter("front_evicted_bytes", "Their bytes.")
        self.cache_bytes = gauge("front_cache_bytes", "Content in the cache.")
        self.cache_entries = gauge("front_cache_entries", "Blobs and manifests in the cache.")
        self.limit = gauge("front_cache_limit_bytes", "Bytes that the content may have.")
        self.cache_failing = gauge("front_cache_failing", "Whether the last content could not be kept or evicted.")
        self.lists = gauge("front_lists_refused", "Allow lists that are wrong, so that older ones are in use.")
        self.reload = gauge("config_last_reload_successful", "Whether the last reload succeeded.")
        self.reloaded = gauge("config_last_reload_success_timestamp_seconds", "Time of the last successful reload.")
        self.lag = gauge("event_loop_lag_seconds", "Delay of the last tick of the event loop.")
        self.free = gauge("storage_free_bytes", "Free space where the state is.")
        self.capacity = gauge("storage_size_bytes", "Size of the disk where the state is.")
        self.stored = gauge("storage_bytes", "Disk space of a part of the state directory.", "area")
        self.state = gauge("state_failing", "Whether the state directory or its database fails.")
        self.reviews = counter("webhook_reviews", "Admission reviews of Kubernetes.", "outcome")
        self.review_seconds = self.registry.histogram(
            "webhook_review_duration_seconds", "Time until a review was answered.", "outcome", _REVIEW_SECONDS
        )
        self.reviewed = counter("webhook_images", "Images of Pods, by what was decided.", "decision")
        self.expiry = gauge("certificate_not_after_timestamp_seconds", "When a certificate in use expires.", "name")
        self.pair = gauge(
            "certificate_refused", "Whether changed files are wrong, and an older pair is used, or none.", "name"
        )
        self.lost = gauge("log_lines_lost", "Log lines that could not be written.")

    def follow(
        self, mirrors: Iterable[Mirror], standing: Iterable[Standing], at: datetime, upstreams: Iterable[str] = ()
    ) -> None:
        """Follow a configuration: remove the series of removed mirrors and upstreams, add those of new mirrors."""
        before, self._upstreams = self._upstreams, frozenset(upstreams)
        for host in before - self._upstreams:
            self.answers.remove_by_labels({"upstream": host})
            self.carried.remove_by_labels({"upstream": host})
            self.troubles.remove_by_labels({"upstream": host})
            self.resting.remove_by_labels({"host": host})
        self._rested -= before - self._upstreams
        self.mirrors.follow(mirrors, standing)
        self._names = self.mirrors.targets
        self.reload.set(1)
        self.reloaded.set(at.timestamp())

    def text(self, next_runs: Mapping[str, datetime]) -> bytes:
        """Return all series in the Prometheus text format."""
        self.mirrors.schedule(next_runs)
        return self.registry.text()

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
            case events.RateLimit(host, remaining, limit):
                self.quota.labels(self._host(host)).set(remaining)
                if limit:
                    self.whole_quota.labels(self._host(host)).set(limit)
            case events.TrustRefused(_, reason):
                self.refused.labels(reason).inc()
            case events.Notified(receiver, result):
                self.notified.labels(receiver, result).inc()
            case events.Reloaded(error) if error:
                self.reload.set(0)
            case _:
                self.mirrors(event)
                self._count_clients(event)
                self.asks(event)
                self.fleet(event)
                self.bucket(event)

    def _count_clients(self, event: events.Event) -> None:
        match event:
            case events.Reviewed(outcome, seconds, images):
                self.reviews.labels(outcome).inc()
                self.review_seconds.labels(outcome).observe(seconds)
                for decision, count in images.items():
                    self.reviewed.labels(decision).inc(count)
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
        self.cache_failing.set(bool(front.cache_error))
        self.lists.set(len(front.list_errors))
        if front.shared is not None:
            self.bucket.shared(front.shared)

    def circuits(self, resting: Collection[str]) -> None:
        """Take which hosts are not asked now, by fronts or by runs; those of runs are told once they rested."""
        self._rested.update(host for host in map(self._host, resting) if host != "other")
        for host in self._upstreams | self._rested:
            self.resting.labels(host).set(host in resting)

    def receivers(self, standing: Collection[ReceiverStatus]) -> None:
        """Take how the receivers of notifications stand, and remove the series of those that are gone."""
        before, self._receivers = self._receivers, frozenset(one.name for one in standing)
        for name in before - self._receivers:
            self.notified.remove_by_labels({"receiver": name})
            self.unsent.remove_by_labels({"receiver": name})
        for one in standing:
            self.unsent.labels(one.name).set(bool(one.last_error))

    def desks(self, standing: Collection[IssueDeskStatus]) -> None:
        """Take how the repositories stand in whose issues people ask, and remove the series of those that are gone."""
        before, self._desks = self._desks, frozenset(one.name for one in standing)
        for name in before - self._desks:
            self.issues.remove_by_labels({"repository": name})
            self.unasked.remove_by_labels({"repository": name})
        for one in standing:
            self.issues.labels(one.name).set(one.open)
            self.unasked.labels(one.name).set(bool(one.last_error))

    def concurrency(self, at_once: Mapping[str, int]) -> None:
        """Take how many requests each host gets at once at present."""
        for host, count in at_once.items():
            if (name := self._host(host)) != "other":
                self.at_once.labels(name).set(count)

    def certificate(self, name: str, expires: datetime | None, error: str) -> None:
        """Take when a certificate of ours expires, and why changed files are not in use, or ""."""
        if expires is not None:
            self.expiry.labels(name).set(expires.timestamp())
        self.pair.labels(name).set(bool(error))

    def areas(self, sizes: Mapping[str, int]) -> None:
        """Take the bytes of each part of the state directory."""
        for area, size in sizes.items():
            self.stored.labels(area).set(size)

    def _upstream(self, host: str) -> str:
        return host if host in self._upstreams or not host else "other"

    def _host(self, host: str) -> str:
        if host not in self._hosts and len(self._hosts) >= _HOSTS:
            return "other"
        self._hosts.add(host)
        return host
