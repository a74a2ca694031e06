"""What runs now: steps, bytes, rates and time left of each running mirror and of its targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from mirrord.events import BytesRead, BytesSent, Event, Planned, StepDone, StepSized
from mirrord.report.status import Running, Sending
from mirrord.report.tally import Flow, Tally


@dataclass(slots=True)
class _Run:
    running: Running
    count: int = 0  # runs of the mirror that are under way
    tallies: dict[str, Tally] = field(default_factory=dict)  # by target
    planned: bool = False
    source: Flow = field(default_factory=Flow)


class Activity:
    """Follows the runs that it is told of; listens to events by being called with them."""

    def __init__(self) -> None:
        """Follow nothing yet."""
        self._runs: dict[str, _Run] = {}

    def begin(self, mirror: str, trigger: str, started: datetime) -> None:
        """Follow a run from now on; several of one mirror are followed as if they were one."""
        self._runs.setdefault(mirror, _Run(Running(trigger, started))).count += 1

    def end(self, mirror: str) -> None:
        """Follow a run of a mirror no more."""
        if run := self._runs.get(mirror):
            run.count -= 1
            if not run.count:
                del self._runs[mirror]

    def __call__(self, event: Event) -> None:
        """Count an event."""
        match event:
            case Planned(plan, work) if run := self._runs.get(plan.mirror):
                run.planned = True
                for target, steps in work.items():
                    run.tallies.setdefault(target, Tally(0, source=run.source)).planned += steps
            case StepDone(mirror, receipt) if run := self._runs.get(mirror):
                if tally := run.tallies.get(receipt.step.target):
                    tally.take(event)
            case BytesRead(place, count) if run := self._runs.get(place.partition("/")[0]):
                run.source.add(count)
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
    read = replace(run.running, read=run.source.count, read_rate=_whole(run.source.pace))
    if not run.planned:
        return read
    targets = {name: _sending(tally) for name, tally in run.tallies.items()}
    every = targets.values()
    return replace(
        read,
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
    return Sending(
        tally.planned,
        tally.good,
        tally.bad,
        tally.sent,
        tally.content,
        _whole(tally.out.pace),
        _whole(tally.left),
    )


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)


def _longest(times: Iterable[int | None]) -> int | None:
    """Return the longest time, or None if one of them is unknown."""
    longest = 0
    for one in times:
        if one is None:
            return None
        longest = max(longest, one)
    return longest
