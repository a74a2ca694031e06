"""What running processes use, by the kernel's account of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


class Watch:
    """What some processes use from now on."""

    def __init__(self, pids: Sequence[int]) -> None:
        """Begin now."""
        self._pids = pids
        self._before = self._used()

    def cpu(self) -> float:
        """Return the CPU seconds of all together since the last look."""
        now = self._used()
        since, self._before = now - self._before, now
        return since

    def memory(self) -> float:
        """Return the peak of the one that needed most, in MiB."""
        peaks = [Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0] for pid in self._pids]
        return max(map(int, peaks)) / 1024

    def _used(self) -> float:
        return sum(_cpu(pid) for pid in self._pids)


def cpu_of_family(parent: int) -> float:
    """Return the CPU seconds of a process, of its children, and of those that ended."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    used = 0.0
    for pid in children:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended, and counts as its parent's
            used += _cpu(int(pid))
    return used + _cpu(parent, ended=True)


def _cpu(pid: int, *, ended: bool = False) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if ended else 13])) / _TICKS
