"""Objects of Git LFS in a cache, as files where git-lfs keeps them: `lfs/objects/aa/bb/<SHA-256>`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_OID: Final = re.compile(r"[0-9a-f]{64}")


def valid(oid: str) -> bool:
    """Whether `oid` is the id of an object: SHA-256 of its content, in 64 lower-case hex digits."""
    return _OID.fullmatch(oid) is not None


def place(cache: Path, oid: str) -> Path:
    """Return where the object of that (valid) id is, there or not."""
    return cache / "lfs" / "objects" / oid[:2] / oid[2:4] / oid


def size_of(cache: Path, oid: str) -> int | None:
    """Return how many bytes an object has, or None when it is not there. Blocks for a moment."""
    try:
        return place(cache, oid).lstat().st_size
    except OSError:
        return None
