"""Looks at processes from outside: who lives in a group, and whether a group ends."""

from __future__ import annotations

import contextlib
import gc
import os
import re
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


def children() -> set[str]:
    """Return the processes that this one has started and not collected yet."""
    found = set[str]()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended has none
            found.update((task / "children").read_text().split())
    return found


def open_files() -> set[str]:
    """Return the files, pipes and sockets that this process has open, each with its number.

    What earlier tests have dropped is closed before, and may be closed at any other moment: nobody should ask whether
    there are as many as before, but whether there are others.
    """
    gc.collect()
    found = set[str]()
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that was open to list them
            found.add(f"{file.name} {file.readlink()}")
    return found


def children_of(pid: int) -> list[int]:
    """Return the processes that the main thread of another one started and not collected yet, zombies too."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a process has used (fields 14 and 15 of /proc/PID/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def peak_of(pid: int) -> float:
    """Return the most memory that a process has had, in MiB."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) / 1024


def ended(pid: int) -> bool:
    """Whether one process ends: who was sent SIGKILL may still be on its way out, and is waited for (bounded)."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 5)[0])
    finally:
        os.close(handle)


def gone(pid: int) -> bool:
    """Whether a group ends, each of its processes as `ended` says."""
    return all(map(ended, group_of(pid))) and group_of(pid) == []
