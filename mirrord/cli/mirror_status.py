"""One mirror for a terminal or a pipe: how it stands, what is wrong and what to do, its items, how to use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from mirrord.cli.console import short, shortened
from mirrord.cli.layout import Column, Long, TableRow, laid_out
from mirrord.cli.overview import COLOURS, SAID, behind_of, doing, drift_of, failing_of, health_of, remarks_of, wrong_of
from mirrord.cli.results import target_names
from mirrord.cli.screen import Screen
from mirrord.printable import plain, size
from mirrord.report.documents import Document, adapter
from mirrord.report.mirror import BEHIND, ItemShown, MirrorDetail, items_of, lacking_of, ways_of
from mirrord.report.status import MirrorStatus, TargetStatus, counted, mirror_document

MOST: Final = 20
"""Items that are listed without `--all`."""
_TARGETS: Final = (
    Column("HEALTH"),
    Column("TARGET", least=8),
    Column("LAST SUCCESS"),
    Column("ITEMS"),
    Column("SIZE", spare=1),
    Column("BEHIND"),
    Column("RATE", spare=3),
    Column("LAST RUN", spare=4),
    Column("ADDRESS", least=16, spare=2),
)
_ITEMS: Final = (
    Column("ITEM", least=16),
    Column("DIGEST", spare=1),
    Column("SIZE"),
    Column("PLATFORMS", least=12, spare=2),
    Column("SIGNATURES", least=10, spare=3),
    Column("AT"),
)
_INDENT: Final = 2
_MINUTE: Final = 60


def mirror_lines(detail: MirrorDetail, screen: Screen, *, every: bool = False) -> Iterator[str]:
    """Yield the lines about one mirror; `every` lists all items that it has."""
    mirror = detail.mirror
    yield from screen.wrapped(plain(f"{mirror.name} ({mirror.kind})"))
    yield from _facts(detail, screen)
    yield ""
    yield from laid_out(_TARGETS, [_target(target, detail, screen) for target in mirror.targets], screen)
    yield from _section(SAID.text("mirror.errors"), _wrong(mirror, screen), screen)
    yield from _section(SAID.text("mirror.found"), _drift(detail, screen), screen)
    yield from _section(SAID.text("mirror.remarks"), _remarks(mirror, screen), screen)
    yield from _section(SAID.text("mirror.lacking"), _lacking(detail, screen), screen)
    items = items_of(detail.items, [target.name for target in mirror.targets])
    yield from _items(detail, items, screen, every=every)
    yield from _section(SAID.text("mirror.use"), _uses(detail, items, screen), screen)


def detail_document(detail: MirrorDetail) -> Document:
    """Return the status of a mirror as in `/status`, with one key more, `detail`."""
    kept = {"item", "uses", "whole", "days", "behind", "trouble"}
    places = {"items": {"__all__": {"at": {"__all__": {"place"}}}}}
    write = adapter(MirrorDetail).dump_python
    document: Document = write(detail, mode="json", include=kept) | {"more": detail.more}
    document |= write(detail, mode="json", include={"items"}, exclude=places)
    return {**mirror_document(detail.mirror), "detail": document}


def _facts(detail: MirrorDetail, screen: Screen) -> Iterator[str]:
    mirror, now = detail.mirror, detail.now
    failures = failing_of(mirror, now)
    result = SAID.result(mirror.result) if mirror.result else SAID.text("time.never")
    last = f"{result}, {SAID.ago(now, mirror.last_attempt)}" if mirror.last_attempt else result
    success = f"last success {SAID.ago(now, mirror.last_success)}" if mirror.last_success else "never succeeded"
    following = f", next {SAID.until(now, mirror.next_run)}" if mirror.next_run else ""
    facts = {
        "health": health_of(mirror, screen),
        "denied": mirror.denied,
        "from": mirror.source,
        "schedule": SAID.schedule(detail.schedule) + following,
        "deferred": SAID.continues(now, mirror.deferred_until) if mirror.deferred_until else "",
        "last run": ", ".join(part for part in (last, failures, success if failures else "") if part),
        "now": doing(mirror.running) if mirror.running else "",
        "90 days": _days(detail),
        "local": mirror.address,
        "trouble": detail.trouble,
    }
    width = max(map(len, facts)) + _INDENT + 2
    for name, text in facts.items():
        for at, line in enumerate(screen.wrapped(plain(text), width, whole=True) if text else ()):
            said = screen.paint(line[width:], COLOURS[mirror.health] if name == "health" else "")
            yield f"{' ' * _INDENT}{'' if at else name}".ljust(width) + said


def _days(detail: MirrorDetail) -> str:
    """Return the runs of the last 90 days: `412 runs, 3 failed, 1.2 GiB sent`."""
    runs = sum(day.runs for day in detail.days)
    if not runs:
        return ""
    failed = sum(day.failed for day in detail.days)
    sent = size(sum(day.sent for day in detail.days))
    parts = (SAID.text("mirror.day.runs", count=runs), f"{failed} failed" if failed else "", f"{sent} sent")
    longest = SAID.lasted(max(day.longest for day in detail.days))
    return ", ".join(part for part in (*parts, f"the longest {longest}") if part)


def _target(target: TargetStatus, detail: MirrorDetail, screen: Screen) -> TableRow:
    running = detail.mirror.running
    sending = running.targets.get(target.name) if running else None
    cells = (
        health_of(target, screen),
        target.name,
        SAID.ago(detail.now, target.last_success),
        str(target.items),
        size(target.size) if target.size else "",
        behind_of(target),
        SAID.rate(target.rate) if target.rate else "",
        counted(target.last_run),
        target.place,
    )
    return TableRow(cells, COLOURS[target.health], (doing(sending),) if sending else ())


def _section(title: str, lines: Iterator[str], screen: Screen) -> Iterator[str]:
    """Yield a heading and lines, or nothing when there are no lines."""
    first = next(lines, None)
    if first is not None:
        yield ""
        yield screen.paint(title, "bold")
        yield first
        yield from lines


def _wrong(mirror: MirrorStatus, screen: Screen) -> Iterator[str]:
    """Yield what went wrong in the words of who said it, and what to do about each kind of error."""
    for text in wrong_of(mirror):
        yield from screen.wrapped(plain(shortened(text)), _INDENT, whole=True)
    errors = [entry.last_error for entry in (mirror, *mirror.targets) if entry.last_error]
    for advice in dict.fromkeys(SAID.advice(error.code) for error in errors):
        if advice:
            text = f"{SAID.text('mirror.advice').lower()}: {advice.replace('NAME', mirror.name)}"
            yield from screen.wrapped(text, _INDENT, whole=True)


def _drift(detail: MirrorDetail, screen: Screen) -> Iterator[str]:
    """Yield what the last verification found to differ: how much at each target, then the first of it."""
    drifting = [target for target in detail.mirror.targets if target.verified and target.verified.drift]
    found = [f"{at.name}: {text}" for at in drifting for text in (at.verified.findings if at.verified else ())]
    for text in (*drift_of(detail.mirror, detail.now), *(found if not detail.mirror.denied else ())):
        yield from screen.wrapped(plain(shortened(text)), _INDENT, whole=True)


def _remarks(mirror: MirrorStatus, screen: Screen) -> Iterator[str]:
    for text in remarks_of(mirror):
        yield from screen.wrapped(plain(shortened(text)), _INDENT, whole=True)


def _lacking(detail: MirrorDetail, screen: Screen) -> Iterator[str]:
    for lacked in lacking_of(detail.behind):
        since = f"{SAID.time(lacked.since)} ({SAID.ago(detail.now, lacked.since)})"
        yield from screen.wrapped(plain(f"{lacked.target}, since {since}: {', '.join(lacked.items)}"), _INDENT)
    if len(detail.behind) > BEHIND:
        yield " " * _INDENT + f"and {detail.mirror.behind - BEHIND} more"


def _items(detail: MirrorDetail, found: Sequence[ItemShown], screen: Screen, *, every: bool) -> Iterator[str]:
    targets = [target.name for target in detail.mirror.targets]
    shown = found if every else found[:MOST]
    since = {(one.target, one.item): one.since for one in detail.behind}
    rows = [_item(item, targets, since, detail.now, screen) for item in shown]
    if rows:
        yield ""
        yield from laid_out(_ITEMS, rows, screen)
    if len(shown) < len(found) or (detail.more and not every):
        yield f"more items: mirrord status {detail.mirror.name} --all"


def _item(
    item: ItemShown, targets: Sequence[str], since: Mapping[tuple[str, str], datetime], now: datetime, screen: Screen
) -> TableRow:
    """Return an item with what each target has: `all targets`, `local; not at gitee for 3 hours`."""
    there = [name for name in targets if item.targets[name] == "present"]
    parts = [target_names(there, len(targets))] if there else []
    for name in targets:
        if item.targets[name] != "present":
            word = "not at" if item.targets[name] == "absent" else "other content at"
            lag = since.get((name, item.name))
            long = f" for {SAID.span(seconds)}" if lag and (seconds := (now - lag).total_seconds()) >= _MINUTE else ""
            parts.append(f"{word} {name}{long}")
    many, at, platforms = len(item.platforms), "; ".join(parts), ", ".join(item.platforms)
    changed = f" ({SAID.text('mirror.changed')})" if item.origin else ""
    signatures = [str(item.referrers)] if item.referrers is not None else []
    signatures += [SAID.text("mirror.signed", signer=item.signer)] if item.signer else []
    digest = item.digest if screen.width is None else short(item.digest)
    cells = (
        item.name,
        digest,
        "" if item.size is None else size(item.size),
        Long(f"{platforms}{changed}", f"{many} platforms{changed}" if many > 1 else f"{platforms}{changed}"),
        ", ".join(signatures),
        Long(at, at if len(there) == len(targets) else f"{len(there)} of {len(targets)}"),
    )
    return TableRow(cells)


def _uses(detail: MirrorDetail, items: Sequence[ItemShown], screen: Screen) -> Iterator[str]:
    """Yield the commands by which clients use each target, the nearest first; they are to be pasted, and never broken.

    A target without the item has none.
    """
    width = max((len(target.name) for target in detail.mirror.targets), default=0)
    width = _INDENT + (width if screen.width is None else min(width, 16))
    for way in ways_of(detail, items):
        name = way.target.name
        label = " " * _INDENT + (name if screen.width is None else screen.middle(name, 16))
        if way.word == "absent":
            lines = [f"{SAID.text('mirror.absent')}: {detail.item}"]
        else:
            lines = [usage.command for usage in dict.fromkeys((*way.item, *way.whole))]
        for at, line in enumerate(lines):
            yield f"{'' if at and screen.width is not None else label}".ljust(width) + f"  {plain(line)}"
