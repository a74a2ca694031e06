"""The series of the bucket in which `local` is, and what fronts share."""

from __future__ import annotations

from typing import Final

from mirrord.events import Event
from mirrord.model.remote import BucketAsked
from mirrord.report.front import SharedCacheStatus
from mirrord.report.registry import SeriesRegistry

_SECONDS: Final = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600)


class BucketMetrics:
    """Counts requests; listens to events by being called with them."""

    def __init__(self, registry: SeriesRegistry) -> None:
        """Add the families; without a bucket they have nothing to say."""
        self.requests = registry.counter(
            "bucket_requests", "Requests to the bucket of `local`, each with its repeats.", "operation", "outcome"
        )
        self.seconds = registry.histogram(
            "bucket_request_duration_seconds", "Time of these requests.", "operation", _SECONDS
        )
        gauge = registry.gauge
        self.failing = gauge("bucket_failing", "Whether the bucket cannot be used.")
        self.cached = gauge("front_shared_bytes", "Content that fronts share in the bucket, when it was counted last.")
        self.entries = gauge("front_shared_entries", "Blobs and manifests of it.")
        self.evictions = gauge("front_shared_evictions", "Blobs and manifests that all replicas removed from it.")
        self.evicted = gauge("front_shared_evicted_bytes", "Their bytes.")
        self.counted = gauge("front_shared_counted_timestamp_seconds", "When it was counted last; 0 for never.")
        self.unshared = gauge("front_shared_failing", "Whether it cannot be used or tended.")

    def shared(self, standing: SharedCacheStatus) -> None:
        """Take what fronts share there."""
        self.cached.set(standing.bytes)
        self.entries.set(standing.entries)
        self.evictions.set(standing.evictions)
        self.evicted.set(standing.evicted_bytes)
        self.counted.set(standing.counted.timestamp() if standing.counted else 0)
        self.unshared.set(bool(standing.error))

    def __call__(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, BucketAsked):
            self.requests.labels(event.operation, event.outcome).inc()
            self.seconds.labels(event.operation).observe(event.seconds)
