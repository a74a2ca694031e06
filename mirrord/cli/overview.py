"""All mirrors for a terminal or a pipe: the totals in one line, what fails first, then the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from mirrord.cli.console import shortened
from mirrord.cli.fleet_lines import offline_of, replicas_of
from mirrord.cli.layout import Column, Long, TableRow, laid_out
from mirrord.cli.results import target_names
from mirrord.cli.screen import Screen
from mirrord.model.history import Noted
from mirrord.model.verification import Level
from mirrord.printable import plain, size
from mirrord.report.front import FrontStatus
from mirrord.report.status import HEALTHS, MirrorStatus, Running, Sending, Status, TargetStatus, counted
from mirrord.report.words import words

SAID: Final = words("en")
"""The words of the terminal."""
COLOURS: Final = {
    "failing": "red",
    "stale": "yellow",
    "new": "dim",
    "deferred": "yellow",
    "ok": "green",
    "denied": "dim",
}
"""The colour of each health."""
_SIGNS: Final = {"failing": "✗", "stale": "!", "new": "·", "deferred": "~", "ok": "✓", "denied": "-"}
_PLAIN: Final = {**_SIGNS, "failing": "x", "new": " ", "ok": "+"}
_COLUMNS: Final = (
    Column("HEALTH"),
    Column("MIRROR", least=14),
    Column("TARGET", least=8),
    Column("RESULT", spare=3),
    Column("LAST SUCCESS"),
    Column("ITEMS", spare=4),
    Column("BEHIND", spare=1),
    Column("NEXT", spare=2),
    Column("LAST RUN", spare=5),
)
_NOTES: Final = 4  # sentences below a mirror on a terminal
_OTHERS: Final = re.compile(r"\S+ and ([0-9]{1,9}) more: ")


def overview(status: Status, screen: Screen) -> Iterator[str]:
    """Yield the lines about all mirrors."""
    yield _totals(status, screen)
    for text in _daemon(status):
        for line in text.split("\n"):
            yield from screen.wrapped(plain(line), whole=True)
    mirrors = sorted(status.mirrors, key=_order)
    if mirrors:
        yield from laid_out(_COLUMNS, [row for mirror in mirrors for row in _rows(mirror, status, screen)], screen)
    for text in _front(status.front, status.now) if status.front else ():
        yield from screen.wrapped(plain(text), whole=True)
    if screen.width is None:  # a terminal has them below the rows
        for mirror in mirrors:
            yield from (plain(f"{mirror.name}: {shortened(text)}") for text in _notes(mirror, status))


def _order(mirror: MirrorStatus) -> tuple[int, bool]:
    """Sort failing and stale ones first, then running ones, and others in the order of the configuration."""
    turn = HEALTHS.index(mirror.health)
    return (turn, False) if turn <= HEALTHS.index("stale") else (len(HEALTHS), not mirror.running)


def _totals(status: Status, screen: Screen) -> str:
    """Return all mirrors in one line: `1000 mirrors: 2 failing, 1 stale, 997 ok; 3 running`."""
    count = len(status.mirrors)
    if not count:
        return SAID.text("overview.none")
    found = [(status.totals.get(word, 0), word) for word in HEALTHS]
    parts = ", ".join(screen.paint(f"{number} {word}", COLOURS[word]) for number, word in found if number)
    running = status.totals.get("running", 0)
    now = "; " + screen.paint(f"{running} running", "cyan") if running else ""
    return f"{count} mirror{'' if count == 1 else 's'}: {parts}{now}"


def _daemon(status: Status) -> Iterator[str]:
    """Yield what is to be known of the daemon: that there is none, or what is wrong with it."""
    yield from offline_of(status)
    if status.storage_error:
        yield f"the state cannot be used: {status.storage_error}"
    if status.bucket_error:
        yield f"the bucket of `local` cannot be used: {status.bucket_error}"
    if status.configuration_error:
        yield f"the new configuration was refused, the one before stays in use: {status.configuration_error}"
    if status.certificate_error:
        yield f"the certificate before stays in use: {status.certificate_error}"
    for receiver in status.notify:
        if receiver.last_error:
            yield f"notifications do not reach {receiver.name} ({receiver.host}): {receiver.last_error}"
    for desk in status.issues:
        if desk.last_error:
            yield f"issues of {desk.name} cannot be read or answered: {desk.last_error}"
    yield from replicas_of(status)


def _front(front: FrontStatus, now: datetime) -> Iterator[str]:
    """Yield what the front did since the start, and what is wrong with it; nothing where it did nothing."""
    if front.answers or front.refusals or front.cache_entries:
        yield f"front: answers since the start: {front.answered()}; refused: {front.refused()}"
    if front.cache_limit and (front.answers or front.refusals or front.cache_entries):
        kept = f"{size(front.cache_bytes)} of {size(front.cache_limit)}"
        yield f"front: cache: {kept}, {front.cache_entries} blobs and manifests"
    if (shared := front.shared) is not None:
        if shared.counted:
            many = f"{shared.entries} blobs and manifests, {shared.evictions} evicted"
            yield f"front: shared cache: {size(shared.bytes)}, {many}; counted {SAID.ago(now, shared.counted)}"
        if shared.error:
            yield f"front: shared cache: {shortened(shared.error)}"
    for trouble in (front.cache_error, *front.list_troubles()):
        if trouble:
            yield f"front: {shortened(trouble)}"


def _rows(mirror: MirrorStatus, status: Status, screen: Screen) -> Iterator[TableRow]:
    """Yield a row for the mirror, and one for each target; on a terminal only for targets that differ."""
    many = len(mirror.targets)
    alike = mirror.health != "failing" and all(target.health == mirror.health for target in mirror.targets)
    one = screen.width is not None and (many == 1 or (alike and not mirror.behind))
    names = ", ".join(target.name for target in mirror.targets) if one else ""
    following = Long(doing(mirror.running), "running") if mirror.running else next_of(mirror, status)
    last = counted(mirror.targets[0].last_run) if one and many == 1 else ""
    at = Long(names, names if many == 1 else f"{many} targets" if one else "")
    cells: tuple[str | Long, ...] = (health_of(mirror, screen), mirror.name, at, *_stands(mirror, status))
    rows = [TableRow((*cells, following, last), COLOURS[mirror.health])]
    for target in () if one else mirror.targets:
        sending = mirror.running.targets.get(target.name) if mirror.running else None
        name = mirror.name if screen.width is None else ""
        now, last = Long(doing(sending), "running") if sending else "", counted(target.last_run)
        cells = (health_of(target, screen), name, target.name, *_stands(target, status), now, last)
        rows.append(TableRow(cells, COLOURS[target.health]))
    notes = [shortened(text) for text in _notes(mirror, status)] if screen.width is not None else []
    if len(notes) > _NOTES + 1:
        notes = [*notes[:_NOTES], f"and {len(notes) - _NOTES} more: mirrord status {mirror.name}"]
    rows[-1] = TableRow(rows[-1].cells, rows[-1].colour, notes)
    yield from rows


def health_of(entry: TargetStatus, screen: Screen) -> str:
    """Return the health as sign and word, in a pipe as the word alone."""
    if screen.width is None:
        return entry.health
    return f"{(_SIGNS if screen.signs else _PLAIN)[entry.health]} {entry.health}"


def _stands(entry: TargetStatus, status: Status) -> tuple[str, str, str, str]:
    """Return result, last success, items and what is behind."""
    problems = entry.problems.count if isinstance(entry, MirrorStatus) else 0
    problem = f", {problems} problem{'' if problems == 1 else 's'}" if problems else ""
    success = SAID.ago(status.now, entry.last_success)
    return f"{entry.result or '-'}{problem}", success, str(entry.items), behind_of(entry)


def behind_of(entry: TargetStatus) -> str:
    """Return how many items are behind, and for how long: `2 for 3 hours`."""
    if not entry.behind:
        return ""
    return f"{entry.behind} for {SAID.span(entry.lag)}" if entry.lag else str(entry.behind)


def doing(run: Running | Sending) -> str:
    """Return how far a run is: `running, 3 of 12 done, 1.2 GiB of 4.0 GiB, 12.0 MiB/s, 5 min left`.

    While it reads and sends nothing, what it reads: `read 40.0 MiB at 1.0 MiB/s`.
    """
    running = f"running at {run.replica}" if isinstance(run, Running) and run.replica else "running"
    if run.steps is None:
        return running
    failed = f", {run.failed} failed" if run.failed else ""
    sent = f", {size(run.sent)} of {size(max(run.sent, run.total))}" if run.total or run.sent else ""
    rate = f", {SAID.rate(run.rate)}" if run.rate else ""
    if isinstance(run, Running) and run.reading:
        rate = f", {SAID.text('overview.read', size=size(run.read), rate=SAID.rate(run.read_rate or 0))}"
    left = f", {SAID.text('overview.left', span=SAID.lasted(run.left))}" if run.left else ""
    return f"{running}, {run.done} of {run.steps} done{failed}{sent}{rate}{left}"


def next_of(mirror: MirrorStatus, status: Status) -> str:
    """Return when a mirror runs: `in 5 minutes`, `on demand`, `-` if taken down; without a daemon `every 6 h`."""
    if mirror.next_run:
        return SAID.until(status.now, mirror.next_run)
    if mirror.denied:
        return "-"
    return mirror.schedule or "on demand"


def _notes(mirror: MirrorStatus, status: Status) -> Iterator[str]:
    """Yield why a mirror was taken down, since when it fails, when it goes on, and its notes."""
    if mirror.denied:
        yield f"taken down: {mirror.denied}"
    if mirror.failing_since:
        yield failing_of(mirror, status.now)
    if mirror.deferred_until:
        yield SAID.continues(status.now, mirror.deferred_until)
    yield from wrong_of(mirror)
    yield from drift_of(mirror, status.now)
    yield from (f"remark: {text}" for text in remarks_of(mirror))


def failing_of(mirror: MirrorStatus, now: datetime) -> str:
    """Return how often and since when a mirror fails, `failed 3 times in a row, first 2 hours ago`, or ""."""
    if not mirror.consecutive_failures:
        return ""
    often = SAID.text("overview.failures", count=mirror.consecutive_failures)
    return f"{often}, first {SAID.ago(now, mirror.failing_since)}" if mirror.failing_since else often


def wrong_of(mirror: MirrorStatus) -> Iterator[str]:
    """Yield the errors and problems of a mirror and its targets, each once, also if targets share it."""
    messages = {target.last_error.message for target in mirror.targets if target.last_error}
    own = mirror.last_error
    if own and own.message not in messages:
        yield own.message
    found: dict[str, list[str]] = {}  # targets by what is said of them
    for target in mirror.targets:
        for text in _troubles(target):
            found.setdefault(text, []).append(target.name)
    for text, targets in found.items():
        yield f"{target_names(targets, len(mirror.targets))}: {text}"
    yield from (f"problem: {text}" for text in _noted(mirror.problems))


def drift_of(mirror: MirrorStatus, now: datetime) -> Iterator[str]:
    """Yield for each target what its last verification found to differ, and the command that looks again."""
    for target in mirror.targets:
        if (found := target.verified) and found.drift and not mirror.denied:
            look = f"mirrord verify{'' if found.level is Level.NAMES else f' --{found.level.value}'} {mirror.name}"
            count = SAID.text("mirror.drift", count=found.drift)
            yield f"{target.name}: verified {SAID.ago(now, found.at)}: {count} from what was mirrored; `{look}`"


def remarks_of(mirror: MirrorStatus) -> Iterator[str]:
    """Yield what is to be known of a mirror and is no error."""
    yield from _noted(mirror.remarks)


def _noted(noted: Noted) -> Iterator[str]:
    more = noted.count - len(noted.first)
    yield from (*noted.first, *([f"and {more} more"] if more > 0 else []))


def _troubles(target: TargetStatus) -> Sequence[str]:
    """Return what went wrong at a target, and how much more there is."""
    if not target.last_error:
        return ()
    last, listed = target.last_run, target.troubles
    more = last.refused + last.failed - _sum(listed) if last and listed else 0
    return (*(listed or (target.last_error.message,)), *([f"and {more} more refused or failed"] if more > 0 else ()))


def _sum(troubles: Iterable[str]) -> int:
    """Return the number of items that troubles are about: `record.summary` writes `v1 and 2 more: …`."""
    return sum(1 + int(others[1]) if (others := _OTHERS.match(text)) else 1 for text in troubles)
