"""Events about other processes, and what they share: leases on mirrors, and a bucket; see `mirrord.events`."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class LeaseLost(NamedTuple):
    """Another replica took the lease on a mirror, since this one gave no sign of life for too long."""

    mirror: str


class LeaseTakenOver(NamedTuple):
    """This replica took the lease on a mirror from one that gave no sign of life for too long."""

    mirror: str


class RunCutOff(NamedTuple):
    """A run of another process was recorded, which was killed in it.

    Attributes:
        mirror: its name.
        kind: kind of artifact.
        trigger: what started it.
        started: when it began (UTC).
        seconds: until the last sign of life of its process.
        replica: that ran it, "" on one machine.
    """

    mirror: str
    kind: str
    trigger: str
    started: datetime
    seconds: float
    replica: str = ""


class BucketAsked(NamedTuple):
    """A request to the bucket has ended, with its repeats.

    Attributes:
        operation: `head`, `get`, `stream` (of content), `put`, `upload` (in parts), `delete` or `list`.
        outcome: `done`; `absent`: there is no such object; `conflict`: there is another one; `failed`.
        seconds: until then.
    """

    operation: str
    outcome: str
    seconds: float


class SharedCacheFailed(NamedTuple):
    """Something of what replicas share of a front's cache is damaged, or could not be done."""

    message: str


class RunElsewhere(NamedTuple):
    """A run here waits while another replica has the mirror, again and again until that is over.

    Attributes:
        mirror: its name.
        replica: that has it.
        steps: of its run; None where it has none, or until that is planned.
        done: steps that have ended well.
        sent: bytes sent so far.
    """

    mirror: str
    replica: str
    steps: int | None = None
    done: int = 0
    sent: int = 0
