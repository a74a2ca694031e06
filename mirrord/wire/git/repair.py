"""Puts right, without git, what a crash or a power loss leaves in a bare repository. Blocks.

The caller owns the repository: no other process writes to it. Then every lock in it is stale, and every temporary file
is a leftover (41 MB in one try, after a kill in the middle of a fetch).
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mirrord.wire.git.refs import valid_ref

CONFIG: Final = """\
[core]
	repositoryformatversion = 0
	filemode = true
	bare = true
	logAllRefUpdates = false
	fsync = all
[gc]
	auto = 0
[maintenance]
	auto = false
[receive]
	denyCurrentBranch = refuse
[http]
	receivepack = false
[transfer]
	hideRefs = refs/mirrord
[uploadpack]
	allowFilter = true
	allowAnySHA1InWant = false
[repack]
	writeBitmaps = true
[pack]
	threads = 0
"""
_LOOSE = re.compile(rb"(?:[0-9a-f]{40}|[0-9a-f]{64}|ref: refs/[^\n]+)\n?")


def repair(folder: Path, head: str) -> bool:
    """Sweep locks and leftovers, drop unreadable refs, restore HEAD and configuration; say whether it can be used.

    Args:
        folder: the repository; it may be missing.
        head: what HEAD shall point to when nobody can read it any more.
    """
    if not (folder / "objects").is_dir() or not (folder / "refs").is_dir():
        return False
    for stray in _strays(folder):
        with contextlib.suppress(OSError):
            shutil.rmtree(stray) if stray.is_dir() and not stray.is_symlink() else stray.unlink()
    for ref in _files(folder / "refs"):
        if not _LOOSE.fullmatch(_content(ref)):
            ref.unlink()
    if not _content(folder / "HEAD").startswith(b"ref: refs/heads/"):
        (folder / "HEAD").write_text(f"ref: {head if valid_ref(head) else 'refs/heads/main'}\n")
    if _content(folder / "config") != CONFIG.encode():
        (folder / "config").write_text(CONFIG)
    return True


def _strays(folder: Path) -> Iterator[Path]:
    yield from folder.glob("*.lock")
    yield from (folder / "refs").rglob("*.lock")
    yield from (folder / "objects" / "info").rglob("*.lock")
    for pattern in ("pack/tmp_*", "pack/.tmp-*", "pack/*.lock", "??/tmp_obj_*", "tmp_objdir-*", "incoming-*"):
        yield from (folder / "objects").glob(pattern)
    yield from (folder / name for name in ("gc.pid", "FETCH_HEAD") if (folder / name).exists())


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()[:4096]
    except OSError:
        return b""


def size(folder: Path) -> int:
    """Return the bytes of all packs and loose objects."""
    found = 0
    for path in (folder / "objects").rglob("*"):
        with contextlib.suppress(OSError):
            found += path.stat().st_size if path.is_file() else 0
    return found
