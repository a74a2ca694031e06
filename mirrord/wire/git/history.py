"""Reads single files out of a bare repository: what a path of a URL names, and its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirrord.errors import MissingError
from mirrord.wire.git.command import Git
from mirrord.wire.git.refs import HEADS, TAGS, valid_oid, valid_ref

LINK: Final = "120000"
SUBMODULE: Final = "160000"


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
        them in URLs of `raw` files. Then `HEAD`, and full commit ids that a branch or a tag contains.

        Raises:
            MissingError: nothing here is called so.
        """
        names = ["/".join(segments[:count]) for count in range(len(segments) - 1, 0, -1)]
        refs = [(f"{space}{name}", name) for name in names for space in (HEADS, TAGS)]
        asked = [(ref, name) for ref, name in refs if valid_ref(ref)]
        if segments and segments[0] == "HEAD":
            asked.append(("HEAD", "HEAD"))
        stdin = "".join(f"{ref}^{{commit}}\n" for ref, _ in asked).encode("utf-8", "surrogateescape")
        args = ["cat-file", "--batch-check=%(objectname)"]
        out = (
            (await self._git.run(args, folder=self._folder, stdin=stdin)).out.decode("utf-8", "replace")
            if asked
            else ""
        )
        for line, (_, name) in zip(out.splitlines(), asked, strict=False):
            if valid_oid(line):
                return line, "/".join(segments[name.count("/") + 1 :])
        if len(segments) > 1 and valid_oid(segments[0]) and await self._contained(segments[0]):
            return segments[0], "/".join(segments[1:])
        raise MissingError("no branch, tag or commit of that name")

    async def _contained(self, oid: str) -> bool:
        """Whether a branch or tag contains a commit: what only a backup holds is not shown."""
        args = ["for-each-ref", "--count=1", f"--contains={oid}", HEADS, TAGS]
        output = await self._git.run(args, folder=self._folder, ok=(0, 1, 128, 129))
        return bool(output.out) and not output.status

    async def entry(self, commit: str, path: str) -> Entry:
        """Find out what a path is in a commit; links and submodules are told, and not followed.

        Raises:
            MissingError: there is no such path.
        """
        args = ["--literal-pathspecs", "ls-tree", "-z", "-l", "--full-tree", commit, "--", path.strip("/")]
        out = (await self._git.run(args, folder=self._folder)).out.decode("utf-8", "surrogateescape")
        for line in filter(None, out.split("\0")):
            facts, _, name = line.partition("\t")
            if name == path.strip("/"):
                mode, kind, oid, size = facts.split()
                return Entry(mode, kind, oid, int(size) if size.isdigit() else 0)
        raise MissingError("no such file in that commit")

    async def blob(self, oid: str, limit: int) -> bytes:
        """Return the bytes of a blob of at most `limit` bytes.

        Raises:
            TooLargeError: it is longer.
        """
        return (await self._git.run(["cat-file", "blob", oid], folder=self._folder, limit=limit)).out
