"""What became of a run that was cancelled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mirrord.model.run import Result


@dataclass(frozen=True, slots=True)
class CancelledRun:
    """How the run of a mirror ended that was cancelled.

    Attributes:
        mirror: its name.
        trigger: what had started it; "" where nothing ran.
        result: `interrupted`, or another one if it ended by itself meanwhile; None where nothing ran.
        started: when it began, or None.
        finished: when it ended, or None.
        replica: that ran it, where that is another one than the one that was asked; else "".
    """

    mirror: str
    trigger: str = ""
    result: Result | None = None
    started: datetime | None = None
    finished: datetime | None = None
    replica: str = ""
