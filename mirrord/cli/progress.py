"""Shows work under way: one bar for the source and one for each target, or lines where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from mirrord.cli.console import note, plain_lines, size
from mirrord.cli.results import mark
from mirrord.events import BytesRead, BytesSent, Event, Events, Retrying, StepDone

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SOURCE = "source"


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
    """A line for each step, and one for each cause that many of them have for ending badly."""

    def __init__(self) -> None:
        self._bad: set[str] = set()

    def hear(self, event: Event) -> None:
        if isinstance(event, StepDone):
            line = _line(event)
            if not event.receipt.bad or line not in self._bad:
                note(line)
            if event.receipt.bad:
                self._bad.add(line)
        elif isinstance(event, Retrying):
            note(f"retrying {event.host} in {event.delay:.1f} s: {event.reason}")


def _line(event: StepDone) -> str:
    """Write a line about a step: `done: app: ghcr: main: 6 blobs sent (1.2 MiB)`."""
    receipt = event.receipt
    sent = f" ({size(receipt.sent)})" if receipt.good and receipt.sent else ""
    where = [text for text in (event.mirror, receipt.step.target) if text]
    return ": ".join([mark(receipt), *where, f"{receipt.detail}{sent}"])


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
        elif isinstance(event, StepDone):
            self._progress.console.print(plain_lines(_line(event)), markup=False, highlight=False)

    def _grow(self, name: str, digest: str, count: int, total: int) -> None:
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=0)
        totals = self._totals.setdefault(name, {})
        totals[digest] = total
        self._progress.update(self._bars[name], total=sum(totals.values()), advance=count)
