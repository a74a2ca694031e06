"""Reads single files out of a bare repository: what a path of a URL names, and its bytes.

One git process for each question. Names from outside reach it on its standard input, never as arguments.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirrord.errors import MissingError, TooLargeError
from mirrord.wire.git.command import OUTPUT, Git
from mirrord.wire.git.refs import HEADS, TAGS, valid_oid, valid_ref

LINK: Final = "120000"
SUBMODULE: Final = "160000"
TREE: Final = "40000"
_DEEPEST: Final = 64  # segments that the name of a branch may have; each is asked for
_KINDS: Final = {TREE: "tree", SUBMODULE: "commit"}
_LARGEST_FOLDER: Final = 16 * 2**20  # bytes of a tree object: some 300 000 files
_TREE: Final = re.compile(rb"[0-9a-f]+ tree (\d+)\n")
_BLOB: Final = re.compile(rb"\n[0-9a-f]+ blob (\d+)\n")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a path stands for.

    Attributes:
        mode: six octal digits, as git writes them.
        kind: `blob`, `tree` or `commit` (a submodule).
        oid: of the object.
        size: bytes of a blob, 0 for others.
    """

    mode: str
    kind: str
    oid: str
    size: int


class History:
    """Reads what a cache serves."""

    def __init__(self, git: Git, folder: Path) -> None:
        """Read the bare repository in `folder`."""
        self._git, self._folder = git, folder

    async def resolve(self, segments: Sequence[str]) -> tuple[str, str]:
        """Find the commit that the beginning of a path names; return it and the rest of the path.

        Branches and tags may hold slashes: the longest one that exists wins, a branch before a tag, as people mean
        them in URLs of `raw` files. A full name (`refs/heads/main`) always means itself, also where a branch is called
        so (gitrevisions(7) has the same order). Then `HEAD`, and full commit ids that a branch or a tag contains.

        Raises:
            MissingError: nothing here is called so.
        """
        names = ["/".join(segments[:count]) for count in range(min(len(segments) - 1, _DEEPEST), 0, -1)]
        asked = [(name, name) for name in names if name.startswith((HEADS, TAGS)) and valid_ref(name)]
        asked += [(ref, name) for name in names for ref in (f"{HEADS}{name}", f"{TAGS}{name}") if valid_ref(ref)]
        if segments and segments[0] == "HEAD":
            asked.append(("HEAD", "HEAD"))
        commit = segments[0] if len(segments) > 1 and valid_oid(segments[0]) else ""
        stdin = "".join(f"{ref}^{{commit}}\n" for ref, _ in [*asked, *([(commit, commit)] if commit else [])])
        lines = (await self._asked("--batch-check=%(objectname)", stdin)).decode("utf-8", "replace").split("\n")
        for line, (_, name) in zip(lines, asked, strict=False):
            if valid_oid(line):
                return line, "/".join(segments[name.count("/") + 1 :])
        if commit and lines[len(asked)] == commit and await self._contained(commit):
            return commit, "/".join(segments[1:])
        raise MissingError("no branch, tag or commit of that name")

    async def _contained(self, commit: str) -> bool:
        """Whether a branch or tag contains a commit: what only a backup holds is not shown.

        It is when nothing of it is left without what they contain. (`for-each-ref --contains` walks for each ref: 11 s
        for 3 200 tags of 200 000 commits.)
        """
        args = ["rev-list", "--max-count=1", "--stdin", "--not", "--branches", "--tags"]
        return not (await self._git.run(args, folder=self._folder, stdin=f"{commit}\n".encode())).out

    async def entry(self, commit: str, path: str) -> Entry:
        """Find out what a path is in a commit; links and submodules are told, and not followed.

        Raises:
            MissingError: there is no such path.
        """
        folder, _, name = path.strip("/").rpartition("/")
        parts = path.strip("/").split("/")
        if not valid_oid(commit) or "\n" in path or not {"", ".", ".."}.isdisjoint(parts):
            raise MissingError("no such file in that commit")
        asked = f"contents {commit}:{folder}\ninfo {commit}:{path.strip('/')}\n"
        try:
            out = await self._asked("--batch-command", asked, _LARGEST_FOLDER)
        except TooLargeError as error:  # most likely a big file that the path treats as a folder
            raise MissingError("no such file in that commit") from error
        folder_told = _TREE.match(out)
        if not folder_told:
            raise MissingError("no such file in that commit")
        end = folder_told.end() + int(folder_told[1])
        mode, oid = _found(out[folder_told.end() : end], name.encode("utf-8", "surrogateescape"), len(commit) // 2)
        file_told = _BLOB.match(out, end)
        return Entry(mode.zfill(6), _KINDS.get(mode, "blob"), oid, int(file_told[1]) if file_told else 0)

    async def blob(self, oid: str, limit: int) -> bytes:
        """Return the bytes of a blob of at most `limit` bytes.

        Raises:
            MissingError: `oid` is no object id.
            TooLargeError: it is longer.
        """
        if not valid_oid(oid):
            raise MissingError("no such object")
        return (await self._git.run(["cat-file", "blob", oid], folder=self._folder, limit=limit)).out

    async def _asked(self, form: str, stdin: str, limit: int = OUTPUT) -> bytes:
        if not stdin:
            return b""
        data = stdin.encode("utf-8", "surrogateescape")
        return (await self._git.run(["cat-file", form], folder=self._folder, stdin=data, limit=limit)).out


def _found(tree: bytes, name: bytes, width: int) -> tuple[str, str]:
    """Find a name in a tree object, which is a row of `<mode> <name>`, a zero byte and `width` bytes of object id.

    Raises:
        MissingError: it is not there.
    """
    place = 0
    while place < len(tree):
        end = tree.index(b"\0", place)
        mode, _, found = tree[place:end].partition(b" ")
        place = end + 1 + width
        if found == name:
            return mode.decode(), tree[end + 1 : place].hex()
    raise MissingError("no such file in that commit")
