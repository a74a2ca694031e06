"""Small disks that are really full: file systems in memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mirrord.errors import UnreachableError

_PIECE = 1 << 16


@contextlib.contextmanager
def small_disk(folder: Path, size: int, files: int = 0) -> Iterator[Path]:
    """Mount a disk of `size` bytes on `folder`, which is made; with `files` it holds no more of them.

    Raises:
        UnreachableError: mounting is not permitted here; says why.
    """
    folder.mkdir()
    options = f"size={size}" + (f",nr_inodes={files}" if files else "")
    command = ["mount", "-t", "tmpfs", "-o", options, "mirrord-test", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UnreachableError("there is no program `mount`") from error
    if done.returncode:
        raise UnreachableError(f"a small disk cannot be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def fill(file: Path, leave: int = 0) -> None:
    """Write a file until the disk takes no more, or has `leave` bytes left."""
    with file.open("ab", buffering=0) as stream, contextlib.suppress(OSError):
        while not leave or _free(file.parent) > leave:
            stream.write(bytes(_PIECE if not leave else min(_PIECE, max(1, _free(file.parent) - leave))))


def fill_names(folder: Path) -> None:
    """Make empty files in `folder` until the disk takes no more."""
    folder.mkdir()
    with contextlib.suppress(OSError):
        for number in range(1_000_000):
            (folder / str(number)).touch()


def _free(folder: Path) -> int:
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def read_only(folder: Path) -> None:
    """Let nobody write to a disk any more that was mounted on `folder`."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], capture_output=True, check=True)
