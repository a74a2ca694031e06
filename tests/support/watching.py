"""Sees what other programs show of themselves: command lines of all processes, and how each git was started.

Both see what anybody on the machine could see with `ps`, or with the same user's rights.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_PAUSE: Final = 0.01  # seconds between two looks; the machine has other work
_SHARE: Final = 4  # times as long as a look took is the pause, too: it holds up the servers of this very process
_LONGEST: Final = 128 * 1024  # bytes; Linux takes no longer argument
_SPY: Final = """#!/bin/sh
cat /proc/$$/environ > '{notes}'/$$.environ
printf '%s\\0' "$@" > '{notes}'/$$.arguments
exec '{program}' "$@"
"""


def command_lines() -> set[bytes]:
    """Return the command line of every process of this machine, NUL between the words (proc(5))."""
    found = set()
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    found.add(_read(f"{entry.path}/cmdline"))
    return found


def _read(path: str) -> bytes:
    """Read a file that has no size; a third of the work that `Path.read_bytes` makes of it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        return os.read(handle, _LONGEST)
    finally:
        os.close(handle)


class Watch:
    """Looks at all command lines over and over, in a thread, while its context lasts.

    Attributes:
        seen: every command line so far.
    """

    def __init__(self) -> None:
        """Look at nothing yet."""
        self.seen: set[bytes] = set()
        self._ended = threading.Event()
        self._looked = threading.Condition()
        self._looks = 0
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    async def look(self) -> set[bytes]:
        """Wait until everything that runs now was looked at; return all that was seen so far."""
        await asyncio.to_thread(self._wait)
        return set(self.seen)

    def _wait(self) -> None:
        with self._looked:
            wanted = self._looks + 2  # one that is under way may have passed by already
            self._looked.wait_for(lambda: self._looks >= wanted or self._ended.is_set())

    def _look(self) -> None:
        pause = _PAUSE
        while not self._ended.wait(pause):
            began = time.monotonic()
            self.seen |= command_lines()
            pause = max(_PAUSE, _SHARE * (time.monotonic() - began))
            with self._looked:
                self._looks += 1
                self._looked.notify_all()


@dataclass(frozen=True, slots=True)
class Started:
    """How a git was started.

    Attributes:
        arguments: what it was told.
        environ: its environment, `NAME=value` in each line.
    """

    arguments: tuple[str, ...]
    environ: str


class Spy:
    """A program in front of git that notes how it is called, and becomes git; for everybody with `path` as PATH."""

    def __init__(self, folder: Path) -> None:
        """Put it below `folder`.

        Raises:
            FileNotFoundError: there is no git.
        """
        program = shutil.which("git")
        if program is None:
            raise FileNotFoundError("git is not installed")
        self._notes = folder / "notes"
        self._notes.mkdir(parents=True)
        spy = folder / "git"
        spy.write_text(_SPY.format(notes=self._notes, program=program))
        spy.chmod(0o755)
        self.path = f"{folder}:{os.environ.get('PATH', '')}"

    def started(self) -> list[Started]:
        """Return every git that was started so far."""
        found = []
        for file in sorted(self._notes.glob("*.arguments")):
            arguments = file.read_bytes().decode().split("\0")[:-1]
            environ = file.with_suffix(".environ").read_bytes().decode().replace("\0", "\n")
            found.append(Started(tuple(arguments), environ))
        return found
