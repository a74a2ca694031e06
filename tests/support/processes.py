"""Looks at processes from outside: who lives in a group, and whether a group ends."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path


def group_of(pid: int) -> list[int]:
    """Return the processes that live in a group (field 5 of /proc/PID/stat); zombies do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def gone(pid: int) -> bool:
    """Whether a group ends: who was sent SIGKILL may still be on its way out, and is waited for (bounded)."""
    for member in group_of(pid):
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(member)
            ended = select.select([handle], [], [], 5)[0]
            os.close(handle)
            if not ended:
                return False
    return group_of(pid) == []
