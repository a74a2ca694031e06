"""How much of the disk each part of the state directory takes. Blocks, for seconds where it has a million files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mirrord.daemon.lock import RECORD

AREAS: Final = ("blobs", "cache", "git", "repositories", "scratch", "spool")
"""Folders that have an area of their own. `mirrord.db*` is `database`; everything else is `other`."""


def areas(state: Path) -> Mapping[str, int]:
    """Return the bytes of disk space by area; a file with several names counts once, in the first of its areas."""
    sizes, linked = Counter[str](dict.fromkeys((*AREAS, "database", "other"), 0)), set[tuple[int, int]]()
    for entry in sorted(_entries(state), key=lambda entry: entry.name):
        own = entry.name if entry.name in AREAS else "database" if entry.name.startswith(RECORD) else "other"
        waiting = [entry]
        while waiting:
            found = waiting.pop()
            try:
                stat = found.stat(follow_symlinks=False)
                folder = found.is_dir(follow_symlinks=False)
            except OSError:  # removed since
                continue
            if folder:
                waiting += _entries(found)
            elif stat.st_nlink > 1:
                if (stat.st_dev, stat.st_ino) in linked:
                    continue
                linked.add((stat.st_dev, stat.st_ino))
            sizes[own] += stat.st_blocks * 512
    return sizes


def _entries(folder: os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:  # removed since, or not ours to read
        return []
