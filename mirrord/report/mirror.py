"""What the page of one mirror shows: what it has where, how to use it, its days, and what changed when. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import Final

from mirrord.model.about import Imprint
from mirrord.model.history import Behind, Day, ItemRow, RunRecord
from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.model.memory import LastSeen
from mirrord.report.plots import PlotDay, bars, strip
from mirrord.report.runs import TONES
from mirrord.report.status import MirrorStatus, TargetStatus
from mirrord.report.words import Words
from mirrord.syncer.values import LOCAL, Schedule, Usage

DAYS: Final = 90
"""Days that the plots show."""
ITEMS: Final = 100
"""Items on one page."""
BEHIND: Final = 20
"""Items that a target lacks, as many as a page names."""
RUNS: Final = 20
"""Runs that a page shows, the newest ones."""
MOVES: Final = 60
"""Entries of the ledger that a page shows; moves at several targets are one change."""
USABLE: Final = ("ok", "deferred")
"""Health of targets on which clients can rely: the last run reached them, or one that was not long ago."""
_TITLES: Final = {
    "result": "mirror.result",
    "duration": "mirror.duration",
    "bytes": "mirror.bytes",
    "items": "mirror.items",
}
_Draw = Callable[[str, str, str, Sequence[PlotDay]], str]


@dataclass(frozen=True, slots=True)
class Wish:
    """What of a mirror a reader wants to see.

    Attributes:
        find: only items whose names contain this text.
        after: only items with greater names.
        item: the item whose commands are shown; "" for one that the page chooses.
        before: only changes with smaller numbers; 0 for the newest.
        name: only changes of this name; "" for all.
    """

    find: str = ""
    after: str = ""
    item: str = ""
    before: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class MirrorDetail:
    """All that is known of one mirror, as far as a page has room for it.

    Attributes:
        mirror: how it stands.
        now: when this was read.
        items: its items by name, with their state at the targets of today.
        next: the last name that was read: the next page begins behind it; "" on the last page.
        item: the item that `uses` is about, or "".
        uses: by target, the commands that get the item.
        whole: by target, the commands that get the mirror as a whole.
        days: the days on which runs ended, oldest first.
        runs: the last runs, newest first.
        behind: what targets lack, the oldest first.
        moves: entries of the ledger, newest first.
        older: whether there are entries before these.
        front: whether there is something to see at `/front`.
        about: what the operator says of all mirrors.
        schedule: when it runs, None for on demand.
        trouble: why the record could not be read, or "".
    """

    mirror: MirrorStatus
    now: datetime
    items: Sequence[ItemRow] = ()
    next: str = ""
    item: str = ""
    uses: Mapping[str, Sequence[Usage]] = field(default_factory=dict)
    whole: Mapping[str, Sequence[Usage]] = field(default_factory=dict)
    days: Sequence[Day] = ()
    runs: Sequence[RunRecord] = ()
    behind: Sequence[Behind] = ()
    moves: Sequence[LedgerEntry] = ()
    older: bool = False
    front: bool = False
    about: Imprint = field(default_factory=Imprint)
    schedule: Schedule | None = None
    trouble: str = ""

    @property
    def more(self) -> bool:
        """Whether there are items behind these."""
        return bool(self.next)


@dataclass(frozen=True, slots=True)
class ItemShown:
    """One item.

    Attributes:
        name: its name.
        digest: the digest that most targets have.
        size: its bytes, or None if unknown.
        platforms: of an image; () if unknown or without meaning.
        targets: by target `present`, `other` content, or `absent`.
        referrers: signatures, attestations and SBOMs of it, at the target that has most; None if unknown.
        signer: who signed it, where that is required, or "".
        origin: digest at the source of an index that was changed, or "".
    """

    name: str
    digest: str
    size: int | None
    platforms: tuple[str, ...]
    targets: Mapping[str, str]
    referrers: int | None = None
    signer: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class NameChange:
    """A name that moved, at one or more targets in one run."""

    at: datetime
    name: str
    before: str | None
    after: str | None
    targets: tuple[str, ...]
    outcome: Settled


@dataclass(frozen=True, slots=True)
class Lacked:
    """Items that a target lacks since one moment, for one reason."""

    target: str
    since: datetime
    items: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with what is written beside it."""

    key: str
    title: str
    summary: str
    svg: str


def items_of(rows: Iterable[ItemRow], targets: Sequence[str]) -> Sequence[ItemShown]:
    """Return items as a page shows them."""
    found = list(rows)
    known = {one.digest: one for row in found for one in row.at.values() if one.size is not None}
    return [_item(row, targets, known) for row in found]


def _item(row: ItemRow, targets: Sequence[str], known: Mapping[str, LastSeen]) -> ItemShown:
    seen = [row.at[target] for target in targets if target in row.at]
    digest = Counter(one.digest for one in seen).most_common(1)[0][0] if seen else ""
    whole = known.get(digest)
    words = {
        target: "absent" if target not in row.at else "present" if row.at[target].digest == digest else "other"
        for target in targets
    }
    size, platforms = (whole.size, whole.platforms) if whole else (None, ())
    same = [one for one in seen if one.digest == digest]
    return ItemShown(
        row.item,
        digest,
        size,
        platforms,
        words,
        max((one.referrers for one in same if one.referrers is not None), default=None),
        next((one.signer for one in same if one.signer), ""),
        next((one.origin for one in same if one.origin), ""),
    )


