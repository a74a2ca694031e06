"""Shows work under way: one bar for the source and one for each target, or lines where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrord.cli.console import note, size
from mirrord.events import BytesRead, BytesSent, Event, Events, Planned, Retrying, StepDone

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SOURCE = "source"
EVERY: Final = 10.0  # seconds between two lines


@contextmanager
def shown(events: Events, *, quiet: bool) -> Iterator[None]:
    """Show what `events` tell until the context ends."""
    if quiet:
        yield
        return
    with _bars() if sys.stderr.isatty() else nullcontext() as progress:
        stop = events.listen(_Bars(progress).hear if progress else _Lines().hear)
        try:
            yield
        finally:
            stop()


class _Lines:
    """Now and then a line that says how far a run is, and one for each host that has to be asked again."""

    def __init__(self) -> None:
        self._runs: dict[str, _Steps] = {}
        self._retried: set[tuple[str, str]] = set()
        self._at = time.monotonic()

    def hear(self, event: Event) -> None:
        match event:
            case Planned(plan):
                self._runs[plan.mirror] = _Steps(len(plan.active))
            case StepDone(mirror, receipt) if run := self._runs.get(mirror):
                run.ended += 1
                run.bad += receipt.bad
                run.sent += receipt.sent
            case Retrying(host, reason) if (host, reason) not in self._retried:
                self._retried.add((host, reason))
                note(f"{host}: {reason}; trying again")
        if time.monotonic() - self._at >= EVERY:
            self._at = time.monotonic()
            for mirror, run in self._runs.items():
                if run.ended < run.planned:
                    note(f"{mirror}: {run}")


@dataclass(slots=True)
class _Steps:
    planned: int
    ended: int = 0
    bad: int = 0
    sent: int = 0  # bytes

    def __str__(self) -> str:
        failed = f", {self.bad} failed" if self.bad else ""
        return f"{self.ended} of {self.planned} steps, {size(self.sent)} sent{failed}"


def _bars() -> Progress:
    from rich import console, progress  # noqa: PLC0415 - only a terminal pays for rich

    columns = (progress.TextColumn("{task.description}"), progress.BarColumn())
    counts = (progress.DownloadColumn(binary_units=True), progress.TransferSpeedColumn())
    return progress.Progress(*columns, *counts, console=console.Console(stderr=True))


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}
        self._totals: dict[str, dict[str, int]] = {}

    def hear(self, event: Event) -> None:
        if isinstance(event, BytesRead):
            self._grow(SOURCE, event.digest, event.fresh, event.total)
        elif isinstance(event, BytesSent):
            self._grow(event.target, event.digest, event.fresh, event.total)

    def _grow(self, name: str, digest: str, count: int, total: int) -> None:
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=0)
        totals = self._totals.setdefault(name, {})
        totals[digest] = total
        self._progress.update(self._bars[name], total=sum(totals.values()), advance=count)
