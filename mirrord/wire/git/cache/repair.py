"""Puts right, without git, what a crash or a power loss leaves in a bare repository. Blocks.

The caller owns the repository: no other process writes to it. Then every lock in it is stale, and every temporary file
is a leftover (41 MB in one try, after a kill in the middle of a fetch).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from mirrord.files import storage_errors, sync
from mirrord.folderlock import free
from mirrord.wire.git.refs import HEADS, valid_ref

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
_LOOSE = re.compile(rb"(?!0+\n?\Z)(?:[0-9a-f]{40}|[0-9a-f]{64}|ref: refs/[^\n]+)\n?")
_PACKED = re.compile(rb"(?:[0-9a-f]{40}|[0-9a-f]{64}) refs/[^\x00-\x20\x7f]+|\^(?:[0-9a-f]{40}|[0-9a-f]{64})|#.*")
_HEAD = re.compile(rb"ref: (refs/heads/[^\n]+)\n?")
_STRAYS: Final = (
    *("*.lock", "refs/**/*.lock", "packed-refs.new", "gc.pid", "FETCH_HEAD", "objects/info/**/*.lock"),
    *("objects/pack/*.lock", "objects/pack/tmp_*", "objects/pack/.tmp-*", "objects/pack/*.keep"),
    *("objects/??/tmp_obj_*", "objects/tmp_*", "objects/incoming-*", "objects/info/**/tmp_*"),
)
# What makes a bare repository; everything else in its folder was laid there for other ends, and is carried over.
_GIT: Final = frozenset(
    ("HEAD", "branches", "config", "description", "hooks", "info", "logs", "objects", "packed-refs", "refs", "shallow")
)
DAMAGED: Final = "mirrord-damaged"
"""A file in a repository whose objects are known to be damaged: the next fetch rebuilds it."""


disk: Final = partial(storage_errors, advice="; see to that disk")
"""Turns what the operating system says into a StorageError that names the folder."""


def repair(folder: Path, head: str) -> Sequence[Path] | None:
    """Sweep locks and leftovers, drop unreadable refs, restore HEAD (to `head` if it cannot be read) and configuration.

    Returns packs that lack their index, or None when there is no repository at all. Raises StorageError.
    """
    with disk(folder):
        settle(folder)
        if not (folder / "objects").is_dir():
            return None
        (folder / "refs").mkdir(exist_ok=True)
        for stray in [found for pattern in _STRAYS for found in folder.glob(pattern)]:
            _remove(stray)
        _sift_refs(folder)
        found = _HEAD.fullmatch(_content(folder / "HEAD"))
        if not found or not valid_ref(found[1].decode("utf-8", "surrogateescape")):
            (folder / "HEAD").write_text(f"ref: {head if valid_ref(head) else f'{HEADS}main'}\n")
        if _content(folder / "config") != CONFIG.encode():
            (folder / "config").write_text(CONFIG)
        return _sift_packs(folder / "objects" / "pack")


def _sift_refs(folder: Path) -> None:
    """Drop what is no ref: a file that was made and never filled, or filled with zeros. The next fetch has it again."""
    for ref in (folder / "refs").rglob("*"):
        if ref.is_file() and not _LOOSE.fullmatch(_content(ref)):
            ref.unlink()
    lines = _content(folder / "packed-refs").split(b"\n")
    good = [line for line in lines[:-1] if _PACKED.fullmatch(line)]
    if lines[-1] or len(good) < len(lines) - 1:
        kept = [line for line in good if line[:1] not in (b"#", b"^")]  # what its first line promises may not hold
        fresh = folder / "packed-refs.new"
        fresh.write_bytes(b"".join(line + b"\n" for line in kept))
        fresh.replace(folder / "packed-refs")


def _sift_packs(folder: Path) -> Sequence[Path]:
    """Drop what belongs to packs that are gone; return packs without index."""
    files = sorted(folder.glob("pack-*"))
    packs = {file.stem for file in files if file.suffix == ".pack"}
    orphans = [file for file in files if file.stem not in packs]
    for file in [*orphans, *(folder.glob("multi-pack-index*") if orphans else ())]:
        _remove(file)
    return [file for file in files if file.suffix == ".pack" and not file.with_suffix(".idx").exists()]


def occupied(folder: Path) -> bool:
    """Whether a git process works in a repository, or in one beside it that is to take its place."""
    return not all(map(free, (folder, again(folder), _beside(folder, "damaged"))))


def begin(folder: Path) -> Path:
    """Return an empty place beside `folder` in which a repository can be made. Raises StorageError."""
    fresh = _beside(folder, "new")
    with disk(fresh):
        _remove(fresh)
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return fresh


def take_place(fresh: Path, folder: Path) -> None:
    """Let a new repository take the place of one without objects; what else was there stays. Raises StorageError."""
    with disk(folder):
        (fresh / "config").write_text(CONFIG)
    swap(fresh, folder)


def again(folder: Path) -> Path:
    """Return where the new copy of a repository is built."""
    return _beside(folder, "again")


def swap(fresh: Path, folder: Path) -> None:
    """Put a complete repository in the place of a damaged one; `repair` mends a crash in it. Raises StorageError."""
    with disk(folder):
        if fresh != again(folder):
            _remove(again(folder))
            fresh = fresh.rename(again(folder))
        _remove(_beside(folder, "damaged"))
        if folder.exists():
            folder.rename(_beside(folder, "damaged"))
        fresh.rename(folder)
        settle(folder)
        sync(folder.parent)


def settle(folder: Path) -> None:
    """Finish what `swap` began, and remove what a crash left beside the repository."""
    damaged = _beside(folder, "damaged")
    if damaged.exists() and not folder.exists():
        (again(folder) if again(folder).exists() else damaged).rename(folder)
    if damaged.exists():
        for entry in damaged.iterdir():
            if entry.name not in _GIT and entry.name != DAMAGED and not (folder / entry.name).exists():
                entry.rename(folder / entry.name)
        _remove(damaged)
    _remove(again(folder))
    _remove(_beside(folder, "new"))


def _beside(folder: Path, word: str) -> Path:
    return folder.with_name(f"{folder.name}.{word}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
