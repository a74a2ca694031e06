"""A terminal of a given size, on which the program runs as for a person."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.cells import cell_len

from mirrord.testing.running import started
from tests.support.commands import PATIENCE, Desk

_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain_lines(raw: str) -> list[str]:
    """Return the lines of what was drawn, without what steers the terminal."""
    return _ESCAPES.sub("", raw).replace("\r", "").rstrip("\n").split("\n")


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a command drew on a terminal.

    Attributes:
        status: its exit code.
        raw: all that it wrote.
    """

    status: int
    raw: str

    @property
    def lines(self) -> list[str]:
        """The lines without what steers the terminal."""
        return plain_lines(self.raw)

    @property
    def widest(self) -> int:
        """The columns that the longest line takes."""
        return max(map(cell_len, self.lines))


@dataclass(slots=True)
class Terminal:
    """A terminal with a program on it.

    Attributes:
        process: the program.
        raw: what it has written so far.
    """

    process: asyncio.subprocess.Process
    raw: str = ""
    _ours: int = -1
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def shows(self, text: str, since: int = 0) -> int:
        """Wait until the program has written a text behind `since` characters; returns where it ends."""
        async with asyncio.timeout(PATIENCE):
            while (at := self.raw.find(text, since)) < 0:
                self._news.clear()
                await self._news.wait()
        return at + len(text)

    def resize(self, lines: int, columns: int) -> None:
        """Change the size, and tell the program, as a window does."""
        _resize(self._ours, lines, columns)
        self.process.send_signal(signal.SIGWINCH)

    async def _read(self) -> None:
        with suppress(OSError):  # how the kernel says that the other end was closed
            while piece := await asyncio.to_thread(os.read, self._ours, 65536):
                self.raw += piece.decode(errors="replace")
                self._news.set()


@asynccontextmanager
async def at_terminal(
    desk: Desk, *words: str | Path, columns: int = 80, lines: int = 24, **environ: str
) -> AsyncIterator[Terminal]:
    """Start a command whose input and output are a terminal; it is killed when the context ends, if it still runs."""
    ours, theirs = pty.openpty()
    _resize(ours, lines, columns)
    command = (sys.executable, "-m", "mirrord", *words)
    env = {**desk.environ, "TERM": "xterm-256color", **environ}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    try:
        async with started(*command, **streams, cwd=desk.folder, env=env) as process:
            os.close(theirs)
            terminal = Terminal(process, _ours=ours)
            reading = asyncio.create_task(terminal._read())
            yield terminal
        await asyncio.wait_for(reading, PATIENCE)
    finally:
        os.close(ours)


async def drawn(desk: Desk, *words: str | Path, columns: int = 80, **environ: str) -> Drawn:
    """Run a command on a terminal to its end."""
    async with at_terminal(desk, *words, columns=columns, lines=24, **environ) as terminal:
        async with asyncio.timeout(PATIENCE):
            status = await terminal.process.wait()
    return Drawn(status, terminal.raw)


def _resize(terminal: int, lines: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
