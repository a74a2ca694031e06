"""Tar archives read in place: the members are indexed once, nothing is extracted.

Nobody vouches for a tar, so the index refuses whatever could mean two things or point elsewhere:
absolute names, `..`, hard links, devices, sparse members, a name twice, headers that are damaged
or endless (CVE-2025-8194, CVE-2024-6232 are about `tarfile` and such headers), data that is cut off.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mirrord.errors import ContentError, MissingError, TooLargeError
from mirrord.files import LocalFile, open_content, storage_errors

MEMBERS = 100_000  # an image has hundreds
_HEADER = 64 * 1024  # longest extended header that is read
_BLOCK = 512
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2"}


@dataclass(frozen=True, slots=True)
class Tarball:
    """What a tar holds, by name.

    Attributes:
        path: the tar.
        files: its regular files.
        links: its symbolic links: name → name of the member that is meant.
    """

    path: Path
    files: Mapping[str, LocalFile] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> LocalFile | None:
        """Return a member; a symbolic link is followed once, inside the archive only."""
        plain = _plain(name, self.path)
        return self.files.get(plain) or self.files.get(self.links.get(plain, ""))

    def get(self, name: str) -> LocalFile:
        """Return a member; raises MissingError without it."""
        found = self.find(name)
        if found is None:
            raise MissingError(f"{self.path}: holds no {name!r}; it is incomplete, write it again")
        return found


def compressed(part: LocalFile) -> str | None:
    """Return how these bytes are compressed (`gzip`, `zstd`, `xz`, `bzip2`), judged by their first ones, or None."""
    head = LocalFile(part.path, part.offset, min(part.size, 8)).load(8)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def index_tar(path: Path, *, links: bool) -> Tarball:
    """Read all headers of an uncompressed tar. Blocks.

    Args:
        path: the tar.
        links: whether symbolic links that stay inside are let in (`docker save` writes them).

    Raises:
        MissingError: there is no such file.
        ContentError: not a tar, or one that is damaged or not safe; names the member.
        TooLargeError: a header or the number of members is above its limit.
        StorageError: it cannot be read.
    """
    with os.fdopen(open_content(path), "rb") as file, storage_errors(path):
        try:
            return _index(path, file, links=links)
        # tarfile answers a malformed number with ValueError and chained headers with deep recursion
        except (tarfile.TarError, ValueError, RecursionError, EOFError) as error:
            raise ContentError(f"{path}: not a tar archive, or a damaged one ({error})") from error


def _index(path: Path, file: BinaryIO, *, links: bool) -> Tarball:
    size = os.fstat(file.fileno()).st_size
    tar = tarfile.TarFile(fileobj=_Meagre(file, path), mode="r")  # type: ignore[arg-type]  # the part of IO it uses
    files: dict[str, LocalFile] = {}
    symbolic: dict[str, str] = {}
    end = count = 0
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all; typeshed does not list it
        count += 1
        if count > MEMBERS:
            raise TooLargeError(f"{path}: more than {MEMBERS} members")
        if member.size < 0 or member.offset_data <= end or member.offset_data + member.size > size:
            raise ContentError(f"{path}: {member.name!r} is cut off, or its header lies about its size")
        end = member.offset_data
        _file(path, member, files, symbolic, links=links)
    # A damaged header in the middle: tarfile takes it for the end and would hide the rest.
    file.seek(tar.offset)
    if file.read(_BLOCK).strip(b"\0"):
        raise ContentError(f"{path}: a damaged header at byte {tar.offset}; copy the archive again")
    return Tarball(path, files, symbolic)


def _file(
    path: Path, member: tarfile.TarInfo, files: dict[str, LocalFile], symbolic: dict[str, str], *, links: bool
) -> None:
    """Index one member, or refuse it."""
    name = _plain(member.name, path)
    if member.isdir():
        return
    if name in files or name in symbolic:
        raise ContentError(f"{path}: refused: it holds {name!r} twice; readers take different ones")
    if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse():
        files[name] = LocalFile(path, member.offset_data, member.size)
    elif member.issym() and links:
        if member.linkname.startswith("/"):
            raise ContentError(f"{path}: refused: the link {name!r} points out of the archive")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        symbolic[name] = _plain(target, path)
    else:
        raise ContentError(
            f"{path}: refused: {name!r} is a link, a device or sparse; only regular files belong in here"
        )


def _plain(name: str, path: Path) -> str:
    """Return the name without `.` and empty parts; refuse what is absolute, upwards, or has a NUL."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise ContentError(f"{path}: refused: the name {name[:200]!r} points out of the archive")
    return "/".join(parts)


class _Meagre:
    """A file that hands out only what a header needs: a lying header cannot make us read gigabytes."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self.name = str(path)
        self.mode = "rb"

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= _HEADER:
            raise TooLargeError(f"{self._path}: a header of {count} bytes; at most {_HEADER} are read")
        return self._file.read(count)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
