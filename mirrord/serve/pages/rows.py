"""The row of each mirror in one language, rendered again only when its status has changed.

What a row says of times ("12 minutes ago") changes by itself: a template leaves a mark, `<!--ago TIME-->`, that is
replaced when a page is put together. Nothing from outside can look like a mark, since its `<` is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Final

from mirrord.report.mirror import USABLE
from mirrord.report.schedules import schedule_of
from mirrord.report.status import HEALTHS, MirrorStatus
from mirrord.report.words import Words, words
from mirrord.serve.pages.templates import render
from mirrord.serve.rendered import Fragments
from mirrord.syncer.values import LOCAL

ATTENTION: Final = "attention"
"""The group of mirrors that are failing or stale, whatever their kind."""
BAD: Final = HEALTHS[:2]
"""What needs attention, the worst first: failing and stale."""
STATES: Final = (*HEALTHS, "running")
"""What a mirror can be filtered by."""
_FIRST: Final = ("image", "helm", "git")  # the order of kinds; others follow by name
_MARK: Final = re.compile(r"<!--(ago|until) ([0-9T:.+-]+)-->")
_LONGEST: Final = 200  # characters of a filter


@dataclass(frozen=True, slots=True)
class TimedPart:
    """A part of a page: its fixed pieces, and between two of them a way to say a time, and the time."""

    pieces: Sequence[str]
    times: Sequence[tuple[str, datetime]]

    @classmethod
    def of(cls, html: str) -> TimedPart:
        """Take what a template has made."""
        found = _MARK.split(html)
        times = [(way, datetime.fromisoformat(at)) for way, at in zip(found[1::3], found[2::3], strict=True)]
        return TimedPart(found[::3], times)


@dataclass(frozen=True, slots=True)
class Row(TimedPart):
    """The row of a mirror."""

    mirror: MirrorStatus
    text: str  # what a search looks into, without upper case

    @property
    def group(self) -> str:
        """Where it stands: `ATTENTION` or its kind."""
        return ATTENTION if self.mirror.health in BAD else self.mirror.kind


@dataclass(frozen=True, slots=True)
class Filter:
    """Which mirrors a reader wants to see; "" for all."""

    q: str = ""
    state: str = ""
    kind: str = ""
    target: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        """Read the query of an address; a state that does not exist is none."""
        found = cls(**{key: query.get(key, "").strip()[:_LONGEST] for key in cls.__annotations__})
        return found if found.state in STATES else cls(found.q, "", found.kind, found.target)

    def query(self) -> dict[str, str]:
        """Return what is chosen, as the query of an address."""
        return {key: value for key in type(self).__annotations__ if (value := getattr(self, key))}

    def takes(self, row: Row) -> bool:
        """Return whether a mirror is one of them; each word of `q` must be in its name or one of its addresses."""
        mirror = row.mirror
        states = (mirror.health, "running" if mirror.running else "")
        return (
            (not self.state or self.state in states)
            and (not self.kind or mirror.kind == self.kind)
            and (not self.target or any(target.name == self.target for target in mirror.targets))
            and all(word in row.text for word in self.q.casefold().split())
        )


class MirrorRows:
    """All rows in one language."""

    def __init__(self, language: str) -> None:
        """Render nothing yet."""
        self._words = words(language)
        self._rows = Fragments(self._row)

    def of(self, mirrors: Iterable[MirrorStatus]) -> list[Row]:
        """Return the row of each mirror by name, those that need attention first, the worst at the top."""
        return sorted(self._rows.of(mirrors), key=_order)

    def _row(self, mirror: MirrorStatus) -> Row:
        schedule = schedule_of(mirror.schedule)
        html = render("row.html", words=self._words, mirror=mirror, schedule=schedule, nearest=_nearest(mirror))
        part = TimedPart.of(html)
        places = (place for target in mirror.targets for place in (target.name, target.place))
        text = "\n".join((mirror.name, mirror.source, *places)).casefold()
        return Row(part.pieces, part.times, mirror, text)


def filled(rows: Iterable[TimedPart], said: Words, now: datetime) -> str:
    """Put rows, or other parts, together, with their times as of `now`."""
    ways: Mapping[str, Callable[[datetime, datetime], str]] = {"ago": said.ago, "until": said.until}
    pieces: list[str] = []
    for row in rows:
        for piece, (way, at) in zip(row.pieces, row.times, strict=False):
            pieces += (piece, escape(ways[way](now, at)))
        pieces.append(row.pieces[-1])
    return "".join(pieces)


def _nearest(mirror: MirrorStatus) -> str:
    """Return the name of the target that is the best one to pull from, or ""."""
    usable = [target.name for target in mirror.targets if target.health in USABLE and target.items]
    return LOCAL if LOCAL in usable else next(iter(usable), "")


def _order(row: Row) -> tuple[int, str, str]:
    kind, health = row.mirror.kind, row.mirror.health
    if row.group == ATTENTION:
        return -len(BAD) + BAD.index(health), "", row.mirror.name
    return (_FIRST.index(kind) if kind in _FIRST else len(_FIRST)), kind, row.mirror.name