def changes_of(moves: Iterable[LedgerEntry]) -> Sequence[tuple[date, Sequence[NameChange]]]:
    """Return by day, newest first, what changed; what was not moved after all is left out."""
    made: dict[tuple[object, ...], list[LedgerEntry]] = {}
    for entry in moves:
        if entry.outcome is not Settled.UNDONE:
            made.setdefault((entry.run, entry.name, entry.before, entry.after, entry.outcome), []).append(entry)
    found = [
        NameChange(one.at, one.name, one.before, one.after, tuple(sorted({move.target for move in alike})), one.outcome)
        for alike in made.values()
        for one in alike[:1]
    ]
    return [(day, list(some)) for day, some in groupby(found, key=lambda change: change.at.date())]


def lacking_of(behind: Sequence[Behind]) -> Sequence[Lacked]:
    """Return by target, age and reason what targets lack, as far as a page names it."""
    found: dict[tuple[str, datetime, str], list[str]] = {}
    for one in behind[:BEHIND]:
        found.setdefault((one.target, one.since, one.reason), []).append(one.item)
    return [Lacked(target, since, tuple(items), reason) for (target, since, reason), items in found.items()]


def plots_of(days: Iterable[Day], now: datetime, said: Words) -> Sequence[Plot]:
    """Return the plots of the days up to `now`: result, duration, bytes, items."""
    return _plots(tuple(days), now.date(), said)


@lru_cache(maxsize=64)  # of 70 kB: they change with runs and at midnight, and a page that is open asks again and again
def _plots(days: tuple[Day, ...], today: date, said: Words) -> Sequence[Plot]:
    known = {day.day: day for day in days}
    shown = [known.get(day) or Day(day) for day in (today - timedelta(days=ago) for ago in reversed(range(DAYS)))]
    ran = [day for day in shown if day.runs]
    failed = sum(day.failed > 0 for day in ran)
    longest = max((day.longest for day in ran), default=0.0)
    result = said.text("mirror.plot.result", failed=failed, count=len(ran))
    texts = {
        "duration": said.text("mirror.plot.duration", time=said.lasted(longest)),
        "bytes": said.text("mirror.plot.bytes", size=said.size(sum(day.sent for day in ran))),
        "items": said.text("mirror.plot.items", count=sum(day.done for day in ran)),
    }
    values = {
        "duration": [(day.longest, said.lasted(day.longest)) for day in shown],
        "bytes": [(float(day.sent), said.size(day.sent)) for day in shown],
        "items": [(float(day.done + day.deleted), _items(day, said)) for day in shown],
    }
    plots = [_plot("result", result, strip, [PlotDay(1, _tone(day), _said(day, said)) for day in shown], said)]
    for key, text in texts.items():
        each = [
            PlotDay(value, _tone(day), f"{_said(day, said)} · {about}" if day.runs else "")
            for day, (value, about) in zip(shown, values[key], strict=True)
        ]
        plots.append(_plot(key, text, bars, each, said))
    return plots


def _plot(key: str, summary: str, draw: _Draw, days: Sequence[PlotDay], said: Words) -> Plot:
    title = said.text(_TITLES[key])
    return Plot(key, title, summary, draw(key, title, summary, days))


def _tone(day: Day) -> str:
    return TONES.get(day.result, "ok") if day.runs else ""


def _said(day: Day, said: Words) -> str:
    if not day.runs:
        return said.text("mirror.day.none", day=day.day.isoformat())
    runs = said.text("mirror.day.runs", count=day.runs)
    return f"{day.day.isoformat()}: {runs}, {said.result(day.result)}"


def _items(day: Day, said: Words) -> str:
    return said.text("mirror.day.items", done=day.done, deleted=day.deleted)


@dataclass(frozen=True, slots=True)
class Way:
    """How to get a mirror from one target: its state, the commands for an item and for the mirror.

    Attributes:
        target: how it stands.
        item: the commands for the item; none where the target lacks it.
        whole: the commands for the mirror.
        word: whether it has the item: as in `ItemShown.targets`, or "" where that is unknown.
    """

    target: TargetStatus
    item: Sequence[Usage]
    whole: Sequence[Usage]
    word: str = ""

    @property
    def good(self) -> bool:
        """Whether clients can rely on it."""
        return self.target.health in USABLE and self.word != "absent"


def ways_of(detail: MirrorDetail, items: Sequence[ItemShown]) -> Sequence[Way]:
    """Return how to get the mirror from each target: healthy ones first, and of these `local`, the nearest."""
    words = next((item.targets for item in items if item.name == detail.item), {})
    ways = []
    for target in detail.mirror.targets:
        name, word = target.name, words.get(target.name, "")
        item = () if word == "absent" else detail.uses.get(name, ())
        ways.append(Way(target, item, detail.whole.get(name, ()), word))
    return sorted(ways, key=lambda way: (not way.good, way.target.name != LOCAL))
