"""Is the process alive, ready, started? Pure verdicts, each with its reason.

Health is about this process and never about registries: a source that is down is a matter for
`/status` and for an alert on `mirrord_sync_last_success_timestamp_seconds`. What makes it unhealthy is
what a restart can mend: an event loop that stands still, or a run that outlived its own cancellation
(zot issue 4357: everything hung while the probes stayed green).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TICK_LIMIT = 30.0
"""Seconds without a tick of the event loop after which it counts as standing still."""


@dataclass(frozen=True, slots=True)
class Health:
    """What is known about the process at one moment.

    Attributes:
        tick_age: seconds since the event loop last ticked.
        overdue: mirrors whose run is still there although it was cancelled at its deadline.
        configured: a configuration is in use.
        swept: leftovers of an earlier process are gone.
        scheduled: the schedule is running.
        storage: what is wrong with the state on disk, or "".
        stopping: we were asked to end.
    """

    tick_age: float = 0.0
    overdue: tuple[str, ...] = ()
    configured: bool = True
    swept: bool = True
    scheduled: bool = True
    storage: str = ""
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One question: its answer, and why."""

    name: str
    good: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All answers to one probe."""

    checks: tuple[Check, ...]

    @property
    def good(self) -> bool:
        """Whether every check is good."""
        return all(check.good for check in self.checks)

    @property
    def reason(self) -> str:
        """What is wrong, or `ok`."""
        return "; ".join(check.reason for check in self.checks if not check.good) or "ok"

    def verbose(self) -> str:
        """Return one line a check, as Kubernetes prints them, and the verdict."""
        lines = [f"[{'+' if check.good else '-'}]{check.name} {check.reason}" for check in self.checks]
        return "\n".join([*lines, f"{'passed' if self.good else 'failed'}"]) + "\n"

    def without(self, names: Sequence[str]) -> Verdict:
        """Leave out the checks that somebody does not want to hear about (`?exclude=`)."""
        return Verdict(tuple(check for check in self.checks if check.name not in names))


def live(pulse: Health) -> Verdict:
    """Say whether a restart would help."""
    ticking = pulse.tick_age < TICK_LIMIT
    return Verdict(
        (
            Check("loop", ticking, "ok" if ticking else f"event loop has not ticked for {pulse.tick_age:.0f} s"),
            Check(
                "runs",
                not pulse.overdue,
                f"still running after being cancelled at the deadline: {', '.join(pulse.overdue)}"
                if pulse.overdue
                else "ok",
            ),
        )
    )


def started(pulse: Health) -> Verdict:
    """Say whether starting is over."""
    return Verdict(
        (
            Check("configuration", pulse.configured, "ok" if pulse.configured else "not loaded yet"),
            Check("sweep", pulse.swept, "ok" if pulse.swept else "leftovers are still being removed"),
        )
    )


def ready(pulse: Health) -> Verdict:
    """Say whether to send work and clients here."""
    return Verdict(
        (
            *started(pulse).checks,
            Check("storage", not pulse.storage, pulse.storage or "ok"),
            Check("schedule", pulse.scheduled, "ok" if pulse.scheduled else "not running"),
            Check("stopping", not pulse.stopping, "shutting down" if pulse.stopping else "ok"),
        )
    )
