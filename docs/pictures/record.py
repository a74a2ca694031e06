"""Record a command in a terminal of its own as an SVG that plays.

    pip install pyte
    python docs/pictures/record.py mirrord demo --once > docs/pictures/demo.svg

Where nothing moves (a viewer without animation, a reader who prefers less motion) the picture shows the last screen.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import pyte

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS, ROWS = 96, 54
STEP = 0.15  # seconds between two looks at the screen
HOLD = 8.0  # seconds for which the last screen stays
WIDTH, HEIGHT, MARGIN, SIZE = 8.4, 18, 16, 14  # of a cell, around all, of the letters; pixels
INK, PAPER, DIM = "#d6dde6", "#14181f", "#8693a4"
COLOURS = {"default": INK, "black": DIM, "red": "#ff7b72", "green": "#7ee787", "brown": "#e3b341", "blue": "#79c0ff",
           "magenta": "#f778ba", "cyan": "#56d4dd", "white": INK}  # fmt: skip


class Piece(NamedTuple):
    """Letters of one colour, from one column on."""

    column: int
    text: str
    colour: str
    bold: bool


Row = tuple[Piece, ...]


def play(command: list[str]) -> list[tuple[float, list[Row]]]:
    """Run a command in a terminal; return what the screen showed, and from when on, in seconds."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    stream.feed(f"\x1b[1m$ {' '.join(command)}\x1b[0m\r\n".encode())
    seen = [(0.0, _rows(screen))]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:  # noqa: S603 - what the recorder typed
        os.close(theirs)
        started = time.monotonic()
        while True:
            if select.select([ours], [], [], STEP)[0]:
                try:
                    data = os.read(ours, 65536)
                except OSError:  # the terminal's other end is closed
                    break
                stream.feed(data)
            now = time.monotonic() - started
            if now - seen[-1][0] >= STEP and (rows := _rows(screen)) != seen[-1][1]:
                seen.append((now, rows))
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n" + "\n".join(screen.display))
    seen.append((time.monotonic() - started, _rows(screen)))
    return seen


def _rows(screen: pyte.Screen) -> list[Row]:
    return [tuple(_pieces(screen, y)) for y in range(ROWS)]


def _pieces(screen: pyte.Screen, y: int) -> Iterator[Piece]:
    cells = [(x, screen.buffer[y][x]) for x in range(COLUMNS)]
    for (colour, bold), run in itertools.groupby(cells, lambda cell: (cell[1].fg, cell[1].bold)):
        part = list(run)
        for words in re.finditer(r"\S+(?: \S+)*", "".join(char.data for _, char in part)):  # columns are set apart
            name = colour if colour in COLOURS or len(colour) == 6 else "default"
            yield Piece(part[0][0] + words.start(), words[0], COLOURS.get(name, f"#{name}"), bold)


def draw(seen: list[tuple[float, list[Row]]]) -> str:
    """Make the picture: each state of a line is a group of texts that is visible for its time."""
    end = seen[-1][0] + HOLD
    used = max(y for y, row in enumerate(seen[-1][1]) if row) + 1
    parts, frames = [], []
    for y in range(used):
        states = [(at, rows[y]) for at, rows in seen]
        states = [states[0], *(two for one, two in itertools.pairwise(states) if one[1] != two[1])]
        for number, (at, row) in enumerate(states):
            last = number == len(states) - 1
            until = end if last else states[number + 1][0]
            if not row:
                continue
            name = f"l{y}s{number}"
            if len(states) > 1:
                frames.append(_frame(name, at / end * 100, until / end * 100))
            style = f' style="animation:{name} {end:.1f}s step-end infinite"' if len(states) > 1 else ""
            hidden = "" if last else ' visibility="hidden"'
            parts.append(f"<g{hidden}{style}>{''.join(_text(y, piece) for piece in row)}</g>")
    width, height = round(COLUMNS * WIDTH + 2 * MARGIN), used * HEIGHT + 2 * MARGIN
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>mirrord demo, recorded by docs/pictures/record.py</title>
<style>
text {{ font: {SIZE}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre }}
{"".join(frames)}
@media (prefers-reduced-motion: reduce) {{ g {{ animation: none !important }} }}
</style>
<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>
{chr(10).join(parts)}
</svg>
"""


def _frame(name: str, start: float, end: float) -> str:
    shown = "0%{visibility:visible}" if start == 0 else f"0%{{visibility:hidden}}{start:.2f}%{{visibility:visible}}"
    rest = "" if end >= 100 else f"{end:.2f}%{{visibility:hidden}}"
    return f"@keyframes {name}{{{shown}{rest}}}"


def _text(y: int, piece: Piece) -> str:
    x, line = MARGIN + piece.column * WIDTH, MARGIN + (y + 0.75) * HEIGHT
    bold = ' font-weight="bold"' if piece.bold else ""
    length = len(piece.text) * WIDTH
    return (
        f'<text x="{x:.1f}" y="{line:.1f}" fill="{piece.colour}"{bold} textLength="{length:.1f}">'
        f"{escape(piece.text, quote=False)}</text>"
    )


if __name__ == "__main__":
    sys.stdout.write(draw(play(sys.argv[1:])))
