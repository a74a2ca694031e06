"""`mirrord status`: the state of all mirrors and targets."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from mirrord.cli.ask import ask
from mirrord.cli.console import clear, say, say_json, shortened, table
from mirrord.cli.results import target_names
from mirrord.commands import GetStatus
from mirrord.daemon.loop import run
from mirrord.model.run import Result
from mirrord.printable import plain, size
from mirrord.report.front import FrontStatus
from mirrord.report.status import UNITS, MirrorStatus, Status, TargetStatus, counted, status_document

EVERY = 2.0  # seconds between two updates of --watch


def status(*, config: Path | None, state: Path | None, watch: bool, json: bool) -> int:
    """Run the command and return its exit code."""
    while True:
        found = ask(GetStatus(), config, state, quiet=True)
        if json:
            say_json(status_document(found))
        else:
            if watch:
                clear()
            _show(found)
        if not watch:
            refused = bool(found.front and found.front.list_errors)
            good = {mirror.result for mirror in found.mirrors} <= {None, Result.SUCCESS, Result.NOOP}
            return 0 if good and not refused else 1
        sys.stdout.flush()  # also into a pipe each look is written at once
        run(asyncio.sleep(EVERY), plain=True)  # a signal ends it in good order


def _show(status: Status) -> None:
    rows: list[tuple[str, ...]] = []
    for mirror in status.mirrors:
        cells = _cells(mirror, status.now, mirror.problems.count)
        rows.append((mirror.name, "", *cells, _next(mirror, status.now), ""))
        rows += [
            ("", target.name, *_cells(target, status.now), "", counted(target.last_run)) for target in mirror.targets
        ]
    table(("MIRROR", "TARGET", "RESULT", "LAST SUCCESS", "ITEMS", "NEXT", "LAST RUN"), rows)
    if status.state == "offline":
        say("no daemon is running: mirrors run by `mirrord sync` alone; `mirrord serve` runs them by their schedule")
    if status.configuration_error:
        say(f"the new configuration was refused, the one before stays in use: {status.configuration_error}")
    if status.certificate_error:
        say(f"the certificate before stays in use: {status.certificate_error}")
    for text in _front(status.front) if status.front else ():
        say(plain(text))
    for mirror in status.mirrors:
        _say_beside(mirror)


def _front(front: FrontStatus) -> Iterator[str]:
    """Yield what the front did since the start, and what is wrong with it; nothing where it did nothing."""
    if front.answers or front.refusals or front.cache_entries:
        yield f"front: answers since the start: {front.answered()}; refused: {front.refused()}"
        kept = f"{size(front.cache_bytes)} of {size(front.cache_limit)}"
        yield f"front: cache: {kept}, {front.cache_entries} blobs and manifests"
    for trouble in (front.cache_error, *front.list_troubles()):
        if trouble:
            yield f"front: {shortened(trouble)}"


def _next(mirror: MirrorStatus, now: datetime) -> str:
    """Return when a mirror runs: `running, 3 of 12 done`, `in 5 min`, `on demand`; without a daemon `every 6 h`."""
    if mirror.running:
        run = mirror.running
        failed = f", {run.failed} failed" if run.failed else ""
        return "running" if run.steps is None else f"running, {run.done} of {run.steps} done{failed}"
    if mirror.next_run:
        return f"in {_span(now, mirror.next_run)}" if mirror.next_run > now else "now"
    return mirror.schedule or "on demand"


def _say_beside(mirror: MirrorStatus) -> None:
    """Print the errors, problems and remarks of a mirror and its targets, each once, also if targets share it."""
    messages = {target.last_error.message for target in mirror.targets if target.last_error}
    own = mirror.last_error
    if own and own.message not in messages:
        say(f"{mirror.name}: {plain(shortened(own.message))}")
    found: dict[str, list[str]] = {}  # targets by what is printed of them
    for target in mirror.targets:
        if target.last_error:
            last, listed = target.last_run, target.troubles
            more = last.refused + last.failed - sum(map(_items, listed)) if last and listed else 0
            rest = [f"and {more} more refused or failed"] if more > 0 else []
            for text in (*(listed or [target.last_error.message]), *rest):
                found.setdefault(text, []).append(target.name)
    for text, targets in found.items():
        say(f"{mirror.name}: {target_names(targets, len(mirror.targets))}: {plain(shortened(text))}")
    for word, noted in (("problem", mirror.problems), ("remark", mirror.remarks)):
        more = noted.count - len(noted.first)
        for text in (*noted.first, *([f"and {more} more"] if more > 0 else [])):
            say(f"{mirror.name}: {word}: {plain(shortened(text))}")


_OTHERS = re.compile(r"\S+ and ([0-9]{1,9}) more: ")


def _items(trouble: str) -> int:
    """Return the number of items that a trouble is about: `record.summary` writes `v1 and 2 more: …`."""
    others = _OTHERS.match(trouble)
    return 1 + int(others[1]) if others else 1


def _cells(entry: TargetStatus, now: datetime, problems: int = 0) -> tuple[str, str, str]:
    problem = f", {problems} problem{'' if problems == 1 else 's'}" if problems else ""
    success = f"{_span(now, entry.last_success)} ago" if entry.last_success else "never"
    return f"{entry.result or '-'}{problem}", success, str(entry.items)


def _span(now: datetime, at: datetime) -> str:
    seconds = abs(int((at - now).total_seconds()))
    for unit, length in UNITS:
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
