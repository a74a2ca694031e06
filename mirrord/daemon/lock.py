"""One process for each state directory, held by the kernel: a lock file that survives a crash means nothing."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mirrord.errors import BusyError, StorageError
from mirrord.files import storage_errors

SERVE: Final = "serve"
RECORD: Final = "mirrord.db"
"""The file with the record in a state directory, where no database has it."""
_LOOK: Final = 0.1  # seconds until the daemon tries again to take a state that a command holds
_OTHERS: Final = 0o077
_OURS: Final = frozenset({"lock", RECORD})  # of what these are in nobody else has anything


def exists(path: Path) -> bool:
    """Return whether there is a state directory, or a file in one; StorageError when this user may not look."""
    with storage_errors(path, "; run this as root, or as the user to whom the state directory belongs"):
        return path.exists()


def used(state: Path) -> bool:
    """Return whether a process of mirrord has ever used this state directory; StorageError as for `exists`."""
    return any(exists(state / name) for name in _OURS)


class StateLock:
    """Holds the state directory for as long as the `with` block lasts; makes the directory (mode 0700) when missing."""

    def __init__(self, state: Path, what: str = "") -> None:
        """Name the directory, and the command that holds it, such as `SERVE`."""
        self._path, self._what = state / "lock", what
        self._descriptor = -1
        self.serving = False  # of a lock that is held by another process, whether that is the daemon
        self.notices: tuple[str, ...] = ()  # what a person should know about who may look into the directory

    def __enter__(self) -> Self:
        """Take the lock, without waiting; BusyError names the process that holds it."""
        folder = self._path.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            names = {entry.name for entry in folder.iterdir()}
            ours = not names or bool(names & _OURS)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StorageError(
                f"{folder}: cannot be used as state directory: {error.strerror}; give another with --state"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder, _, what = os.pread(self._descriptor, 40, 0).decode("ascii", "replace").strip().partition(" ")
            self._release()
            self.serving = what == SERVE
            command = f" (`mirrord {what}`)" if what else ""
            fix = "stop it" if self.serving else "wait until it ends"
            raise BusyError(
                f"{folder}: in use by process {holder or 'unknown'}{command}; {fix}, or give another directory with "
                "--state"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()} {self._what}".strip().encode() + b"\n", 0)
        self.notices = _closed(folder, ours=ours)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go. The file stays: removing it would let two processes lock two files of the same name."""
        with contextlib.suppress(OSError):  # of a directory that was removed meanwhile
            _hand_back(self._path.parent)
        self._release()

    def check(self) -> None:
        """Raise StorageError when the directory was moved or removed: another process could hold what is there now."""
        found = None
        with contextlib.suppress(OSError):
            found = self._path.stat(follow_symlinks=False)
        if found is None or not os.path.samestat(found, os.fstat(self._descriptor)):
            raise StorageError(
                f"{self._path.parent}: was moved or removed while in use; put it back as it was, or start mirrord anew"
            )

    def _release(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


@contextlib.asynccontextmanager
async def held(state: Path, *, patience: float = 10.0) -> AsyncIterator[StateLock]:
    """Hold the state directory for the daemon.

    A command that looks, such as `mirrord status`, holds it for a moment: it gets `patience` seconds to end.
    BusyError: another daemon holds it, or a command that goes on.
    """
    lock = StateLock(state, SERVE)
    for left in reversed(range(1 + round(patience / _LOOK))):
        try:
            lock.__enter__()
            break
        except BusyError:
            if lock.serving or not left:
                raise
        await asyncio.sleep(_LOOK)
    with contextlib.ExitStack() as stack:
        stack.push(lock)
        yield lock


def close_to_others(path: Path) -> bool:
    """Take away what others may do with something of ours; return whether they could do anything before."""
    status = path.stat()
    if status.st_uid != os.geteuid() or not status.st_mode & _OTHERS:
        return False
    path.chmod(status.st_mode & ~_OTHERS & 0o7777)
    return True


def _hand_back(folder: Path) -> None:
    """Give what root made in somebody else's state directory to its owner, who could not use it otherwise.

    Nothing outside changes hands, although the owner may put links there: symbolic ones are not followed, and a file
    is given only when all its names are in the directory.
    """
    owner = folder.stat()
    if os.geteuid() or not owner.st_uid:
        return
    names = Counter[tuple[int, int]]()
    for _, folders, files, here in os.fwalk(folder):
        for name in (*folders, *files):
            found = os.stat(name, dir_fd=here, follow_symlinks=False)
            if found.st_uid:
                continue
            names[found.st_dev, found.st_ino] += 1
            if stat.S_ISDIR(found.st_mode) or names[found.st_dev, found.st_ino] == found.st_nlink:
                os.chown(name, owner.st_uid, owner.st_gid, dir_fd=here, follow_symlinks=False)


def _closed(folder: Path, *, ours: bool) -> tuple[str, ...]:
    """Close the state directory to others; say what was done, or what cannot be done for want of the right to."""
    status = folder.stat()
    mode = f"mode {status.st_mode & 0o7777:04o}"
    if status.st_uid != os.geteuid():
        # A volume of Kubernetes belongs to root, and only its group is ours.
        if status.st_mode & 0o002:
            return (f"{folder}: belongs to somebody else, and all may write into it ({mode}); give one of our own",)
        return ()
    if not status.st_mode & _OTHERS:
        return ()
    if not ours:  # it was there, with something of somebody's in it
        return (f"{folder}: others may look into it ({mode}); give a directory of its own, or chmod 700",)
    close_to_others(folder)
    return (f"{folder}: others could look into it ({mode}); it is 0700 now",)
