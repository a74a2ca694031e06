"""Which of many commits hand files to Git LFS, by all `.gitattributes` in their trees (gitattributes(5)).

Trees are walked in the order of their commits' times, each as what it changes in the one before: the first costs a walk
over its folders, and every other one over those that differ.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mirrord.errors import ContentError
from mirrord.wire.git.command import Git
from mirrord.wire.git.refs import valid_oid
from mirrord.wire.number import whole

_LIMIT: Final = 64 << 20
_EMPTY: Final = {
    40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
"""The tree without entries, which git knows without having it; by the length of ids."""
_FILE: Final = re.compile(r":\d{6} (?P<mode>\d{6}) [0-9a-f]+ (?P<oid>[0-9a-f]+) [A-Z]\t(?P<path>.*)")


async def tracking(git: Git, folder: Path, tips: Collection[str]) -> frozenset[str]:
    """Return those tips in whose tree a `.gitattributes`, at the top or in any folder, hands files to LFS.

    Raises:
        MirrordError: the cache cannot be read.
    """
    trees = await _trees(git, folder, sorted(tips))
    if not trees:
        return frozenset()
    order = await _ordered(git, folder, trees)
    changes = await _changes(git, folder, order)
    blobs = {oid for change in changes for oid in change.values() if oid}
    using = await _using(git, folder, sorted(blobs))
    handing: set[str] = set()
    places: set[str] = set()  # paths of those files at the tree that is looked at
    for tree, change in zip(order, changes, strict=True):
        places.difference_update(change)
        places.update(path for path, oid in change.items() if oid in using)
        if places:
            handing.add(tree)
    return frozenset(tip for tip, tree in trees.items() if tree in handing)


async def _trees(git: Git, folder: Path, tips: Sequence[str]) -> Mapping[str, str]:
    """Return the trees of those tips that have one: files do not."""
    if not tips:
        return {}
    stdin = "".join(f"{tip}^{{tree}}\n" for tip in tips).encode()
    args = ["cat-file", "--batch-check=%(objectname)", "--buffer"]
    lines = (await git.run(args, folder=folder, stdin=stdin, limit=_LIMIT)).out.decode().splitlines()
    return {tip: line for tip, line in zip(tips, lines, strict=True) if valid_oid(line)}


async def _ordered(git: Git, folder: Path, trees: Mapping[str, str]) -> Sequence[str]:
    """Return each tree once, by the time of its commit; neighbours have most in common."""
    stdin = "".join(f"{tip}\n" for tip in trees).encode()
    args = ["rev-list", "--no-walk", "--no-commit-header", "--format=%T", "--stdin"]
    dated = (await git.run(args, folder=folder, stdin=stdin, limit=_LIMIT)).out.decode().split()
    return list(dict.fromkeys([*dated, *trees.values()]))  # a tag of a tree has no commit


async def _changes(git: Git, folder: Path, order: Sequence[str]) -> Sequence[Mapping[str, str]]:
    """Return for each tree what `.gitattributes` differ from the tree before: their blobs by path, "" for gone."""
    pairs = itertools.pairwise([_EMPTY[len(order[0])], *order])
    stdin = "".join(f"{before} {after}\n" for before, after in pairs).encode()
    # `:(glob)**/.gitattributes` says the same, and takes twice the time.
    args = ["diff-tree", "-r", "--no-renames", "--no-abbrev", "--stdin", "--", "*.gitattributes"]
    out = (await git.run(args, folder=folder, stdin=stdin, limit=_LIMIT)).out.decode("utf-8", "surrogateescape")
    return _read(out.split("\n"))


def _read(lines: Iterable[str]) -> Sequence[Mapping[str, str]]:
    """Read what `diff-tree --stdin` writes: a line for each pair, and below it one for each file that differs."""
    changes: list[dict[str, str]] = []
    for line in lines:
        file = _FILE.fullmatch(line)
        if file:
            if file["path"].rstrip('"').rpartition("/")[2] == ".gitattributes":
                changes[-1][file["path"]] = file["oid"] if file["mode"].startswith("100") else ""
        elif line:
            changes.append({})
    return changes


async def _using(git: Git, folder: Path, blobs: Sequence[str]) -> frozenset[str]:
    """Return those of some `.gitattributes` that say `filter=lfs`."""
    if not blobs:
        return frozenset()
    stdin = "".join(f"{blob}\n" for blob in blobs).encode()
    rest = (await git.run(["cat-file", "--batch"], folder=folder, stdin=stdin, limit=_LIMIT)).out
    using = set()
    for blob in blobs:
        header, _, rest = rest.partition(b"\n")
        size = whole(header.rpartition(b" ")[2].decode("ascii", "replace"))
        if size is None:  # `<id> missing`
            raise ContentError(f"the copy here lacks the object {blob}")
        if any(_says_lfs(line) for line in rest[:size].splitlines()):
            using.add(blob)
        rest = rest[size + 1 :]
    return frozenset(using)


def _says_lfs(line: bytes) -> bool:
    return b"filter=lfs" in line.split()[1:] and not line.lstrip().startswith(b"#")
