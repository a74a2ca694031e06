"""A replica of mirrord, as the others see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Replica:
    """One process among those that share a record.

    Attributes:
        replica: its name, that of its state directory.
        boot: its process.
        version: of mirrord.
        started: when its process began.
        seen: its last sign of life.
        alive: whether that is recent.
        running: what it runs by mirror, and how far that is, as in the status.
        leads: whether it does what one of all does.
        configuration: a digest of its configuration; "" until that is known.
    """

    replica: str
    boot: str
    version: str
    started: datetime
    seen: datetime
    alive: bool
    running: Mapping[str, Any] = field(default_factory=dict)
    leads: bool = False
    configuration: str = ""


@dataclass(frozen=True, slots=True)
class WaitingRuns:
    """The runs that are due, and that no replica has begun.

    Attributes:
        count: how many.
        since: when the first of them was due; None where there are none.
    """

    count: int = 0
    since: datetime | None = None
