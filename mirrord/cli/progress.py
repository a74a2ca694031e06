"""Shows progress: a bar for each target on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from mirrord.cli.console import note
from mirrord.events import BytesRead, BytesSent, Event, Events, Planned, Retrying, RunStarted, StepDone, StepSized
from mirrord.model.remote import RunElsewhere
from mirrord.printable import plain, size
from mirrord.report.tally import Tally

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SOURCE: Final = "source"
EVERY: Final = 10.0  # seconds between two lines
BARS: Final = 12  # on screen; when there are more, those of finished targets are removed


@contextmanager
def shown(events: Events, *, quiet: bool) -> Iterator[None]:
    """Show the progress that `events` report until the context ends."""
    if quiet:
        yield
        return
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _progress() as progress:
            stop = events.listen(_Bars(progress).hear)
            try:
                yield
            finally:
                stop()
        return
    stop = events.listen(_Lines().hear)
    try:
        yield
    finally:
        stop()


def waiting(event: RunElsewhere) -> str:
    """Say for whom a run waits, and how far that one is."""
    sent = f", {size(event.sent)} sent" if event.sent else ""
    far = f": {event.done}/{event.steps} steps{sent}" if event.steps is not None else ""
    return f"waits for {event.replica}, which has it{far}"


class _Retried:
    """Which hosts were retried, and why: each is printed once."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def line(self, event: Retrying) -> str:
        """Return what to print about a retry, "" for a repetition."""
        if (event.host, event.reason) in self._seen:
            return ""
        self._seen.add((event.host, event.reason))
        return f"{event.host}: {event.reason}; trying again"


class _Waiting:
    """Prints for which replica each run waits, every ten seconds."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, float]] = {}  # by mirror, which replica has it, and when that was said

    def hear(self, event: RunElsewhere) -> None:
        before, at = self._said.get(event.mirror, ("", 0.0))
        if before != event.replica or time.monotonic() - at >= EVERY:
            self._said[event.mirror] = event.replica, time.monotonic()
            note(plain(f"{event.mirror}: {waiting(event)}"))


class _Lines:
    """Prints the progress of each run every ten seconds, and each host that is retried once."""

    def __init__(self) -> None:
        self._runs: dict[str, Tally] = {}
        self._retried = _Retried()
        self._at = time.monotonic()
        self._waiting = _Waiting()

    def hear(self, event: Event) -> None:
        match event:
            case Planned(plan, work):
                self._runs[plan.mirror] = Tally(sum(work.values()))
            case StepDone(mirror) if run := self._runs.get(mirror):
                run.take(event)
            case BytesRead(place, count) if run := self._run(place):
                run.source.add(count)
            case BytesSent(place) if run := self._run(place):
                run.take(event)
            case Retrying() if line := self._retried.line(event):
                note(line)
            case RunElsewhere():
                self._waiting.hear(event)
        if time.monotonic() - self._at >= EVERY:
            self._at = time.monotonic()
            for mirror, run in self._runs.items():
                if run.ended < run.planned:
                    failed = f", {run.bad} failed" if run.bad else ""
                    read = f"{size(run.source.count)} read, " if run.source.count else ""
                    note(f"{mirror or 'copy'}: {run.ended}/{run.planned} steps, {read}{size(run.sent)} sent{failed}")

    def _run(self, place: str) -> Tally | None:
        return self._runs.get(place.partition("/")[0], self._runs.get(""))


def _progress() -> Progress:
    from rich import console, progress, table, text  # noqa: PLC0415 - only a terminal pays for rich

    class Bar(progress.BarColumn):
        """A bar that is blank when there is no total."""

        def render(self, task: progress.Task) -> Any:
            return text.Text("") if task.total is None else super().render(task)

    name = table.Column(no_wrap=True, overflow="ellipsis", max_width=32)
    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False, table_column=name),
        Bar(bar_width=20),
        progress.TextColumn("{task.fields[text]}", markup=False, table_column=table.Column(no_wrap=True)),
        console=console.Console(stderr=True),
    )


class _Bars:
    """Draws a bar for each target, a line for the bytes read, and a line for each mirror that is being planned."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._targets: dict[str, Tally] = {}
        self._read = Tally(1)
        self._retried = _Retried()

    def hear(self, event: Event) -> None:
        match event:
            case Retrying() if line := self._retried.line(event):
                self._progress.console.print(plain(line), markup=False, highlight=False)
            case RunElsewhere(mirror, _, steps, done):
                self._draw(mirror, done / steps if steps else None, waiting(event))
            case RunStarted(mirror) if mirror:
                self._drop(mirror)
                self._draw(mirror, None, "planning")
            case Planned(plan, work):
                self._drop(plan.mirror)
                for target, planned in work.items():
                    name = f"{plan.mirror}/{target}" if plan.mirror else target
                    self._targets[name] = Tally(planned)
                    self._show(name)
            case BytesRead(_, count):
                self._read.take(BytesSent(SOURCE, count))
                self._draw(SOURCE, None, f"{size(self._read.sent)} read  {self._read.rate}")
            case BytesSent(name) | StepSized(name) if tally := self._targets.get(name):
                tally.take(event)
                self._show(name)
            case StepDone(mirror, receipt):
                name = f"{mirror}/{receipt.step.target}" if mirror else receipt.step.target
                if tally := self._targets.get(name):
                    tally.take(event)
                    self._show(name)

    def _show(self, name: str) -> None:
        tally = self._targets[name]
        parts = (f"{tally.share:4.0%}", tally.steps, f"{size(tally.sent)} sent" if tally.sent else "", tally.rate)
        self._draw(name, tally.share, "  ".join(filter(None, parts)))
        if tally.ended >= tally.planned and len(self._tasks) > BARS:
            self._drop(name)

    def _draw(self, name: str, share: float | None, text: str) -> None:
        if name not in self._tasks:
            total = None if share is None else 1.0
            self._tasks[name] = self._progress.add_task(plain(name), total=total, text=text)
        self._progress.update(self._tasks[name], completed=share or 0.0, text=text)

    def _drop(self, name: str) -> None:
        if name in self._tasks:
            self._progress.remove_task(self._tasks.pop(name))
