"""What receivers of notifications get to know."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Occasion(StrEnum):
    """What a notice is about, in the order of importance."""

    GUARD = "guard"  # a guard blocked a run, so that nothing was lost
    FAILURE = "failure"  # a run failed in whole or in part
    STALE = "stale"  # the last success is too long ago
    BUDGET = "budget"  # a host allows no more requests for now
    RECOVERY = "recovery"  # a run succeeded after one of the others


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that happened to a mirror, or to a host."""

    occasion: Occasion
    subject: str  # name of the mirror, or for a budget the host
    at: datetime  # when it happened
    since: datetime | None = None  # since when the mirror is or was broken; of a stale one, its last success
    kind: str = ""  # kind of the mirror, "" for a host
    source: str = ""  # where the mirror reads, "" for a host
    code: str = ""  # error code, or ""
    error: str = ""  # one sentence, without secrets, or ""
    until: datetime | None = None  # when a deferred mirror goes on, if that is known
