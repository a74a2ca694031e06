"""Tells whether a program and all that it started still get on, from what the system counts for each process."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from time import monotonic


class ProcessStall:
    """Tells when a tree of processes has stopped: neither reads nor writes, and next to no work.

    A backstop where a program's own patience does not reach. Data on sockets does not count on Linux (`recv` is no
    `read`), only what the processes hand each other; so it must be much longer than theirs.
    """

    def __init__(self, patience: float) -> None:
        """Begin to look."""
        self._patience, self._since = patience, monotonic()
        self._next = self._since
        self._bytes, self._ticks = 0, 0.0

    async def stopped(self, pid: int) -> bool:
        """Whether nothing was done for as long as the patience lasts."""
        now = monotonic()
        if now < self._next:
            return False
        self._next = now + self._patience / 20
        moved, ticks = await asyncio.to_thread(_activity, pid)
        if moved != self._bytes or abs(ticks - self._ticks) > (now - self._since) * 0.02:
            self._bytes, self._ticks, self._since = moved, ticks, now
        return now - self._since > self._patience


def _activity(pid: int) -> tuple[int, float]:
    """Return bytes read and written, and seconds of work, of a process and its descendants that live (Linux)."""
    moved, work = 0, 0.0
    waiting = [pid]
    while waiting:
        place = Path(f"/proc/{waiting.pop()}")
        with contextlib.suppress(OSError, ValueError, IndexError):
            counts = [int(line.split()[1]) for line in (place / "io").read_text().splitlines()[:2]]
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            moved += sum(counts)
            work += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            waiting += [int(child) for child in (place / "task" / place.name / "children").read_text().split()]
    return moved, work
