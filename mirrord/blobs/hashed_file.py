"""A file that is hashed while it is written."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

from mirrord.model.digest import Digest

CHUNK = 1 << 18  # bytes that are read at a time


class HashedFile:
    """The file of a blob in transfer."""

    def __init__(self, path: Path, digest: Digest | None) -> None:
        """Open or create it; hash with the algorithm of `digest`, else with sha256."""
        self._algorithm = digest.algorithm if digest else "sha256"
        self._handle, self._hash = _open(path), hashlib.new(self._algorithm)

    @property
    def digest(self) -> Digest:
        """Return the digest of the bytes so far."""
        return Digest(f"{self._algorithm}:{self._hash.hexdigest()}")

    async def take_up(self, most: int | None) -> int:
        """Hash the bytes of an earlier attempt or process and return their number; more than `most` are dropped."""
        left, at = os.fstat(self._handle).st_size, 0
        if most is not None and left > most:
            os.ftruncate(self._handle, 0)
            left = 0
        while at < left and (data := await asyncio.to_thread(os.pread, self._handle, CHUNK, at)):
            self._hash.update(data)
            at += len(data)
        return at

    def add(self, data: bytes, at: int | None) -> None:
        """Hash more bytes and write them at an offset, if one is given."""
        self._hash.update(data)
        view = memoryview(data)
        while at is not None and view:
            count = os.pwrite(self._handle, view, at)
            view, at = view[count:], at + count

    def restart(self, path: Path) -> None:
        """Begin an empty file at `path`. Readers keep the old file open, so they never read a mixture."""
        old = self._handle
        path.unlink(missing_ok=True)
        self._handle, self._hash = _open(path), hashlib.new(self._algorithm)
        os.close(old)

    def close(self) -> None:
        """Close it."""
        os.close(self._handle)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
