"""Which caches are served, and under which names.

The front knows no configuration. A run of a mirror with `local` among its targets leaves a file in the cache that
holds the name under which it is served; without that file a cache is nobody's business: it may be a private repository
on its way to a private host.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

from mirrord.syncers.git.front.desk import GitFront
from mirrord.syncers.git.names import FOLDER, MARK

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


async def served_cache(desk: GitFront, keep: Path | None, name: str) -> Path | None:
    """Return the folder of the cache that is served as `name`, or None."""
    if keep is None or not _NAME.fullmatch(name) or ".." in name or name.endswith((".git", ".lock")):
        return None
    likely = keep / FOLDER / f"{name}.git"
    if await asyncio.to_thread(_served_as, likely) == name:
        return likely
    # Whoever asks for what is not here shall not make us open a file of every mirror each time.
    names = await desk.recent.get(keep, lambda: asyncio.to_thread(_by_name, keep / FOLDER))
    other = names.get(name, likely)
    return other if await asyncio.to_thread(_served_as, other) == name else None


def _by_name(folder: Path) -> Mapping[str, Path]:
    """Return all caches that are served; the first of several of one name."""
    named = ((_served_as(cache), cache) for cache in sorted(folder.glob("*.git"), reverse=True))
    return {name: cache for name, cache in named if name is not None}


def _served_as(cache: Path) -> str | None:
    try:
        with (cache / MARK).open("rb") as file:
            return file.read(1024).decode().strip() or cache.name.removesuffix(".git")
    except (OSError, UnicodeDecodeError):
        return None
