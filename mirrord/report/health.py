"""Is the process alive, ready, started? Pure verdicts, each with its reason.

Health is about this process and never about registries: a source that is down is a matter for
`/status` and for an alert on `mirrord_sync_last_success_timestamp_seconds`. What makes it unhealthy is
what a restart can mend: an event loop that stands still, or a run that outlived its own cancellation
(zot issue 4357: everything hung while the probes stayed green).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TICK_LIMIT = 30.0
"""Seconds without a tick of the event loop after which it counts as standing still."""


@dataclass(frozen=True, slots=True)
class Health:
    """What is known about the process at one moment."""

    tick_age: float = 0.0  # seconds since the event loop last ticked
    overdue: tuple[str, ...] = ()  # mirrors whose run is still there although it was cancelled at its deadline
    scheduled: bool = True  # the schedule is running
    storage: str = ""  # what is wrong with the state on disk
    stopping: bool = False  # we were asked to end


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answers to one probe: by the name of each check what is wrong there, or ""."""

    checks: Mapping[str, str]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.checks.values())

    @property
    def reason(self) -> str:
        """What is wrong, or `ok`."""
        return "; ".join(filter(None, self.checks.values())) or "ok"

    def verbose(self) -> str:
        """Return one line a check, as Kubernetes prints them, and the verdict."""
        lines = [f"[{'-' if wrong else '+'}]{name} {wrong or 'ok'}" for name, wrong in self.checks.items()]
        return "\n".join([*lines, "passed" if self.good else "failed"]) + "\n"

    def without(self, names: Sequence[str]) -> Verdict:
        """Leave out the checks that somebody does not want to hear about (`?exclude=`)."""
        return Verdict({name: wrong for name, wrong in self.checks.items() if name not in names})


def live(health: Health) -> Verdict:
    """Say whether a restart would help."""
    still, overdue = health.tick_age >= TICK_LIMIT, ", ".join(health.overdue)
    return Verdict(
        {
            "loop": f"event loop has not ticked for {health.tick_age:.0f} s" if still else "",
            "runs": f"still running after being cancelled at the deadline: {overdue}" if overdue else "",
        }
    )


def started(_: Health) -> Verdict:
    """Say whether starting is over: it is when somebody answers, with a configuration, and after sweeping."""
    return Verdict({"configuration": "", "sweep": ""})


def ready(health: Health) -> Verdict:
    """Say whether to send work and clients here."""
    return Verdict(
        {
            **started(health).checks,
            "storage": health.storage,
            "schedule": "" if health.scheduled else "not running",
            "stopping": "shutting down" if health.stopping else "",
        }
    )
