"""What runs now: steps, bytes, rate and time left of each running mirror and of its targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from mirrord.events import BytesSent, Event, Planned, StepDone, StepSized
from mirrord.report.status import Running, Sending
from mirrord.report.tally import Tally


@dataclass(slots=True)
class _Run:
    running: Running
    tallies: dict[str, Tally] = field(default_factory=dict)  # by target
    planned: bool = False


class Activity:
    """Follows the runs that it is told of; listens to events by being called with them."""

    def __init__(self) -> None:
        """Follow nothing yet."""
        self._runs: dict[str, _Run] = {}

    def begin(self, mirror: str, trigger: str, started: datetime) -> None:
        """Follow a run from now on; of each mirror one."""
        self._runs[mirror] = _Run(Running(trigger, started))

    def end(self, mirror: str) -> None:
        """Follow the run of a mirror no more."""
        self._runs.pop(mirror, None)

    def __call__(self, event: Event) -> None:
        """Count an event."""
        match event:
            case Planned(plan, work) if run := self._runs.get(plan.mirror):
                run.planned, run.tallies = True, {target: Tally(steps) for target, steps in work.items()}
            case StepDone(mirror, receipt) if run := self._runs.get(mirror):
                if tally := run.tallies.get(receipt.step.target):
                    tally.take(event)
            case BytesSent(place) | StepSized(place):
                mirror, _, target = place.partition("/")
                if (run := self._runs.get(mirror)) and (tally := run.tallies.get(target)):
                    tally.take(event)
            case _:
                pass

    def running(self) -> Mapping[str, Running]:
        """Return how far each run is, by mirror."""
        return {name: _running(run) for name, run in self._runs.items()}


def _running(run: _Run) -> Running:
    if not run.planned:
        return run.running
    targets = {name: _sending(tally) for name, tally in run.tallies.items()}
    every = targets.values()
    return replace(
        run.running,
        steps=sum(one.steps for one in every),
        done=sum(one.done for one in every),
        failed=sum(one.failed for one in every),
        sent=sum(one.sent for one in every),
        total=sum(one.total for one in every),
        rate=sum(rates) if (rates := [one.rate for one in every if one.rate is not None]) else None,
        left=_longest(one.left for one in every),
        targets=targets,
    )


def _sending(tally: Tally) -> Sending:
    rate, left = tally.pace, tally.left
    return Sending(
        tally.planned,
        tally.good,
        tally.bad,
        tally.sent,
        tally.content,
        None if rate is None else round(rate),
        None if left is None else round(left),
    )


def _longest(times: Iterable[int | None]) -> int | None:
    """Return the longest time, or None if one of them is unknown."""
    longest = 0
    for one in times:
        if one is None:
            return None
        longest = max(longest, one)
    return longest
