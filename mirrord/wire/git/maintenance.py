"""Keeps a bare repository quick and sound: packs, and once a month a look at every object."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime
from pathlib import Path
from typing import Final

from mirrord.errors import ContentError
from mirrord.wire.git.command import Git
from mirrord.wire.git.repository import Cache

PACKS: Final = 20
LOOSE: Final = 2000
LOOSE_REFS: Final = 200
DAYS: Final = 28
CHECKED: Final = "mirrord-checked"
"""A file in the repository: the month in which every object was last looked at."""


async def maintain(git: Git, cache: Cache, now: datetime) -> None:
    """Pack what is in many pieces; on the repository's own day of the month drop what nothing refers to, and check all.

    Raises:
        ContentError: objects are damaged. The repository is marked, and begun anew with the next fetch.
        MirrordError: git said no.
    """
    packs, loose, refs = await asyncio.to_thread(_pieces, cache.folder)
    if refs > LOOSE_REFS:
        await git.run(["pack-refs", "--all"], folder=cache.folder)
    if packs > PACKS or loose > LOOSE:
        await git.run(["repack", "--quiet", "-d", "--geometric=2", "--write-midx"], folder=cache.folder)
    checked = cache.folder / CHECKED
    if now.day >= day_of(cache.folder.name) and await asyncio.to_thread(_read, checked) != f"{now:%Y-%m}":
        await git.run(["gc", "--quiet", "--prune=2.weeks.ago"], folder=cache.folder)
        await check(git, cache)
        await asyncio.to_thread(checked.write_text, f"{now:%Y-%m}")


def day_of(name: str) -> int:
    """Return the day of the month, 1 to 28, from which a repository is due: spread, and the same each month."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % DAYS + 1


async def check(git: Git, cache: Cache) -> None:
    """Look at every object; only that finds bit rot in a pack.

    Raises:
        ContentError: objects are damaged or missing.
    """
    output = await git.run(["fsck", "--no-dangling", "--no-progress"], folder=cache.folder, ok=tuple(range(256)))
    if output.status & 0b1011:  # 1 damaged, 2 missing, 8 a bad pack; 4 stands for a reference that names neither
        raise ContentError(f"{cache.folder.name}: {output.err[:300] or 'objects are damaged'}")


def _pieces(folder: Path) -> tuple[int, int, int]:
    objects = folder / "objects"
    packs = sum(1 for _ in objects.glob("pack/*.pack"))
    loose = sum(1 for _ in objects.glob("??/*"))
    return packs, loose, sum(1 for path in (folder / "refs").rglob("*") if path.is_file())


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
