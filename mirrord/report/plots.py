"""Small plots as SVG: one bar or one cell a day. Pure: values in, text out, of bounded size.

A plot stretches to the width that it gets, so it has no text of its own but titles: labels are the page's. Colours are
those of the page, by the class of a day (`ok`, `failing`, …); without style sheet all is `currentColor`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from mirrord.printable import plain

MOST: Final = 400
"""Days that a plot has at most; of more, the last ones are shown."""
_LONGEST: Final = 300  # characters of a text
_STEP, _WIDTH, _HEIGHT = 8, 6, 100  # of a day, of its bar, of the plot
_LEAST: Final = 2.0  # height of the bar of a value that is not 0
_TONE: Final = re.compile(r"[a-z]{1,20}")
_NOT_IN_XML: Final = re.compile(r"[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class PlotDay:
    """One day of a plot."""

    value: float = 0.0  # at least 0; anything else counts as 0
    tone: str = ""  # class of its colour, `[a-z]+`; "" for a day without runs
    said: str = ""  # what a pointer on it shows


def bars(key: str, title: str, description: str, days: Sequence[PlotDay]) -> str:
    """Draw a bar for each day, the highest one as high as the plot.

    Args:
        key: begins the ids in the plot; unique in the page, `[a-z]+`.
        title: names the plot.
        description: says for those who do not see it what it shows.
        days: oldest first.
    """
    shown = days[-MOST:]
    values = [_value(day.value) for day in shown]
    top = max(values, default=0.0)
    heights = [max(_LEAST, _HEIGHT * (value / top)) if value else 0.0 for value in values]
    return _plot("bars", key, (title, description), shown, heights)


def strip(key: str, title: str, description: str, days: Sequence[PlotDay]) -> str:
    """Draw a cell of full height for each day, in the colour of its `tone`; the rest as for `bars`."""
    shown = days[-MOST:]
    return _plot("strip", key, (title, description), shown, [float(_HEIGHT)] * len(shown))


def _plot(kind: str, key: str, texts: tuple[str, str], days: Sequence[PlotDay], heights: Iterable[float]) -> str:
    labels = quoteattr(f"{_text(key)}-title {_text(key)}-desc")
    width = max(1, len(days) * _STEP - (_STEP - _WIDTH))
    drawn = "".join(_day(number, day, height) for number, (day, height) in enumerate(zip(days, heights, strict=True)))
    title, description = texts
    return (
        f'<svg class="plot {kind}" role="img" aria-labelledby={labels} viewBox="0 0 {width} {_HEIGHT}"'
        ' preserveAspectRatio="none" fill="currentColor" xmlns="http://www.w3.org/2000/svg">'
        f"<title id={quoteattr(f'{_text(key)}-title')}>{escape(_text(title))}</title>"
        f"<desc id={quoteattr(f'{_text(key)}-desc')}>{escape(_text(description))}</desc>{drawn}</svg>"
    )


def _day(number: int, day: PlotDay, height: float) -> str:
    return "".join(_parts(number * _STEP, day, height))


def _parts(left: int, day: PlotDay, height: float) -> Iterator[str]:
    tone = day.tone if _TONE.fullmatch(day.tone) else "none"
    yield f'<g class="{tone}">'
    if day.said:
        yield f"<title>{escape(_text(day.said))}</title>"
        yield f'<path class="hit" fill="none" pointer-events="all" d="M{left} 0h{_STEP}v{_HEIGHT}h-{_STEP}z"/>'
    if height:
        yield f'<path class="bar" d="M{left} {_HEIGHT - height:g}h{_WIDTH}v{height:g}h-{_WIDTH}z"/>'
    yield "</g>"


def _value(value: float) -> float:
    return value if math.isfinite(value) and value > 0 else 0.0


def _text(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", plain(text[:_LONGEST]))
