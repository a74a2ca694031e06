"""Reads single files out of a bare repository: what a path of a URL names, and its bytes.

Names from outside reach git on its standard input, never as arguments.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirrord.errors import MissingError, TooLargeError
from mirrord.wire.git.command import Git
from mirrord.wire.git.refs import HEADS, TAGS, valid_oid, valid_ref

LINK: Final = "120000"
SUBMODULE: Final = "160000"
_DEEPEST: Final = 64  # segments that the name of a branch may have; each is asked for
_KINDS: Final = {b"40000": "tree", SUBMODULE.encode(): "commit"}
_LARGEST_FOLDER: Final = 16 * 2**20  # bytes of a tree object: some 300 000 files
_INFO: Final = re.compile(rb"([0-9a-f]{40,64}) ([a-z]+) ([0-9]+)")


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """What a path stands for."""

    mode: str  # six octal digits, as git writes them
    kind: str  # `blob`, `tree` or `commit` (a submodule)
    oid: str  # of the object
    size: int  # bytes of a blob, 0 for others


@dataclass(frozen=True, slots=True)
class TreePath:
    """What the path of a URL stands for."""

    commit: str  # that its beginning names
    path: str  # what follows that
    entry: TreeEntry  # links and submodules are returned as such, not followed


class History:
    """Reads what a cache serves.

    Attributes:
        folder: where it is.
    """

    def __init__(
        self, git: Git, folder: Path, walk: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    ) -> None:
        """Read the bare repository in `folder`; what walks over its history does so inside of `walk`."""
        self._git, self.folder, self._walk = git, folder, walk

    async def find(self, segments: Sequence[str]) -> TreePath:
        """Find the commit that the beginning of a path names, and in it what the rest does. One process.

        Branches and tags may hold slashes: the longest one that exists wins, a branch before a tag, as people mean
        them in URLs of `raw` files. A full name (`refs/heads/main`) always means itself, also where a branch is called
        so (gitrevisions(7) has the same order). Then `HEAD`, and full commit ids that a branch or a tag contains, which
        costs another process.

        Raises:
            MissingError: nothing here is called so.
            MirrordError: the repository cannot be read.
        """
        whole = "/".join(segments)
        if "\n" in whole or not {"", ".", ".."}.isdisjoint(whole.split("/")):  # git is asked line by line
            raise MissingError("no such file in that commit")
        asked = [(revision, "/".join(segments[used:])) for revision, used in _named(segments)]
        stdin = "".join(
            f"info {revision}^{{commit}}\ncontents {revision}:{path.rpartition('/')[0]}\ninfo {revision}:{path}\n"
            for revision, path in asked
        )
        args, data = ["cat-file", "--batch-command"], stdin.encode("utf-8", "surrogateescape")
        try:
            output = await self._git.run(args, folder=self.folder, stdin=data, limit=_LARGEST_FOLDER) if asked else None
        except TooLargeError as error:  # most likely a big file that the path treats as a folder
            raise MissingError("no such file in that commit") from error
        answers = _Answers(output.out if output else b"")
        for revision, path in asked:
            commit, folder, file = answers.info(), answers.contents(), answers.info()
            if commit is None:
                continue
            oid = commit[1].decode()
            if valid_oid(revision) and not (oid == revision and await self._contained(oid)):
                break
            # A folder of a hundred thousand files takes its time.
            return TreePath(oid, path, await asyncio.to_thread(_entry, path, folder, file, len(oid) // 2))
        raise MissingError("no branch, tag or commit of that name")

    async def _contained(self, commit: str) -> bool:
        """Whether a branch or tag contains a commit: what only a backup holds is not shown.

        It is when nothing of it is left without what they contain. (`for-each-ref --contains` walks for each ref: 11 s
        for 3 200 tags of 200 000 commits.)
        """
        args = ["rev-list", "--max-count=1", "--stdin", "--not", "--branches", "--tags"]
        async with self._walk():
            return not (await self._git.run(args, folder=self.folder, stdin=f"{commit}\n".encode())).out

    async def blob(self, oid: str, limit: int) -> bytes:
        """Return a blob's bytes. Raises MissingError: `oid` is no object id; TooLargeError: they are over `limit`."""
        if not valid_oid(oid):
            raise MissingError("no such object")
        return (await self._git.run(["cat-file", "blob", oid], folder=self.folder, limit=limit)).out


class _Answers:
    """Reads what `git cat-file --batch-command` wrote, answer by answer."""

    def __init__(self, out: bytes) -> None:
        self._out, self._at = out, 0

    def info(self) -> re.Match[bytes] | None:
        """Read id, kind and size, or None where there is nothing."""
        end = self._out.index(b"\n", self._at)
        line, self._at = self._out[self._at : end], end + 1
        return _INFO.fullmatch(line)

    def contents(self) -> tuple[bytes, bytes]:
        """Read kind and content, or two times nothing."""
        found = self.info()
        if found is None:
            return b"", b""
        start, self._at = self._at, self._at + int(found[3]) + 1
        return found[2], self._out[start : self._at - 1]


def _named(segments: Sequence[str]) -> list[tuple[str, int]]:
    """Return what the beginning of a path may name, the likeliest first, each with how many segments that takes."""
    names = [("/".join(segments[:count]), count) for count in range(min(len(segments) - 1, _DEEPEST), 0, -1)]
    asked = [(name, count) for name, count in names if name.startswith((HEADS, TAGS)) and valid_ref(name)]
    for name, count in names:
        asked += [(ref, count) for ref in (f"{HEADS}{name}", f"{TAGS}{name}") if valid_ref(ref)]
    if len(segments) > 1 and (segments[0] == "HEAD" or valid_oid(segments[0])):
        asked.append((segments[0], 1))
    return asked


def _entry(path: str, folder: tuple[bytes, bytes], file: re.Match[bytes] | None, width: int) -> TreeEntry:
    """Return what a path is: mode and id as its folder has them, the size of a blob as git says.

    A folder is a row of `<mode> <name>`, a zero byte and `width` bytes of object id.

    Raises:
        MissingError: it is not there.
    """
    kind, tree = folder
    name = path.rpartition("/")[2].encode("utf-8", "surrogateescape")
    place = 0 if kind == b"tree" else len(tree)
    while place < len(tree):
        end = tree.index(b"\0", place)
        mode, _, found = tree[place:end].partition(b" ")
        place = end + 1 + width
        if found == name:
            size = int(file[3]) if file is not None and file[2] == b"blob" else 0
            return TreeEntry(mode.decode().zfill(6), _KINDS.get(mode, "blob"), tree[end + 1 : place].hex(), size)
    raise MissingError("no such file in that commit")
