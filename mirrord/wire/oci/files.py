"""Parts of local files, read where they lie: a blob of a layout folder, a member of a tar."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from mirrord import files
from mirrord.errors import ContentError, DigestError, TooLargeError
from mirrord.files import settle, storage_errors
from mirrord.model.digest import Digest
from mirrord.wire.oci.descriptor import Descriptor

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
        """Return all of the regular file at `path`. Raises as `open_regular`."""
        handle = open_regular(path)
        try:
            return cls(path, 0, os.fstat(handle).st_size)
        finally:
            os.close(handle)

    def load(self, cap: int) -> bytes:
        """Read everything into memory; TooLargeError says that there are more than `cap` bytes. Raises as `pieces`."""
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
                with storage_errors(self.path):
                    piece = os.pread(handle, min(STEP, self.size - done), self.offset + done)
                if not piece:
                    why = f"ended after {done} of {self.size} bytes; it changed while it was read"
                    raise DigestError(f"{self.path}: {why}")
                done += len(piece)
                yield piece
        finally:
            os.close(handle)


class BlobPart:
    """A blob while it is written: a locked file that a sweep leaves alone while we live."""

    def __init__(self, place: Path, descriptor: Descriptor) -> None:
        """Begin to write what shall be at `place`."""
        self._want = descriptor
        self._place = place
        self._place.parent.mkdir(parents=True, exist_ok=True)
        self._hasher = descriptor.digest.hasher()
        self._done = 0
        while True:
            self._path = self._place.parent / f".{secrets.token_hex(8)}.part"
            self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if os.fstat(self._file.fileno()).st_nlink:
                return
            self._file.close()  # somebody's sweep was quicker than our lock

    def __enter__(self) -> Self:
        """Return it; leaving the context removes what was not finished."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was not finished."""
        self._path.unlink(missing_ok=True)
        self._file.close()

    def write(self, chunk: bytes) -> None:
        """Write the next bytes; DigestError says that they are more than the blob has."""
        self._done += len(chunk)
        if self._done > self._want.size:
            raise DigestError(f"{self._want.digest}: more than the {self._want.size} bytes of its descriptor")
        self._hasher.update(chunk)
        self._file.write(chunk)

    def finish(self) -> None:
        """Give the blob its name, durably; DigestError says that the bytes are others than the blob's."""
        if self._done != self._want.size or self._hasher.hexdigest() != self._want.digest.hex:
            raise DigestError(f"{self._want.digest}: the {self._done} bytes that came are others")
        settle(self._file, self._path, self._place)


def open_regular(path: Path) -> int:
    """Open a regular file for reading and return its descriptor; a pipe or device never blocks us.

    Raises:
        MissingError: there is none.
        ContentError: it is a folder, a device or a pipe.
        StorageError: it cannot be opened.
    """
    try:
        with storage_errors(path, missing=True):
            return files.open_regular(path)
    except files.IrregularError as error:
        raise ContentError(f"{path}: not a regular file") from error


def write_hashed(pieces: Iterator[bytes], file: IO[bytes]) -> tuple[Digest, int]:
    """Write all `pieces`; return the sha256 digest and the number of the bytes written."""
    hasher, size = hashlib.sha256(), 0
    for piece in pieces:
        hasher.update(piece)
        file.write(piece)
        size += len(piece)
    return Digest.parse(f"sha256:{hasher.hexdigest()}"), size
