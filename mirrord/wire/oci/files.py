"""Parts of local files, read where they lie: a blob of a layout folder, a member of a tar."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mirrord.errors import ContentError, DigestError, MissingError, StorageError, TooLargeError
from mirrord.model.digest import Digest

STEP = 1024 * 1024  # bytes read at once


def ignore() -> None:
    """Do nothing: the `alive` of those who cannot be asked to stop."""


@dataclass(frozen=True, slots=True)
class BlobFile:
    """Where bytes lie on this machine.

    Attributes:
        path: a regular file.
        offset: where they begin in it.
        size: how many there are.
    """

    path: Path
    offset: int
    size: int

    @classmethod
    def whole(cls, path: Path) -> BlobFile:
        """Return all of the regular file at `path`.

        Raises:
            MissingError: there is none.
            ContentError: it is a folder, a device or a pipe.
            StorageError: it cannot be looked at.
        """
        handle = open_regular(path)
        try:
            return cls(path, 0, os.fstat(handle).st_size)
        finally:
            os.close(handle)

    def load(self, cap: int) -> bytes:
        """Read everything into memory.

        Raises:
            TooLargeError: there are more than `cap` bytes; nothing was read.
            DigestError: the file became shorter.
        """
        if self.size > cap:
            raise TooLargeError(f"{self.path}: {self.size} bytes where at most {cap} are read")
        return b"".join(self.pieces())

    def pieces(self, alive: Callable[[], None] = ignore) -> Iterator[bytes]:
        """Read in steps, blocking; `alive` is called before each and may raise to end it.

        Raises:
            DigestError: the file became shorter.
        """
        handle = open_regular(self.path)
        try:
            done = 0
            while done < self.size:
                alive()
                piece = _read(handle, self, done)
                done += len(piece)
                yield piece
        finally:
            os.close(handle)

    async def chunks(self, offset: int = 0) -> AsyncIterator[bytes]:
        """Read from `offset` on without blocking the loop.

        Raises:
            DigestError: the file became shorter.
        """
        handle = await asyncio.to_thread(open_regular, self.path)
        try:
            while offset < self.size:
                piece = await asyncio.to_thread(_read, handle, self, offset)
                offset += len(piece)
                yield piece
        finally:
            os.close(handle)


def open_regular(path: Path) -> int:
    """Open a regular file for reading and return its descriptor; a pipe or device never blocks us.

    Raises:
        MissingError: there is none.
        ContentError: it is a folder, a device or a pipe.
        StorageError: it cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError(f"{path}: no such file") from error
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ContentError(f"{path}: not a regular file")
    return handle


def write_hashed(pieces: Iterator[bytes], file: IO[bytes]) -> tuple[Digest, int]:
    """Write all `pieces`; return the sha256 digest and the number of the bytes written."""
    hasher, size = hashlib.sha256(), 0
    for piece in pieces:
        hasher.update(piece)
        file.write(piece)
        size += len(piece)
    return Digest.parse(f"sha256:{hasher.hexdigest()}"), size


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(handle: int, part: BlobFile, done: int) -> bytes:
    try:
        piece = os.pread(handle, min(STEP, part.size - done), part.offset + done)
    except OSError as error:
        raise StorageError(f"{part.path}: {error.strerror or error}") from error
    if not piece:
        raise DigestError(f"{part.path}: ended after {done} of {part.size} bytes; it changed while it was read")
    return piece
