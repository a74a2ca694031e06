"""A lock on a folder that a program holds with all that it started: it ends with the last of them, however they end.

Where the file system locks no folders, nothing is held and every folder is free. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def shared(folder: str | Path) -> Iterator[int]:
    """Open a folder with a shared lock (flock(2)), which each process holds that inherits the descriptor."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)  # never waits long: `free` lets go at once
        yield handle
    finally:
        os.close(handle)


def free(folder: Path) -> bool:
    """Whether no process holds a shared lock on a folder; a folder that is missing is free."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    finally:
        os.close(handle)
    return True
