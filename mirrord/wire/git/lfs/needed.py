"""Which of many tips need which files: by what is in their trees, or anywhere in their history.

Asked only where objects did not come, so that nothing else has to wait for them.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from mirrord.wire.git.cache.bare import Bare, batch_check
from mirrord.wire.git.command import Git
from mirrord.wire.git.refs import valid_oid

_LIMIT: Final = 256 << 20
_MANY: Final = 10_000  # files that one process is asked for: their ids are arguments, which are 2 MB at most
_EMPTY: Final = {
    40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
"""The tree without entries, which git knows without having it; by the length of ids."""
_FILE: Final = re.compile(r":\d{6} \d{6} [0-9a-f]+ (?P<oid>[0-9a-f]+) [A-Z]\t(?P<path>.*)")


async def holding(git: Git, folder: Path, tips: Collection[str], blobs: Collection[str]) -> frozenset[str]:
    """Return those tips in whose tree one of these files is. Raises MirrordError: the cache cannot be read.

    Trees are walked in the order of their commits' times, each as what it changes in the one before: the first costs a
    walk over its folders, and every other one over those that differ.
    """
    if not tips or not blobs:
        return frozenset()
    lines = await batch_check(git, folder, [f"{tip}^{{tree}}" for tip in sorted(tips)])
    trees = {tip: line for tip, line in zip(sorted(tips), lines, strict=True) if valid_oid(line)}  # files have none
    if not trees:
        return frozenset()
    stdin = "".join(f"{tip}\n" for tip in trees).encode()
    args = ["rev-list", "--no-walk", "--no-commit-header", "--format=%T", "--stdin"]
    dated = (await git.run(args, folder=folder, stdin=stdin, limit=_LIMIT)).out.decode().split()
    order = list(dict.fromkeys([*dated, *trees.values()]))  # each once; a tag of a tree has no commit, and no time
    pairs = itertools.pairwise([_EMPTY[len(order[0])], *order])
    stdin = "".join(f"{before} {after}\n" for before, after in pairs).encode()
    found: set[str] = set()
    for some in _some(blobs):
        args = ["diff-tree", "-r", "--no-renames", "--no-abbrev", *_objects(some), "--stdin"]
        out = (await git.run(args, folder=folder, stdin=stdin, limit=_LIMIT)).out
        found |= await asyncio.to_thread(_holders, out, order, frozenset(some))
    return frozenset(tip for tip, tree in trees.items() if tree in found)


async def reaching(git: Git, folder: Path, tips: Collection[str], blobs: Collection[str]) -> frozenset[str]:
    """Return those tips in whose history, or whose tree, one of these files is. Raises as `holding`.

    A commit that adds or removes one has it, or a parent of it has; so do all that descend from that commit. Costs two
    walks over the history.
    """
    at_once = await holding(git, folder, tips, blobs)
    commits = {tip: commit for tip, commit in (await Bare(git, folder).commits(tips)).items() if commit}
    left = {tip: commit for tip, commit in commits.items() if tip not in at_once}
    if not left or not blobs:
        return at_once
    stdin = "".join(f"{commit}\n" for commit in sorted(set(left.values()))).encode()
    touching: set[bytes] = set()
    for some in _some(blobs):
        args = ["log", "--format=%H", "--no-patch", "--no-renames", "-m", *_objects(some), "--stdin"]
        touching |= set((await git.run(args, folder=folder, stdin=stdin, limit=_LIMIT)).out.split())
    if not touching:
        return at_once
    args = ["rev-list", "--topo-order", "--reverse", "--parents", "--stdin"]
    listing = (await git.run(args, folder=folder, stdin=stdin, limit=_LIMIT)).out
    behind = await asyncio.to_thread(_descending, listing, touching)
    return at_once | {tip for tip, commit in left.items() if commit.encode() in behind}


def _descending(listing: bytes, commits: set[bytes]) -> set[bytes]:
    """Return those commits, and all that descend from them; the listing has parents first."""
    found: set[bytes] = set()
    for line in listing.split(b"\n"):
        commit, *parents = line.split(b" ")
        if commit in commits or not found.isdisjoint(parents):
            found.add(commit)
    return found


def _some(blobs: Collection[str]) -> Iterator[Sequence[str]]:
    rest = iter(sorted(blobs))
    while some := list(itertools.islice(rest, _MANY)):
        yield some


def _objects(blobs: Iterable[str]) -> Iterator[str]:
    return (f"--find-object={blob}" for blob in blobs)


def _holders(out: bytes, order: Sequence[str], blobs: frozenset[str]) -> set[str]:
    found: set[str] = set()
    places: set[str] = set()  # paths of those files in the tree that is looked at
    changes: list[dict[str, str]] = []
    for line in out.decode("utf-8", "surrogateescape").split("\n"):  # one for each pair, then one for each file
        file = _FILE.fullmatch(line)
        if file:
            changes[-1][file["path"]] = file["oid"]
        elif line:
            changes.append({})
    for tree, change in zip(order, changes, strict=True):
        places.difference_update(change)
        places.update(path for path, oid in change.items() if oid in blobs)
        if places:
            found.add(tree)
    return found
