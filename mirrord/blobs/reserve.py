"""What is left of a disk, and the last of it, which is kept for the record.

Content never takes the last `RESERVE` bytes. A quarter of them stays free, for manifests, notes and what the record
writes every day. Three quarters lie in a file beside the record: whatever else fills the disk (git, another program)
cannot take them, and when the record cannot be written the file is given up for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from mirrord.errors import StorageError
from mirrord.files import storage_errors

RESERVE: Final = 64 << 20
HELD: Final = 48 << 20
FILE: Final = "reserve"
FEWEST: Final = 8  # names that can still be made on a disk that counts as usable
_MIB: Final = 1 << 20


def free(folder: Path) -> int:
    """Return how many bytes whoever we are may still write on the disk of `folder`; StorageError: it does not say."""
    with storage_errors(str(folder)):
        stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def room(state: Path) -> int:
    """Return how many bytes content may still take on the disk of `state`; negative when the reserve is not whole."""
    return free(state) + _held(state) - RESERVE


def keep(state: Path) -> None:
    """See to it that the reserve is whole.

    Raises:
        StorageError: the disk is too full for it; says what is missing.
    """
    with storage_errors(str(state)):
        stat = os.statvfs(state)
    if stat.f_files and stat.f_favail < FEWEST:
        raise StorageError(f"{state}: no more files can be made on its disk (inodes); remove some")
    left = room(state)
    if left < 0:
        there, kept = (left + RESERVE) // _MIB, RESERVE // _MIB
        raise StorageError(f"{state}: {there} MiB are left on its disk, and {kept} are kept for the record; make room")
    if _held(state) == HELD:
        return
    with storage_errors(str(file := state / FILE)):
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(handle, 0, HELD)
        except OSError as error:
            file.unlink(missing_ok=True)
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # no room can be held here: it is left free, then
                raise
        finally:
            os.close(handle)


def give_up(state: Path) -> bool:
    """Let the record have what was held for it; say whether there was anything."""
    there = _held(state) > 0
    with contextlib.suppress(OSError):
        (state / FILE).unlink(missing_ok=True)
    return there


def _held(state: Path) -> int:
    """Return the bytes of the file that really take room."""
    try:
        return min(HELD, (state / FILE).stat().st_blocks * 512)
    except OSError:
        return 0
