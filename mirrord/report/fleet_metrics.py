"""The series of replicas that share a record: each of them has those of all."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from math import nan

from mirrord.events import Event
from mirrord.model.remote import LeaseLost, LeaseTakenOver
from mirrord.model.replica import WaitingRuns
from mirrord.report.registry import SeriesRegistry
from mirrord.report.replicas import ReplicaStatus, configurations, outdated


class FleetMetrics:
    """Says how the replicas stand, and counts leases; listens to events by being called with them."""

    def __init__(self, registry: SeriesRegistry) -> None:
        """Add the families; without other replicas they have nothing to say."""
        gauge, counter = registry.gauge, registry.counter
        self._names: frozenset[str] = frozenset()
        self.up = gauge("replica_up", "Whether the last sign of life is recent.", "replica")
        self.seen = gauge("replica_last_seen_timestamp_seconds", "Its last sign of life.", "replica")
        self.leading = gauge("replica_leading", "Whether it does what one of all does.", "replica")
        self.runs = gauge("replica_runs", "Mirrors that it runs.", "replica")
        self.configurations = gauge("replica_configurations", "Different configurations among those that are alive.")
        self.waiting = gauge("queue_waiting_runs", "Runs that are due, and that no replica has begun.")
        self.oldest = gauge("queue_oldest_seconds", "Time since the first of them was due.")
        self.lost = counter("leases_lost", "Leases on mirrors that another replica took.")
        self.taken = counter("leases_taken_over", "Leases on mirrors that were taken from a dead replica.")

    def stand(
        self,
        replicas: Collection[ReplicaStatus],
        waiting: WaitingRuns,
        now: datetime,
        looked: datetime | None,
    ) -> None:
        """Take how the replicas stood at a look, and what waited for them; remove the series of those that are gone.

        A look that is old says nothing of now: alerts take what a replica says that reaches the record.
        """
        old = outdated(now, looked)
        if old:
            replicas, waiting = (), WaitingRuns()
        before, self._names = self._names, frozenset(one.name for one in replicas)
        for family in (self.up, self.seen, self.leading, self.runs):
            for name in before - self._names:
                family.remove(name)
        for one in replicas:
            self.up.labels(one.name).set(one.alive)
            self.seen.labels(one.name).set(one.seen.timestamp())
            self.leading.labels(one.name).set(one.leads)
            self.runs.labels(one.name).set(len(one.running))
        self.configurations.set(len(configurations(replicas)))
        self.waiting.set(nan if old else waiting.count)
        waited = max(0.0, (now - waiting.since).total_seconds()) if waiting.since else 0.0
        self.oldest.set(nan if old else waited)

    def __call__(self, event: Event) -> None:
        """Count an event."""
        match event:
            case LeaseLost():
                self.lost.inc()
            case LeaseTakenOver():
                self.taken.inc()
            case _:
                pass
