"""Where output goes: a terminal of some width, with or without colours, or a pipe, which gets every text whole."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TextIO

_LINES: Final = 3  # of a terminal that a text may take; `status NAME`, `--json` and a pipe have all of it
_COLOURS: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_NEEDED: Final = "✓✗…·"  # characters that a terminal must be able to show, else it gets ASCII


@dataclass(frozen=True, slots=True)
class Screen:
    """What output is written for.

    Attributes:
        width: columns of the terminal, None for a pipe.
        height: lines of it.
        colour: whether it may be coloured.
        signs: whether it can show more than ASCII.
        steers: whether the cursor can be moved.
    """

    width: int | None = None
    height: int = 24
    colour: bool = False
    signs: bool = True
    steers: bool = False

    @classmethod
    def of(cls, stream: TextIO | None = None) -> Screen:
        """Look at a stream, standard output by default. NO_COLOR (no-color.org) and TERM=dumb mean no colour."""
        stream = sys.stdout if stream is None else stream
        try:
            _NEEDED.encode(stream.encoding or "ascii")
            signs = True
        except UnicodeError:
            signs = False
        if not stream.isatty():
            return cls(signs=signs)
        size = shutil.get_terminal_size()
        steers = os.environ.get("TERM", "dumb") != "dumb"
        colour = steers and not os.environ.get("NO_COLOR")
        return cls(max(20, size.columns), max(3, size.lines), colour, signs, steers)

    @property
    def dots(self) -> str:
        """What stands for text that is left out."""
        return "…" if self.signs else "..."

    def paint(self, text: str, colour: str) -> str:
        """Colour a text, which has no control characters, where that is possible."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self.colour and colour and text else text

    def cut(self, text: str, width: int) -> str:
        """Shorten a text at its end to this many columns."""
        return text if wide(text) <= width else _begin(text, width - len(self.dots)) + self.dots

    def middle(self, text: str, width: int) -> str:
        """Shorten a name in its middle to this many columns: names of a family differ at both ends."""
        if wide(text) <= width:
            return text
        rest = max(0, width - len(self.dots))
        begin = _begin(text, rest - rest // 2)
        end = _begin(text[: -width - 1 : -1], rest // 2)[::-1]
        return f"{begin}{self.dots}{end}"

    def wrapped(self, text: str, indent: int = 0, *, whole: bool = False) -> Iterator[str]:
        """Break a sentence into indented lines for the terminal; of a very long one the first, or all if `whole`.

        In a pipe it is one line.
        """
        if self.width is None:
            yield " " * indent + text
            return
        room = self.width - indent
        most = room * _LINES
        lines = list(_lines(text if whole else text[: most + 1], room))  # a character takes a column or more
        if not whole and (len(text) > most or len(lines) > _LINES):
            lines = [*lines[: _LINES - 1], self.cut(f"{lines[_LINES - 1 :][0]}{self.dots}", room)]
        for line in lines:
            yield " " * indent + line


def _lines(text: str, room: int) -> Iterator[str]:
    """Yield lines of at most `room` columns, broken at spaces, and inside of longer words."""
    line = ""
    for each in text.split(" "):
        word = each
        if line and wide(line) + 1 + wide(word) > room:
            yield line
            line = ""
        while wide(word) > room:
            yield (part := _begin(word, room))
            word = word[len(part) :]
        line = f"{line} {word}" if line else word
    if line:
        yield line


def wide(text: str) -> int:
    """Return how many columns a text takes: Chinese characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - only such text pays for rich

    return cell_len(text)


def padded(text: str, width: int) -> str:
    """Fill a text with spaces up to a number of columns."""
    return text + " " * (width - wide(text))


def _begin(text: str, width: int) -> str:
    """Return the longest beginning of a text that takes at most this many columns."""
    text = text[: max(0, width)]
    while wide(text) > width:
        text = text[: len(text) - max(1, (wide(text) - width) // 2)]
    return text
