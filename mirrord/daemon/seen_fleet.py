"""What this replica knows of all that share its record, as of its last look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from time import monotonic
from typing import Final

from mirrord.model.replica import Replica, WaitingRuns
from mirrord.record.fleet import Fleet
from mirrord.report.documents import adapter
from mirrord.report.replicas import ReplicaStatus, configurations
from mirrord.report.status import Running

SETTLES: Final = 60.0
"""Seconds for which configurations may differ before the log says so: replicas are changed one after another."""


class SeenFleet:
    """The replicas, and what waits for them; without others there is nothing to see.

    Attributes:
        here: the name of this replica, "" where it is alone.
        replicas: all, by name.
        waiting: what no replica has begun.
        looked: when that was seen; None before the first look.
    """

    def __init__(self, here: str, write: Callable[..., None], ticks: Callable[[], float] = monotonic) -> None:
        """Know nothing yet; `write` writes lines of the log."""
        self.here, self.waiting = here, WaitingRuns()
        self.replicas: tuple[ReplicaStatus, ...] = ()
        self.looked: datetime | None = None
        self._running: Mapping[str, Running] = {}
        self._write, self._ticks = write, ticks
        self._differ: float | None = None  # since when their configurations do
        self._told = frozenset[str]()

    def follow(self, replicas: Sequence[Replica], waiting: WaitingRuns, at: datetime) -> None:
        """Take what a look has found."""
        self.replicas, self.waiting, self.looked = tuple(map(status_of, replicas)), waiting, at
        self._running = elsewhere(replicas, self.here)
        found = configurations(self.replicas)
        if len(found) < 2:
            self._differ, self._told = None, frozenset()
            return
        if self._differ is None:
            self._differ = self._ticks()
        if self._ticks() - self._differ >= SETTLES and self._told != found.keys():
            self._told = frozenset(found)
            which = "; ".join(f"{digest}: {', '.join(names)}" for digest, names in found.items())
            message = f"replicas have different configurations ({which}); give all the same one, and reload"
            self._write("warning", "daemon.notice", message=message)

    def elsewhere(self) -> Mapping[str, Running]:
        """Return what living replicas but this one run, by mirror, with the replica's name."""
        return self._running


async def seen_from(fleet: Fleet) -> tuple[str, Sequence[Replica]]:
    """Return the name of this replica and all that there are; "" where this process has only looked at them.

    Such a process holds the state directory, so that the replica of this directory is dead, however recent its sign.
    """
    found = await fleet.replicas()
    if fleet.me.boot:
        return fleet.me.name, found
    return "", [replace(one, alive=one.alive and one.replica != fleet.me.name) for one in found]


def elsewhere(replicas: Sequence[Replica], here: str) -> Mapping[str, Running]:
    """Return what living replicas but one run, by mirror, with the replica's name."""
    read, found = adapter(Mapping[str, Running]), dict[str, Running]()
    for replica in replicas:
        if replica.alive and replica.replica != here:
            with suppress(ValueError):  # one of another version says it in another way
                running = read.validate_python(replica.running)
                found |= {mirror: replace(one, replica=replica.replica) for mirror, one in running.items()}
    return found


def status_of(one: Replica) -> ReplicaStatus:
    """Return how a replica stands."""
    running = tuple(sorted(one.running)) if one.alive else ()
    about = one.alive, running, one.leads, one.configuration
    return ReplicaStatus(one.replica, one.version, one.started, one.seen, *about)
