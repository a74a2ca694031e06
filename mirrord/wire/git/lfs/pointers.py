"""Finds the pointers of Git LFS in a history: all of it, as `git lfs fetch --all` does, or what is new since last time.

A pointer is a small file with a fixed form (git-lfs, docs/spec.md). It counts where any `.gitattributes` in the history
hands files to LFS: others are examples in somebody's documentation.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Sequence
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
        text = f"more than {_LIST // 41} small files: too many to look for LFS pointers; set `lfs: false`"
        raise UnsupportedError(f"{folder.name}: its history has {text}") from error
    found: set[Pointer] = set()
    blobs = iter(await asyncio.to_thread(listed.split))
    while some := list(islice(blobs, _AT_ONCE)):
        found |= await _pointers(git, folder, some)
    return frozenset(found)


def _range(tips: Collection[str], without: Collection[str]) -> bytes:
    return "".join([*(f"{tip}\n" for tip in sorted(tips)), *(f"^{tip}\n" for tip in sorted(without))]).encode()


async def _pointers(git: Git, folder: Path, blobs: Sequence[bytes]) -> frozenset[Pointer]:
    args = ["cat-file", "--batch-check=%(objectname) %(objectsize)", "--buffer"]
    sizes = (await git.run(args, folder=folder, stdin=b"\n".join(blobs) + b"\n", limit=_OUTPUT)).out
    fitting = await asyncio.to_thread(_fitting, sizes)
    if not fitting:
        return frozenset()
    out = (await git.run(["cat-file", "--batch"], folder=folder, stdin=b"\n".join(fitting) + b"\n", limit=_OUTPUT)).out
    return await asyncio.to_thread(lambda: frozenset(filter(None, (read(data, blob) for blob, data in contents(out)))))


def _fitting(sizes: bytes) -> Sequence[bytes]:
    found = (line.partition(b" ") for line in sizes.split(b"\n"))
    sized = ((blob, whole(text.decode("ascii", "replace"))) for blob, _, text in found)
    return [blob for blob, size in sized if size is not None and _SHORTEST <= size <= LONGEST]


def contents(out: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield id and bytes of each object in what `git cat-file --batch` writes; what is missing is left out."""
    place = 0
    while place < len(out):
        end = out.index(b"\n", place)
        blob, *_, text = out[place:end].decode("ascii", "replace").split(" ")
        size, place = whole(text), end + 1
        if size is not None:
            yield blob, out[place : place + size]
            place += size + 1


async def in_use(git: Git, folder: Path, tips: Collection[str], without: Collection[str] = ()) -> bool:
    """Whether a `.gitattributes` in the history of `tips`, and not in that of `without`, hands files to LFS.

    Walks over the history (once, where the caller remembers the answer). Raises MirrordError: the cache cannot be read.
    """
    args = ["log", "--format=", "--raw", "--no-abbrev", "--no-renames", "--full-history", "-m", "--ignore-missing"]
    # `:(glob)**/.gitattributes` says the same, and takes twice the time.
    args += ["--stdin", "--", "*.gitattributes"]
    out = (await git.run(args, folder=folder, stdin=_range(tips, without), limit=_LIST)).out
    blobs = await asyncio.to_thread(_attributes, out)
    if not blobs:
        return False
    asked = "".join(f"{blob}\n" for blob in sorted(blobs)).encode()
    files = (await git.run(["cat-file", "--batch"], folder=folder, stdin=asked, limit=_LIST)).out
    return await asyncio.to_thread(_says_lfs, files)


def _attributes(out: bytes) -> frozenset[str]:
    """Return the ids of files called `.gitattributes` in what `git log --raw` writes."""
    files = filter(None, map(_FILE.fullmatch, out.decode("utf-8", "surrogateescape").split("\n")))
    called = ((file, file["path"].rstrip('"').rpartition("/")[2]) for file in files if file["mode"].startswith("100"))
    return frozenset(file["oid"] for file, name in called if name == ".gitattributes")


def _says_lfs(files: bytes) -> bool:
    lines = (line for _, data in contents(files) for line in data.splitlines())
    return any(b"filter=lfs" in line.split()[1:] and not line.lstrip().startswith(b"#") for line in lines)
