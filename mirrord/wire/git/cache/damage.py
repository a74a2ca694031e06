"""Tells whether a repository is whole, and rebuilds a damaged one.

Every object is read, which is the only way to find a bit that flipped in a pack. A rebuilt repository gets all from
upstream, and the rest from the damaged one as far as it is whole.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Final

from mirrord.errors import ContentError, MirrordError, StorageError, UnsupportedError
from mirrord.wire.git.cache.bare import HISTORIC, INCOMING, Bare
from mirrord.wire.git.cache.repair import again, disk, swap
from mirrord.wire.git.command import Git
from mirrord.wire.git.refs import HEADS

_IGNORED: Final = {f"fsck.{name}": "ignore" for name in HISTORIC}
# Exit status of git-fsck: a sum of 1 bad object, 2 missing object, 4 bad pack, 8 bad ref (and 16 commit-graph, 32
# multi-pack-index, which hold nothing of their own and go with the next repack).
_OBJECT, _MISSING, _PACK, _REF, _BEYOND = 1, 2, 4, 8, 64
_FATAL: Final = 128  # so damaged that it could not go on
# `error in commit 1234: badDate: …` is about content, which is as upstream wrote it.
_BROKEN: Final = re.compile(r"^(?:error|fatal): .*", re.MULTILINE)


def doubtful(error: MirrordError) -> bool:
    """Whether a failure may come from damaged objects of ours: git's words do not tell ours from those of upstream."""
    if isinstance(error, UnsupportedError):  # upstream's content is whole, and not carried
        return False
    return isinstance(error, ContentError | StorageError) or type(error) is MirrordError  # `failures` has no row for it


async def damage(git: Git, folder: Path) -> str:
    """Look at every object (43 MB: 14 s); return, in git's words, what is damaged, or "". Raises MirrordError."""
    args = ["fsck", "--full", "--no-dangling", "--no-reflogs", "--no-progress"]
    output = await git.run(args, folder=folder, ok=(*range(_BEYOND), _FATAL), config=_IGNORED)
    status, found = output.status, _BROKEN.search(output.err)
    if not (status & (_MISSING | _PACK | _REF) or status == _FATAL or (status & _OBJECT and found)):
        return ""
    first = found[0] if found else output.out.decode("utf-8", "replace").partition("\n")[0]
    return " ".join(first.split())[:300] or f"git fsck ended with status {status}"


async def reclone(git: Git, old: Bare, fill: Callable[[Bare], Awaitable[None]]) -> None:
    """Put a new repository in the place of `old`: `fill` brings upstream's refs, all others are carried over.

    Only refs whose objects are nowhere any more are dropped. The damaged repository stays as it is
    until the new one is complete.

    Raises:
        ContentError: the default branch cannot be carried over: upstream lost its history, at the same time.
        MirrordError: upstream cannot be had.
    """
    fresh = Bare(git, again(old.folder))
    try:
        await asyncio.to_thread(shutil.rmtree, fresh.folder, ignore_errors=True)
        await fresh.prepare()
        await fill(fresh)
        await _carry_over(git, old, fresh)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, fresh.folder, ignore_errors=True)
        raise
    await asyncio.to_thread(swap, fresh.folder, old.folder)


async def _carry_over(git: Git, old: Bare, fresh: Bare) -> None:
    try:
        refs, head = await old.refs(), await old.head()
    except MirrordError:
        refs, head = {}, f"{HEADS}main"
    kept = {name: oid for name, oid in refs.items() if not name.startswith(INCOMING)}
    there = set(await fresh.commits(kept.values()))
    gone = sorted(set(kept.values()) - there)  # upstream has them no more: all at once, or else each that is whole
    if gone and not await _taken(git, old.folder, fresh, gone):
        gone = [oid for oid in gone if await _taken(git, old.folder, fresh, [oid])]
    there |= set(gone)
    if kept.get(head, "") not in {*there, ""}:
        raise ContentError(
            f"{old.folder} is damaged, and upstream no longer has what was served as {head}; to start again with what "
            "upstream has now, remove that folder"
        )
    await fresh.update({name: oid for name, oid in kept.items() if oid in there})
    await fresh.point(head)


async def _taken(git: Git, damaged: Path, fresh: Bare, oids: Collection[str]) -> bool:
    """Write one pack with what `oids` need and the new repository lacks; git checks each object that it copies."""
    bases = frozenset((await fresh.refs()).values())
    stdin = "".join([*(f"{oid}\n" for oid in sorted(oids)), *(f"^{oid}\n" for oid in sorted(bases))]).encode()
    alternates = fresh.folder / "objects" / "info" / "alternates"
    await asyncio.to_thread(_lend, alternates, damaged / "objects")
    try:
        args = ["pack-objects", "--quiet", "--revs", "--non-empty", str(fresh.folder / "objects" / "pack" / "pack")]
        return (await git.run(args, folder=fresh.folder, stdin=stdin, ok=(0, 128))).status == 0
    finally:
        await asyncio.to_thread(alternates.unlink, missing_ok=True)


def _lend(alternates: Path, objects: Path) -> None:
    with disk(alternates):
        alternates.parent.mkdir(exist_ok=True)
        alternates.write_text(f"{objects.absolute()}\n")
