"""Badges: one sentence about a mirror, or about all, as a small picture and as JSON for shields.io. Pure.

The rate counts what is missing by name: items that the targets have, of those that they should have after the last run.
The colour says how fresh the mirror is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Final
from unicodedata import east_asian_width

from mirrord.model.verification import Level
from mirrord.printable import plain
from mirrord.report.documents import Document
from mirrord.report.status import HEALTHS, Condition, MirrorStatus, Status
from mirrord.report.words import Words

SECONDS: Final = 300
"""For how long a badge may be kept: as shields.io and GitHub's proxy for pictures do."""
_COLOURS: Final[dict[Condition, tuple[str, str]]] = {  # as shields.io calls it, and ours: white text stands out from it
    "failing": ("red", "#cf222e"),
    "stale": ("orange", "#a84300"),
    "new": ("lightgrey", "#57606a"),
    "deferred": ("yellow", "#7d5800"),
    "ok": ("brightgreen", "#1a7f37"),
    "denied": ("lightgrey", "#57606a"),
}
_NARROW, _WIDE = frozenset(" !'(),.:;I[]fijlrt|"), frozenset("%@MWmw")


@dataclass(frozen=True, slots=True)
class Badge:
    """What a badge shows."""

    health: Condition
    label: str
    message: str
    title: str  # the same with the exact time of the last success


def badge_of(mirror: MirrorStatus, words: Words) -> Badge:
    """Return the badge of a mirror."""
    success = words.time(mirror.last_success) or words.text("time.never")
    return _badge(mirror.name, mirror.health, [mirror], success, words)


def deep_badge(mirror: MirrorStatus, words: Words) -> Badge:
    """Return the badge of the last verification that looked at content: how much is as it was mirrored."""
    found = [one.verified for one in mirror.targets if one.verified and one.verified.level is not Level.NAMES]
    checked = sum(one.checked for one in found)
    wrong, unknown = sum(one.drift for one in found), sum(one.unknown for one in found)
    health: Condition = "failing" if wrong else "stale" if unknown else "ok" if found else "new"
    message = f"{100 * max(0, checked - wrong - unknown) // checked}%" if checked else words.text("badge.none")
    label, at = words.text("badge.deep"), min((one.levels.get(Level.DEEP, one.at) for one in found), default=None)
    success = words.time(at) or words.text("time.never")
    return Badge(
        health,
        label,
        message,
        words.text("badge.title", name=mirror.name, label=label, message=message, success=success),
    )


def overall(status: Status, words: Words) -> Badge:
    """Return the badge of all mirrors: the worst health of those that ever ran, and the oldest success."""
    ran = [mirror for mirror in status.mirrors if mirror.health not in ("new", "denied")]
    nothing: Condition = "new"
    worst = min((mirror.health for mirror in ran), key=HEALTHS.index, default=nothing)
    oldest = min((mirror.last_success for mirror in ran if mirror.last_success), default=None)
    return _badge("mirrord", worst, ran, words.time(oldest) or words.text("time.never"), words)


def _badge(name: str, health: Condition, mirrors: Iterable[MirrorStatus], success: str, words: Words) -> Badge:
    targets = [target for mirror in mirrors for target in mirror.targets]
    present, behind = sum(target.items for target in targets), sum(target.behind for target in targets)
    rate = f"{100 * present // (present + behind)}%" if present or behind else ""
    word = words.health(health) if health in ("failing", "stale", "new", "denied") else ""
    label = words.text("badge.label")
    both = words.text("badge.both", health=word, rate=rate) if word and rate else word or rate
    message = both or words.text("badge.none")
    title = words.text("badge.title", name=name, label=label, message=message, success=success)
    return Badge(health, label, message, title)


def shield(badge: Badge) -> Document:
    """Return what shields.io's endpoint badge reads."""
    return {
        "schemaVersion": 1,
        "label": badge.label,
        "message": badge.message,
        "color": _COLOURS[badge.health][0],
        "isError": badge.health == "failing",
        "cacheSeconds": SECONDS,
    }


def svg(badge: Badge) -> bytes:
    """Draw a badge, 20 pixels high; it refers to nothing outside."""
    label, message = plain(badge.label), plain(badge.message)
    first, second = _width(label), _width(message)
    left, whole = first + 10, first + second + 20
    colour = _COLOURS[badge.health][1]
    name, title = escape(f"{label}: {message}"), escape(plain(badge.title))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="20" role="img" aria-label="{name}">'
        f"<title>{title}</title>"
        f'<clipPath id="r"><rect width="{whole}" height="20" rx="3" fill="#fff"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#24292f"/>'
        f'<rect x="{left}" width="{whole - left}" height="20" fill="{colour}"/></g>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="110">'
        f"{_text(label, first, 5 + first / 2)}{_text(message, second, left + 5 + second / 2)}</g></svg>\n"
    ).encode()


def _text(text: str, width: int, middle: float) -> str:
    """Draw a text, ten times as large and made smaller again: then its length is exact in all browsers."""
    return f'<text x="{10 * middle:g}" y="140" transform="scale(.1)" textLength="{10 * width}">{escape(text)}</text>'


def _width(text: str) -> int:
    """Return the width of a text in 11 px Verdana, nearly; `textLength` makes it so."""
    return round(sum(map(_advance, text)))


def _advance(char: str) -> float:
    if char in _NARROW:
        return 4.4
    if char in _WIDE or east_asian_width(char) in "WF":
        return 11.0
    return 6.7
