"""Tables that fit: on a terminal no row is wider than it, in a pipe every cell is whole and no cell is empty.

A terminal that is too narrow first loses columns that can be spared, then names are shortened in the middle, and what
has a short form and a long one shows the short one, with the long one below its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mirrord.cli.screen import Screen, padded, wide
from mirrord.printable import plain

_GAP: Final = 2
_BELOW: Final = 4  # spaces before what is below a row
NOTHING: Final = "-"
"""An empty cell in a pipe, so that columns can be counted."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        head: its heading.
        least: a name in it may be shortened to this many columns of the terminal; 0: it may not. Its long forms are
            never below their rows.
        spare: where there is no room it is left out, the highest number first; 0: it stays.
    """

    head: str
    least: int = 0
    spare: int = 0


@dataclass(frozen=True, slots=True)
class Long:
    """A cell with a long form and a short one, which may be empty."""

    whole: str
    short: str = ""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row; `colour` is that of its first cell, `below` are sentences that a terminal shows below it."""

    cells: Sequence[str | Long]
    colour: str = ""
    below: Sequence[str] = ()


def laid_out(columns: Sequence[Column], rows: Sequence[TableRow], screen: Screen) -> Iterator[str]:
    """Yield the lines of a table, the heading first."""
    found = [[_plain(cell) for cell in row.cells] for row in rows]
    wholes = [[cell.whole for cell in cells] for cells in found]
    natural = [max(map(wide, (one.head, *column))) for one, *column in zip(columns, *wholes, strict=True)]
    if screen.width is None:
        yield _line([column.head for column in columns], natural)
        yield from (_line([cell or NOTHING for cell in cells], natural) for cells in wholes)
        return
    widths = _fitting(columns, found, natural, screen.width)
    shown = [at for at, width in widths.items() if width]
    line = _line([columns[at].head for at in shown], [widths[at] for at in shown])
    yield screen.paint(screen.cut(line, screen.width), "bold")
    for cells, row in zip(found, rows, strict=True):
        fits = {at: wide(cells[at].whole) <= widths[at] for at in widths}
        texts = [screen.middle(cells[at].whole if fits[at] else cells[at].short, widths[at]) for at in shown]
        line = screen.cut(_line(texts, [widths[at] for at in shown]), screen.width)
        first = len(texts[0])
        yield screen.paint(line[:first], row.colour) + line[first:]
        for text in (
            *(cells[at].whole for at in widths if not fits[at] and not columns[at].least),
            *map(plain, row.below),
        ):
            yield from (screen.paint(part, "dim") for part in screen.wrapped(text, _BELOW))


def _plain(cell: str | Long) -> Long:
    """Return a cell as both forms, without control characters; a cell of one form is always whole."""
    if isinstance(cell, Long):
        return Long(plain(cell.whole), plain(cell.short))
    return Long(plain(cell), plain(cell))


def _fitting(
    columns: Sequence[Column], found: Sequence[Sequence[Long]], natural: Sequence[int], room: int
) -> dict[int, int]:
    """Return how wide each column is that is neither empty nor spared; 0: no cell fits, all are below their rows."""
    short = [max([wide(cells[at].short) for cells in found], default=0) for at in range(len(columns))]
    least = [
        min(natural[at], max(one.least, wide(one.head))) if one.least else max(short[at], wide(one.head))
        for at, one in enumerate(columns)
    ]
    shown = [at for at in range(len(columns)) if not found or any(cells[at].whole for cells in found)]
    while _sum(least[at] for at in shown) > room and any(columns[at].spare for at in shown):
        shown.remove(max(shown, key=lambda at: columns[at].spare))
    widths = _grown(columns, {at: least[at] for at in shown}, natural, room)
    below = [
        at
        for at in shown
        if found and not short[at] and all(wide(cells[at].whole) > widths[at] for cells in found if cells[at].whole)
    ]
    if below:
        widths = _grown(columns, {at: least[at] for at in shown if at not in below}, natural, room)
    return widths | dict.fromkeys(below, 0)


def _grown(columns: Sequence[Column], least: dict[int, int], natural: Sequence[int], room: int) -> dict[int, int]:
    """Return widths that use the room: names first, the narrowest before others."""
    widths, spare = dict(least), room - _sum(least.values())
    for names in (True, False):
        while spare > 0 and (
            growing := [at for at in widths if bool(columns[at].least) is names and widths[at] < natural[at]]
        ):
            widths[min(growing, key=widths.__getitem__)] += 1
            spare -= 1
    return widths


def _sum(widths: Iterable[int]) -> int:
    return sum(width + _GAP for width in widths) - _GAP


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    return (" " * _GAP).join(padded(text, width) for text, width in zip(texts, widths, strict=True)).rstrip()
