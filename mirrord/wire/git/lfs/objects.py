"""Objects of Git LFS in a cache, as files where git-lfs keeps them: `lfs/objects/aa/bb/<SHA-256>`.

An object is received in a file of its own, resumed after an interruption, and gets its place when it is complete
and is what its id says.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Collection, Generator, Iterable
from dataclasses import dataclass
from io import FileIO
from operator import attrgetter
from pathlib import Path
from typing import Final

from mirrord.errors import DigestError, StorageError
from mirrord.files import settle
from mirrord.wire.git.cache.repair import disk

SPARE: Final = 16 << 20
"""Bytes of the disk that are left to others; three times as much lies in the reserve of the record already."""
_PIECE: Final = 1 << 20
_OID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Pointer:
    """A file in a repository that stands for an object."""

    oid: str  # SHA-256 of the object's content, in hex
    size: int  # its bytes
    blob: str = ""  # id of the file with the pointer in the repository


def ordered(pointers: Iterable[Pointer]) -> list[Pointer]:
    """Return pointers in the order of their objects, the same each time."""
    return sorted(pointers, key=attrgetter("oid", "blob"))


def valid(oid: str) -> bool:
    """Whether `oid` is the id of an object: SHA-256 of its content, in 64 lower-case hex digits."""
    return _OID.fullmatch(oid) is not None


def place(cache: Path, oid: str) -> Path:
    """Return where the object of that (valid) id is, there or not."""
    return cache / "lfs" / "objects" / oid[:2] / oid[2:4] / oid


def size_of(cache: Path, oid: str) -> int | None:
    """Return how many bytes an object has, or None when it is not there. Blocks for a moment."""
    try:
        return place(cache, oid).lstat().st_size
    except OSError:
        return None


def lacking(cache: Path, pointers: Collection[Pointer]) -> frozenset[Pointer]:
    """Return those pointers whose objects are not there. Blocks: a look at the disk for each.

    The id decides: a pointer with another size points to the same object, as with git-lfs.
    """
    other = [pointer for pointer in pointers if size_of(cache, pointer.oid) != pointer.size]
    here = {oid for oid in {pointer.oid for pointer in other} if _whole(cache, oid)}
    return frozenset(pointer for pointer in other if pointer.oid not in here)


def _whole(cache: Path, oid: str) -> bool:
    """Whether a file is there and is the object; reads all of it."""
    try:
        with place(cache, oid).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == oid
    except OSError:
        return False


def sweep(cache: Path, coming: Collection[Pointer]) -> None:
    """Remove what is left of downloads that do not go on, and of git-lfs in old versions. Raises StorageError."""
    wanted = {pointer.oid for pointer in coming}
    with disk(cache):
        for old in (cache / "lfs" / "tmp", cache / "lfs" / "logs"):  # reports in there held credentials
            if old.is_dir():
                shutil.rmtree(old)
            old.unlink(missing_ok=True)
        for part in (cache / "lfs" / "incomplete").glob("*"):
            if part.name not in wanted:
                part.unlink(missing_ok=True)


class Part:
    """An object on its way into a cache; its methods block for as long as the disk takes."""

    def __init__(self, cache: Path, pointer: Pointer) -> None:
        """Begin nothing yet."""
        self._cache, self._pointer = cache, pointer
        self._path = cache / "lfs" / "incomplete" / pointer.oid
        self._hasher = hashlib.sha256()
        self._file: FileIO | None = None
        self.size = 0
        """Bytes that are there."""

    def open(self) -> None:
        """Open it, with what an earlier attempt brought. Raises StorageError: the disk refuses, or has no room."""
        with disk(self._cache):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+b", buffering=0)
            self._file.seek(0)
            while piece := self._file.read(_PIECE):
                self._hasher.update(piece)
                self.size += len(piece)
            left, free = self._pointer.size - self.size, shutil.disk_usage(self._path).free
        if left > max(0, free - SPARE):
            raise StorageError(
                f"{self._cache}: no room for an LFS object of {self._pointer.size} bytes; free some space"
            )

    def close(self) -> None:
        """Close it; what is there stays for the next attempt."""
        if self._file is not None:
            self._file.close()

    def add(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            DigestError: they are more than the object has; all of them are dropped.
            StorageError: the disk refuses; what is there goes, since others need the room.
        """
        if self.size + len(data) > self._pointer.size:
            self.drop()
            raise DigestError(f"more than the {self._pointer.size} bytes that the object {self._pointer.oid[:12]} has")
        assert self._file is not None
        try:
            with disk(self._cache):
                rest = memoryview(data)
                while rest:
                    rest = rest[self._file.write(rest) :]
        except StorageError:
            self.drop()
            self._path.unlink(missing_ok=True)
            raise
        self._hasher.update(data)
        self.size += len(data)

    def drop(self) -> None:
        """Begin at its first byte again."""
        assert self._file is not None
        with disk(self._cache):
            self._file.truncate(0)
        self._hasher, self.size = hashlib.sha256(), 0

    def finish(self) -> None:
        """Give it its place, durably. Raises DigestError: it is not what its id says, and dropped; StorageError."""
        if self._hasher.hexdigest() != self._pointer.oid:
            size = self.size
            self.drop()
            raise DigestError(f"{size} bytes that are not those of the object {self._pointer.oid[:12]}")
        assert self._file is not None
        target = place(self._cache, self._pointer.oid)
        with disk(self._cache):
            target.parent.mkdir(parents=True, exist_ok=True)
            settle(self._file, self._path, target)


def pieces(cache: Path, pointer: Pointer) -> Generator[bytes, None, None]:
    """Yield an object's bytes; the last piece only when all of them are what its id says. Blocks.

    Raises:
        DigestError: they are not; the object is removed, and has to be fetched again.
        StorageError: it cannot be read.
    """
    hasher, held, size = hashlib.sha256(), b"", 0
    path = place(cache, pointer.oid)
    with disk(cache), path.open("rb") as file:
        while piece := file.read(_PIECE):
            hasher.update(piece)
            size += len(piece)
            if held:
                yield held
            held = piece
    if size != pointer.size or hasher.hexdigest() != pointer.oid:
        path.unlink(missing_ok=True)
        raise DigestError(
            f"the copy of the LFS object {pointer.oid[:12]} here is damaged; the next run fetches it again"
        )
    if held:
        yield held
