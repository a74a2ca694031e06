"""Badges: what they say, and that they are pictures and documents that others accept."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime

import pytest

from mirrord.report.badge import Badge, badge_of, overall, shield, svg
from mirrord.report.status import HEALTHS, Condition, MirrorStatus, Status, TargetStatus
from mirrord.report.words import LANGUAGES, words

T0 = datetime(2026, 11, 27, 16, 39, 5, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"
EN = words("en")


def mirror(name: str, health: Condition, *targets: tuple[int, int], success: datetime | None = T0) -> MirrorStatus:
    """Return a mirror with targets of so many items, and so many that are behind."""
    found = tuple(TargetStatus(f"t{number}", items=one[0], behind=one[1]) for number, one in enumerate(targets))
    return MirrorStatus(name, health=health, last_success=success, targets=found)


def status(*mirrors: MirrorStatus) -> Status:
    return Status("1", "ready", T0, T0, "", mirrors)


@pytest.mark.parametrize(
    ("health", "targets", "english", "chinese"),
    [
        ("ok", [(10, 0), (10, 0)], "100%", "100%"),
        ("ok", [(0, 0)], "nothing yet", "尚无内容"),
        ("failing", [(10, 0), (9, 1)], "failing, 95%", "失败 95%"),
        ("failing", [(99_999, 1)], "failing, 99%", "失败 99%"),
        ("stale", [(1, 2)], "stale, 33%", "已过期 33%"),
        ("deferred", [(1, 1)], "50%", "50%"),
        ("new", [(0, 0)], "no success yet", "尚未成功"),
    ],
)
def test_the_message(health: Condition, targets: list[tuple[int, int]], english: str, chinese: str) -> None:
    """The rate is rounded down, never up to 100%, and in front of it stands what is wrong."""
    found = mirror("craned", health, *targets)
    assert badge_of(found, EN).message == english
    assert badge_of(found, words("zh")).message == chinese


def test_the_exact_time_is_in_the_title() -> None:
    """Who points at a badge reads the name of the mirror and when it last succeeded."""
    assert badge_of(mirror("craned", "ok", (1, 0)), EN).title == (
        "craned mirrored: 100%; last success: 2026-11-27 16:39:05 UTC"
    )
    assert badge_of(mirror("craned", "new", success=None), EN).title.endswith("last success: never")


def test_all_mirrors_together() -> None:
    """The overall badge has the worst health of those that ran, the sum of all items, and the oldest success."""
    old = T0.replace(year=2025)
    found = [mirror("a", "ok", (6, 0)), mirror("b", "stale", (1, 1), success=old), mirror("c", "new", success=None)]
    badge = overall(status(*found), EN)
    assert (badge.health, badge.message) == ("stale", "stale, 87%")
    assert badge.title.endswith("last success: 2025-11-27 16:39:05 UTC")
    assert overall(status(), EN).message == overall(status(found[2]), EN).message == "no success yet"


@pytest.mark.parametrize(
    ("health", "colour"),
    [*zip(HEALTHS, ["red", "orange", "lightgrey", "yellow", "brightgreen", "lightgrey"], strict=True)],
)
def test_the_document_for_shields(health: Condition, colour: str) -> None:
    """The endpoint's document has the keys that shields.io reads, and no others."""
    assert shield(badge_of(mirror("m", health, (3, 1)), EN)) == {
        "schemaVersion": 1,
        "label": "mirrored",
        "message": badge_of(mirror("m", health, (3, 1)), EN).message,
        "color": colour,
        "isError": health == "failing",
        "cacheSeconds": 300,
    }


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("health", HEALTHS)
def test_the_picture(health: Condition, language: str) -> None:
    """A badge is well-formed, 20 pixels high, has a name for screen readers and contrast, and refers to nothing."""
    badge = badge_of(mirror("m", health, (3, 1)), words(language))
    root = ET.fromstring(svg(badge))
    assert (root.tag, root.get("height"), root.get("role")) == (f"{SVG}svg", "20", "img")
    assert root.get("aria-label") == f"{badge.label}: {badge.message}"
    assert root.findtext(f"{SVG}title") == badge.title
    texts = list(root.iter(f"{SVG}text"))
    assert [one.text for one in texts] == [badge.label, badge.message]
    width = int(root.get("width") or 0)
    assert sum(int(one.get("textLength") or 0) for one in texts) == 10 * (width - 20)
    fills = [one.get("fill") or "" for one in root.iter(f"{SVG}rect")][1:]
    assert all(1.05 / (luminance(fill) + 0.05) >= 4.5 for fill in fills)
    assert b"href" not in svg(badge)
    assert b"url(#r)" in svg(badge)


def test_markup_stays_text() -> None:
    """Whatever a badge has to show, it is text of a well-formed picture."""
    hostile = "<script>alert(1)</script>&\"'\x00\x1b\ud800"
    badge = Badge("ok", hostile, hostile, hostile)
    root = ET.fromstring(svg(badge))
    shown = "<script>alert(1)</script>&\"'\\x00\\x1b\\ud800"
    assert [one.text for one in root.iter(f"{SVG}text")] == [shown, shown]
    assert root.findtext(f"{SVG}title") == shown
    assert root.get("aria-label") == f"{shown}: {shown}"
    assert not list(root.iter(f"{SVG}script"))
