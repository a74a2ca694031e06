"""Finds the pointers of Git LFS in a history: all of it, as `git lfs fetch --all` does, or what is new since last time.

A pointer is a small file with a fixed form (git-lfs, docs/spec.md). It counts where any `.gitattributes` in the history
hands files to LFS: others are examples in somebody's documentation.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from mirrord.errors import TooLargeError, UnsupportedError
from mirrord.wire.git.command import Git
from mirrord.wire.git.lfs.objects import Pointer
from mirrord.wire.number import whole

LONGEST: Final = 1024
"""Bytes of a file in which git-lfs looks for a pointer."""
_SHORTEST: Final = 120  # bytes of the shortest pointer, rounded down
_LIST: Final = 512 << 20  # bytes of the list of small files: more than eight million
_AT_ONCE: Final = 20_000  # files that are read by one process: at most 20 MB
_OUTPUT: Final = 64 << 20
_POINTER: Final = re.compile(
    rb"version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/v1\n"
    rb"(?:ext-[0-9]-[^\n]*\n)*oid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>[0-9]{1,18})\n?"
)
_FILE: Final = re.compile(r":\d{6} (?P<mode>\d{6}) [0-9a-f]+ (?P<oid>[0-9a-f]+) [A-Z]\t(?P<path>.*)")
_SMALL: Final = ("rev-list", "--objects", "--no-object-names", "--ignore-missing", "--filter=object:type=blob")


def read(data: bytes, blob: str = "") -> Pointer | None:
    """Return what a file points to, or None when it is no pointer."""
    found = _POINTER.fullmatch(data) if _SHORTEST <= len(data) <= LONGEST else None
    return Pointer(found["oid"].decode(), int(found["size"]), blob) if found else None


async def search(git: Git, folder: Path, tips: Collection[str], without: Collection[str] = ()) -> frozenset[Pointer]:
    """Return the pointers in the history of `tips` that are not in that of `without`.

    Costs one process where there are no small files, as between most commits, and few otherwise.

    Raises:
        UnsupportedError: the history has too many small files to be looked at.
        MirrordError: the cache cannot be read.
    """
    args = [*_SMALL, f"--filter=blob:limit={LONGEST + 1}", "--filter-provided-objects", "--stdin"]
    try:
        listed = (await git.run(args, folder=folder, stdin=_range(tips, without), limit=_LIST)).out
    except TooLargeError as error:
        told = f"more than {_LIST // 41} small files: too many to look for LFS pointers; set `lfs: false`"
        raise UnsupportedError(f"{folder.name}: its history has {told}") from error
    found: set[Pointer] = set()
    blobs = iter(listed.split())
    while some := list(islice(blobs, _AT_ONCE)):
        found |= await _pointers(git, folder, some)
    return frozenset(found)


def _range(tips: Collection[str], without: Collection[str]) -> bytes:
    return "".join([*(f"{tip}\n" for tip in sorted(tips)), *(f"^{tip}\n" for tip in sorted(without))]).encode()


async def _pointers(git: Git, folder: Path, blobs: Sequence[bytes]) -> frozenset[Pointer]:
    args = ["cat-file", "--batch-check=%(objectname) %(objectsize)", "--buffer"]
    sizes = (await git.run(args, folder=folder, stdin=b"\n".join(blobs) + b"\n", limit=_OUTPUT)).out
    fitting = [blob for blob, size in _sizes(sizes.split(b"\n")) if _SHORTEST <= size <= LONGEST]
    if not fitting:
        return frozenset()
    out = (await git.run(["cat-file", "--batch"], folder=folder, stdin=b"\n".join(fitting) + b"\n", limit=_OUTPUT)).out
    return frozenset(filter(None, (read(data, blob) for blob, data in contents(out))))


def _sizes(lines: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    for line in lines:
        blob, _, told = line.partition(b" ")
        size = whole(told.decode("ascii", "replace"))
        if size is not None:
            yield blob, size


def contents(out: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield id and bytes of each object in what `git cat-file --batch` writes; what is missing is left out."""
    place = 0
    while place < len(out):
        end = out.index(b"\n", place)
        blob, *_, told = out[place:end].decode("ascii", "replace").split(" ")
        size, place = whole(told), end + 1
        if size is not None:
            yield blob, out[place : place + size]
            place += size + 1


async def in_use(git: Git, folder: Path, tips: Collection[str], without: Collection[str] = ()) -> bool:
    """Whether a `.gitattributes` in the history of `tips`, and not in that of `without`, hands files to LFS.

    Walks over the history (once, where the caller remembers the answer).

    Raises:
        MirrordError: the cache cannot be read.
    """
    args = ["log", "--format=", "--raw", "--no-abbrev", "--no-renames", "--full-history", "-m", "--ignore-missing"]
    # `:(glob)**/.gitattributes` says the same, and takes twice the time.
    args += ["--stdin", "--", "*.gitattributes"]
    out = (await git.run(args, folder=folder, stdin=_range(tips, without), limit=_LIST)).out
    blobs = set(_attributes(out.decode("utf-8", "surrogateescape").split("\n")))
    if not blobs:
        return False
    asked = "".join(f"{blob}\n" for blob in sorted(blobs)).encode()
    files = (await git.run(["cat-file", "--batch"], folder=folder, stdin=asked, limit=_LIST)).out
    return any(_says_lfs(line) for _, data in contents(files) for line in data.splitlines())


def _attributes(lines: Iterable[str]) -> Iterator[str]:
    """Yield the ids of files called `.gitattributes` in what `git log --raw` writes."""
    for line in lines:
        file = _FILE.fullmatch(line)
        if file and file["mode"].startswith("100") and file["path"].rstrip('"').rpartition("/")[2] == ".gitattributes":
            yield file["oid"]


def _says_lfs(line: bytes) -> bool:
    return b"filter=lfs" in line.split()[1:] and not line.lstrip().startswith(b"#")
