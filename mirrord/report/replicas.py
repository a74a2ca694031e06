"""How the processes stand that share a record. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mirrord.report.moments import At

OLD: Final = 30.0
"""Seconds after which a look at the replicas says nothing of now; there is one each five seconds."""


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One of the processes that share a record.

    Attributes:
        name: of its state directory.
        version: of mirrord.
        started: when it began.
        seen: its last sign of life.
        alive: whether that is recent; others take over what a dead one ran.
        running: the mirrors that it runs.
        leads: whether it sends notices, answers issues, verifies by schedule, collects the bucket, and copies what
            people ask for, for all of them.
        configuration: a digest of its configuration, without the settings of its machine; "" where that is unknown.
    """

    name: str
    version: str
    started: At
    seen: At
    alive: bool
    running: tuple[str, ...] = ()
    leads: bool = False
    configuration: str = ""


def outdated(now: datetime, looked: datetime | None) -> bool:
    """Return whether what is known of replicas is not of now, since the record was not reached for a while."""
    return looked is not None and (now - looked).total_seconds() > OLD


def configurations(replicas: Iterable[ReplicaStatus]) -> Mapping[str, Sequence[str]]:
    """Return the names of the living replicas by their configurations: more than one is a fault."""
    found: dict[str, list[str]] = {}
    for one in replicas:
        if one.alive and one.configuration:
            found.setdefault(one.configuration, []).append(one.name)
    return found
