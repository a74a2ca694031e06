"""A temporary folder for one process; what killed processes left is removed by the next one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mirrord.files import storage_errors

PREFIX = "mirrord-copy-"
_LOCK = "lock"


@contextmanager
def room() -> Iterator[Path]:
    """Yield an empty folder, removed at the end; a lock that the kernel keeps says that we are alive.

    Raises:
        StorageError: there is no folder for temporary files that can be written to.
    """
    with storage_errors("the folder for temporary files; set TMPDIR to another"):
        sweep(Path(tempfile.gettempdir()))
        folder, lock = _make()
    try:
        work = folder / "work"
        with storage_errors(str(work)):
            work.mkdir()
        yield work
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(parent: Path) -> None:
    """Remove our folders whose process is gone; what cannot be looked at is left alone."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            _remove(folder)


def _remove(folder: Path) -> None:
    try:
        lock = os.open(folder / _LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        folder.rmdir()  # killed before it had a lock, or not yet so far: then `_make` begins again
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(lock)


def _make() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # somebody's sweep was quicker
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:
                return folder, lock
        os.close(lock)
