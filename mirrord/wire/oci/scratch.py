"""Products of the operator's files, made once and kept in a scratch folder for the next run.

The name of the product holds the state of its source, so a changed source is made anew and the
older product goes. Work in progress has another name; a crash leaves that to the sweep of the
scratch folder at the next start.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mirrord import gunzip as gzip
from mirrord.errors import ContentError, TooLargeError, UnsupportedError
from mirrord.files import LocalFile, nothing, storage_errors
from mirrord.model.digest import Digest
from mirrord.wire.oci.tarball import compressed

UNPACKED = 256 * 1024**3  # a bomb of gzip makes 1 GiB from 1 MiB; no image is this long


@dataclass(frozen=True, slots=True)
class ScratchEntry:
    """The place of one product.

    Attributes:
        scratch: an existing folder.
        stem: the same for all states of the source.
        name: the name for the source as it is now.
    """

    scratch: Path
    stem: str
    name: str

    @classmethod
    def of(cls, source: Path, scratch: Path, purpose: str) -> ScratchEntry:
        """Name what is made from `source` for `purpose`; raises MissingError or StorageError about the file."""
        with storage_errors(source, missing=True):
            state = source.stat()
        stem = f"made-{_hash(purpose, str(source.resolve()))}-"
        marks = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        return cls(scratch, stem, stem + _hash(*map(str, marks)))

    @property
    def path(self) -> Path:
        """Where the finished product is, if it is."""
        return self.scratch / self.name

    def make(self, work: Callable[[Path], None]) -> Path:
        """Return the product; `work` makes it at the path that it is given, when it is not there yet.

        Raises StorageError when the disk failed; nothing is left behind.
        """
        if self.path.exists():
            return self.path
        fresh = self.scratch / f".{secrets.token_hex(8)}.part"
        try:
            with storage_errors(self.scratch):
                work(fresh)
                try:
                    fresh.rename(self.path)
                except OSError:
                    if not self.path.exists():  # else another process made the same
                        raise
        finally:
            _remove(fresh)
        for old in self.scratch.glob(f"{self.stem}*"):
            if old != self.path:
                _remove(old)
        return self.path


def plain_tar(path: Path, scratch: Path | None, alive: Callable[[], None] = nothing) -> Path:
    """Return `path` itself, or what it holds when it is gzip-compressed (unpacked once, into `scratch`). Blocks.

    Raises:
        MissingError: there is no such file.
        UnsupportedError: compressed otherwise, or there is no scratch folder.
        ContentError: the compressed data is damaged.
        TooLargeError: it never ends.
        StorageError: the disk failed.
    """
    kind = compressed(LocalFile.of(path))
    if kind is None:
        return path
    if kind != "gzip" or scratch is None:
        raise UnsupportedError(f"{path}: compressed with {kind}; unpack it first and name the plain tar")

    def unpack(fresh: Path) -> None:
        with fresh.open("xb") as file:
            write_hashed(gunzip(LocalFile.of(path), alive), file)

    return ScratchEntry.of(path, scratch, "tar").make(unpack)


def gunzip(part: LocalFile, alive: Callable[[], None] = nothing) -> Iterator[bytes]:
    """Decompress gzip data of one or more members, in steps. Raises as `plain_tar`. Blocks."""
    try:
        for piece in gzip.gunzip(part.pieces(alive), UNPACKED):
            alive()
            yield piece
    except TooLargeError as error:
        raise TooLargeError(f"{part.path}: {error}") from error
    except ContentError as error:
        raise ContentError(f"{part.path}: damaged gzip data ({error}); copy it again") from error


def write_hashed(pieces: Iterator[bytes], file: IO[bytes]) -> tuple[Digest, int]:
    """Write all `pieces`; return the sha256 digest and the number of the bytes written."""
    hasher, size = hashlib.sha256(), 0
    for piece in pieces:
        hasher.update(piece)
        file.write(piece)
        size += len(piece)
    return Digest.parse(f"sha256:{hasher.hexdigest()}"), size


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
