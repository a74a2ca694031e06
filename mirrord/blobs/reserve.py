"""The free space of a disk, and the reserve that is kept for the record.

Content never takes the last `RESERVE` bytes. A quarter of them stays free, for manifests, notes and what the record
writes every day. Three quarters lie in a file beside the record: whatever else fills the disk (git, another program)
cannot take them, and when the record, or a name of `local`, cannot be written the file is removed. A process that ends
leaves a small part of it, so that the next one can open the record although the disk is full: a collection of garbage
has to write there what it is about to remove.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

from mirrord.errors import StorageError
from mirrord.files import storage_errors
from mirrord.model.digest import Digest

RESERVE: Final = 64 << 20
HELD: Final = 48 << 20
LEFT: Final = 1 << 20
FILE: Final = "reserve"
FEWEST: Final = 8  # free inodes of a usable disk
_MIB: Final = 1 << 20
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_Got = TypeVar("_Got")


class OtherContent(Protocol):
    """Content elsewhere on the same disk: a spool need not read it, and it is removed when a spool needs its space."""

    @property
    def evictable(self) -> int:
        """Return how many bytes it has that could be removed."""

    def link(self, digest: Digest, size: int, to: Path) -> bool:
        """Give content of exactly that size a second name, if it is there; return whether that was done."""

    async def evict(self, lack: int) -> None:
        """Remove content until about `lack` more bytes of the disk are free, or nothing can be removed now."""


def free(folder: Path) -> int:
    """Return how many bytes this user may still write on the disk of `folder`; StorageError: that is unknown."""
    with storage_errors(str(folder)):
        stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def capacity(folder: Path) -> int:
    """Return the size of the disk of `folder` in bytes, as far as this user can have it; StorageError: unknown."""
    with storage_errors(str(folder)):
        stat = os.statvfs(folder)
    return (stat.f_blocks - stat.f_bfree + stat.f_bavail) * stat.f_frsize


def room(state: Path) -> int:
    """Return how many bytes content may still take on the disk of `state`; negative if the reserve is incomplete."""
    return free(state) + _held(state) - RESERVE


def keep(state: Path) -> None:
    """Complete the reserve.

    Raises:
        StorageError: the disk is too full for it; names what is missing.
    """
    with storage_errors(str(state)):
        stat = os.statvfs(state)
    if stat.f_files and stat.f_favail < FEWEST:
        raise StorageError(f"{state}: no inodes are left on its disk; remove some files")
    left = room(state)
    if left < 0:
        there, kept = (left + RESERVE) // _MIB, RESERVE // _MIB
        raise StorageError(
            f"{state}: {there} MiB are free on its disk, and {kept} MiB are reserved for the database; free some space"
        )
    if _held(state) != HELD:
        with storage_errors(str(state / FILE)):
            _allocate(state / FILE, HELD)


def leave(state: Path, record: Path) -> None:
    """Leave as much of the reserve as the record needs to note that all in it goes, if there is room."""
    with contextlib.suppress(OSError):
        _allocate(state / FILE, max(LEFT, min(record.stat().st_size, HELD)))


def ease(state: Path) -> None:
    """Release the reserve where the disk is full, for small files that are written to make room."""
    with contextlib.suppress(StorageError):
        if room(state) < 0:
            give_up(state)


def eased(write: Callable[[], _Got], ease: Callable[[], object]) -> _Got:
    """Do a small write; where the disk is full, `ease` it and do that once more.

    It is what names content that was read from far away, and would be dropped without it. Raises as `write`.
    """
    try:
        return write()
    except StorageError as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in _FULL:
            raise
    ease()
    return write()


def _allocate(file: Path, size: int) -> None:
    """Let a file have this size, all of it allocated; without room there is none."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.fstat(handle).st_size > size:
            os.ftruncate(handle, size)
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        file.unlink(missing_ok=True)
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # no space can be allocated here: it is left free
            raise
    finally:
        os.close(handle)


def give_up(state: Path) -> bool:
    """Release the reserve for the record; return whether there was any."""
    there = _held(state) > 0
    with contextlib.suppress(OSError):
        (state / FILE).unlink(missing_ok=True)
    return there


def _held(state: Path) -> int:
    """Return the bytes of the file that are allocated."""
    try:
        return min(HELD, (state / FILE).stat().st_blocks * 512)
    except OSError:
        return 0
