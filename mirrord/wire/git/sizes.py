"""How big a bare repository is, and in how many pieces. Blocks for a moment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a repository takes.

    Attributes:
        bytes: of all objects and their indexes.
        packs: packs.
        loose: objects that are in no pack.
        refs: refs that have a file of their own.
    """

    bytes: int
    packs: int
    loose: int
    refs: int


def sizes(folder: Path) -> Sizes:
    """Count; what is missing counts nothing."""
    total = packs = loose = 0
    for name, size in _files(folder / "objects"):
        total += size
        packs += name.endswith(".pack")
        loose += len(name) == 38 or len(name) == 62
    return Sizes(total, packs, loose, sum(1 for _ in _files(folder / "refs")))


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield name and size of every file below a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:  # what goes while we look is not there
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            else:
                with contextlib.suppress(OSError):
                    yield entry.name, entry.stat(follow_symlinks=False).st_size
