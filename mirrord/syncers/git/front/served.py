"""Which caches are served, and under which names.

The front knows no configuration. A run of a mirror with `local` among its targets leaves a file in the cache that
holds the name under which it is served; without that file a cache is nobody's business: it may be a private repository
on its way to a private host.
"""

from __future__ import annotations

import re
from pathlib import Path

from mirrord.syncers.git.names import FOLDER, MARK

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


def served_cache(keep: Path | None, name: str) -> Path | None:
    """Return the folder of the cache that is served as `name`, or None. Blocks for a moment."""
    if keep is None or not _NAME.fullmatch(name) or ".." in name or name.endswith((".git", ".lock")):
        return None
    likely = keep / FOLDER / f"{name}.git"
    if _served_as(likely) == name:
        return likely
    return next((cache for cache in sorted((keep / FOLDER).glob("*.git")) if _served_as(cache) == name), None)


def _served_as(cache: Path) -> str | None:
    try:
        with (cache / MARK).open("rb") as file:
            return file.read(1024).decode().strip() or cache.name.removesuffix(".git")
    except (OSError, UnicodeDecodeError):
        return None
