"""Plots are well-formed, bounded and accessible, whatever their values and texts are."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.report.plots import MOST, PlotDay, bars, strip

SVG = "{http://www.w3.org/2000/svg}"
Draw = Callable[[str, str, str, Sequence[PlotDay]], str]
ANY = st.text(st.characters(), max_size=400)  # also surrogates and control characters
DAYS = st.lists(st.builds(PlotDay, st.floats() | st.integers(-5, 10**30), ANY, ANY), max_size=MOST + 20)


@pytest.mark.parametrize("draw", [bars, strip])
@given(title=ANY, description=ANY, days=DAYS)
def test_any_values(draw: Draw, title: str, description: str, days: Sequence[PlotDay]) -> None:
    """Any values and texts give well-formed XML of one element for each day, of at most so many bytes."""
    drawn = draw("x", title, description, days)
    svg = ET.fromstring(drawn)
    assert len(svg.findall(f"{SVG}g")) == min(len(days), MOST)
    assert len(drawn.encode()) < 1000 + 10 * 300 * 2 + min(len(days), MOST) * (500 + 10 * 300)
    assert not any(
        "style" in one.attrib or one.attrib.get("fill") not in (None, "none", "currentColor") for one in svg.iter()
    )
    for day in svg.findall(f"{SVG}g"):
        for path in day.findall(f"{SVG}path"):
            assert "nan" not in path.attrib["d"]
            assert "inf" not in path.attrib["d"]


def heights(drawn: str) -> list[float]:
    found = []
    for day in ET.fromstring(drawn).findall(f"{SVG}g"):
        bar = day.find(f"{SVG}path[@class='bar']")
        found.append(0.0 if bar is None else float(bar.attrib["d"].partition("v")[2].partition("h")[0]))
    return found


def test_bars_are_as_high_as_their_values() -> None:
    """The highest bar fills the plot, the others are in proportion; a small value is visible, none is not drawn."""
    drawn = bars("x", "Bytes", "what", [PlotDay(value, "ok") for value in (50, 100, 0, 1e-9, -1, float("nan"))])
    assert heights(drawn) == [50, 100, 0, 2, 0, 0]
    assert heights(bars("x", "Bytes", "what", [PlotDay(0, "ok")])) == [0]


def test_what_people_hear_and_see() -> None:
    """A plot is one picture with a name and a description; a pointer on a day shows its text; colours are classes."""
    svg = ET.fromstring(
        strip("result", "Result", "2 days, 1 failed", [PlotDay(1, "ok", "fine"), PlotDay(1, "failing", "<b>")])
    )
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-labelledby"] == "result-title result-desc"
    assert {one.attrib["id"]: one.text for one in svg if "id" in one.attrib} == {
        "result-title": "Result",
        "result-desc": "2 days, 1 failed",
    }
    assert [(day.attrib["class"], day.findtext(f"{SVG}title")) for day in svg.findall(f"{SVG}g")] == [
        ("ok", "fine"),
        ("failing", "<b>"),
    ]


def test_more_days_than_fit() -> None:
    """Of too many days the last ones are drawn."""
    svg = ET.fromstring(bars("x", "", "", [PlotDay(1, "ok", str(number)) for number in range(MOST + 5)]))
    assert [day.findtext(f"{SVG}title") for day in svg.findall(f"{SVG}g")][:1] == ["5"]
