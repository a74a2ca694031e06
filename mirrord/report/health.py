"""Is the process alive, ready, started? Pure verdicts, each with its reason.

Health is about this process and never about registries: for a source that is down there are
`/status` and an alert on `mirrord_sync_last_success_timestamp_seconds`. A process is unhealthy when a
restart helps: its event loop does not run, or a run does not end although it was cancelled
(zot issue 4357: everything hung while the probes stayed green).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

TICK_LIMIT = 30.0
"""Seconds without a tick after which the event loop counts as stalled."""


@dataclass(frozen=True, slots=True)
class Health:
    """What is known about the process at one moment."""

    tick_age: float = 0.0  # seconds since the event loop last ticked
    overdue: tuple[str, ...] = ()  # mirrors whose run has not ended although it was cancelled at its deadline
    scheduled: bool = True  # the schedule is running
    storage: str = ""  # what is wrong with the state on disk
    bucket: str | None = None  # why the bucket of `local` cannot be used, or ""; None where there is none
    front: str = ""  # why nothing can be pulled through; what `local` has is served all the same
    stopping: bool = False  # we were asked to end


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one probe.

    Attributes:
        checks: the error of each check by its name, "" when it passed.
        notices: what `?verbose` adds by name, and what fails nothing.
    """

    checks: Mapping[str, str]
    notices: Mapping[str, str] = field(default_factory=dict)

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
        lines += [f"[!]{name} {text}" for name, text in self.notices.items()]
        return "\n".join([*lines, "passed" if self.good else "failed"]) + "\n"

    def without(self, names: Sequence[str]) -> Verdict:
        """Leave out the checks named in `?exclude=`."""
        return replace(self, checks={name: wrong for name, wrong in self.checks.items() if name not in names})


def live(health: Health) -> Verdict:
    """Return whether the process is alive: a restart would not help."""
    still, overdue = health.tick_age >= TICK_LIMIT, ", ".join(health.overdue)
    return Verdict(
        {
            "loop": f"event loop has not ticked for {health.tick_age:.0f} s" if still else "",
            "runs": f"still running after being cancelled at the deadline: {overdue}" if overdue else "",
        }
    )


def started(_: Health) -> Verdict:
    """Return whether the start is complete; a process that answers has read its configuration and swept its state."""
    return Verdict({"configuration": "", "sweep": ""})


def ready(health: Health) -> Verdict:
    """Return whether the process takes work and clients; without an allow list it serves `local`, so it is ready."""
    return Verdict(
        {
            **started(health).checks,
            "storage": health.storage,
            **({} if health.bucket is None else {"bucket": health.bucket}),
            "schedule": "" if health.scheduled else "not running",
            "stopping": "shutting down" if health.stopping else "",
        },
        {"front": health.front} if health.front else {},
    )
