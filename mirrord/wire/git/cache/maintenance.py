"""Keeps a bare repository quick and sound: packs, and once a month a look at every object."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from mirrord.errors import ContentError, MirrordError
from mirrord.wire.git.cache.bare import INCOMING, sizes
from mirrord.wire.git.cache.damage import damage, doubtful
from mirrord.wire.git.cache.repair import DAMAGED, disk
from mirrord.wire.git.cache.repository import GitCache
from mirrord.wire.git.command import Git

PACKS: Final = 20
LOOSE: Final = 2000
LOOSE_REFS: Final = 200
DAYS: Final = 28
KEPT: Final = timedelta(days=14)  # objects that nothing refers to: somebody may be reading them
CHECKED: Final = "mirrord-checked"
"""A file in the repository: the month (`2024-05`) in which every object was last looked at."""


async def maintain(git: Git, cache: GitCache, now: datetime) -> bool:
    """Pack what is in many pieces; once a month look at every object, and drop what nothing refers to.

    Returns whether there was anything to do.

    Costs no process while nothing is due.

    Raises:
        ContentError: objects are damaged. The repository is marked, and the next run builds a new one.
        MirrordError: git or the disk said no.
    """
    found, due = await asyncio.to_thread(lambda: (sizes(cache.folder), _due(cache.folder, now)))
    commands = [["pack-refs", "--all"]] if found.refs > LOOSE_REFS else []
    if found.packs > PACKS or found.loose > LOOSE:
        commands.append(["repack", "--quiet", "-d", "--geometric=2", "--write-midx"])
    try:
        for args in commands:
            await git.run(args, folder=cache.folder)
    except MirrordError as error:
        if doubtful(error):
            await check(git, cache)
        raise
    if due:
        await check(git, cache)
        # Pack everything anew, without what nothing referred to before then. Younger ones go to a pack of their own: as
        # loose files (git's default until 2.41) they would look like something to pack with every run.
        args = ["gc", "--quiet", f"--prune={now - KEPT:%Y-%m-%dT%H:%M:%S%z}"]
        await git.run(args, folder=cache.folder, config={"gc.cruftPacks": "true"})
        await asyncio.to_thread(_write, cache.folder / CHECKED, f"{now:%Y-%m}")
    return bool(commands) or due


async def check(git: Git, cache: GitCache) -> None:
    """Look at every object.

    Raises:
        ContentError: objects are damaged or missing. The repository is marked, and the next run builds a new one.
        MirrordError: it could not be looked at.
    """
    found = await damage(git, cache.folder)
    if found:
        await asyncio.to_thread(_write, cache.folder / DAMAGED, found)
        await cache.update({}, await cache.refs(INCOMING))  # without these the next run fetches even if upstream rests
        raise ContentError(f"{cache.folder.name}: the copy here is damaged; all of it is fetched again ({found})")


def day_of(name: str) -> int:
    """Return the day of the month, 1 to 28, from which a repository is due: spread, and the same each month."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % DAYS + 1


async def pack_refs(git: Git, folder: Path) -> None:
    """Put refs into one file when there are many; concurrent readers see all of them. Raises MirrordError."""
    if (await asyncio.to_thread(sizes, folder)).refs > LOOSE_REFS:
        await git.run(["pack-refs", "--all"], folder=folder)


def _due(folder: Path, now: datetime) -> bool:
    last = ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        last = (folder / CHECKED).read_text()
    return now.day >= day_of(folder.name) and last != f"{now:%Y-%m}"


def _write(path: Path, text: str) -> None:
    with disk(path):
        path.write_text(text)
