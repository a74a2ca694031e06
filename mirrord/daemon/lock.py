"""One process for each state directory, held by the kernel: a lock file that survives a crash means nothing."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from mirrord.errors import BusyError, StorageError


class StateLock:
    """Holds the state directory for as long as the `with` block lasts; makes the directory (mode 0700) when missing.

    Raises:
        BusyError: another process holds it; names its process id.
        StorageError: the directory cannot be made or written to.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / "lock"
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Take the lock, without waiting."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StorageError(
                f"{self._path.parent}: cannot be used as state directory: {error.strerror}; give another with --state"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            self._release()
            raise BusyError(
                f"{self._path.parent}: in use by process {holder}; stop it, or give another directory with --state"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go. The file stays: removing it would let two processes lock two files of the same name."""
        self._release()

    def _release(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1
