"""The bare repository in which mirrord keeps its copy of an upstream.

Three namespaces: `refs/heads` and `refs/tags` are what was accepted, what is served and what is pushed;
`refs/mirrord/incoming` is what upstream had when it was last fetched; `refs/mirrord/backup` and `refs/mirrord/held`
keep what was overwritten or deleted. Nothing under `refs/mirrord` is ever shown to a client or pushed. One task at a
time writes (`Cache.lock`); the lock of the state directory keeps other processes away.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mirrord import failpoints
from mirrord.errors import ContentError, MirrordError
from mirrord.wire.git.address import Address
from mirrord.wire.git.command import Git
from mirrord.wire.git.refs import HEADS, TAGS, Refs, Relation
from mirrord.wire.git.repair import CONFIG, repair, size

OURS: Final = "refs/mirrord/"
INCOMING: Final = "refs/mirrord/incoming/"
BACKUP: Final = "refs/mirrord/backup/"
HELD: Final = "refs/mirrord/held/"
STAMP: Final = "%Y%m%dT%H%M%SZ"

_REFSPECS = (f"+{HEADS}*:{INCOMING}heads/*", f"+{TAGS}*:{INCOMING}tags/*")
_FETCH = ("fetch", "--quiet", "--prune", "--no-tags", "--force", "--no-write-fetch-head", "--no-auto-maintenance")
_AT_ONCE = 8
# What old histories hold and nobody can put right any more; everything else that fsck finds is refused.
_HISTORIC = (
    *("badDate", "badDateOverflow", "badEmail", "badFilemode", "badName", "badTimezone", "duplicateEntries"),
    *("emptyName", "fullPathname", "missingEmail", "missingNameBeforeEmail", "missingSpaceBeforeDate"),
    *("missingSpaceBeforeEmail", "missingTaggerEntry", "multipleAuthors", "treeNotSorted", "zeroPaddedDate"),
    *("zeroPaddedFilemode", "nullSha1", "gitmodulesMissing", "gitmodulesParse"),
)
_CHECKS: Final = {"fetch.fsckObjects": "true", **{f"fetch.fsck.{name}": "warn" for name in _HISTORIC}}


@dataclass(frozen=True, slots=True)
class Kept:
    """A ref that was overwritten or deleted.

    Attributes:
        stamp: when, as `STAMP`.
        ref: its full name then.
        oid: what it pointed to.
    """

    stamp: str
    ref: str
    oid: str

    @property
    def name(self) -> str:
        """What people call it: `<stamp>/heads/x`."""
        return f"{self.stamp}/{self.ref.removeprefix('refs/')}"


class Cache:
    """One bare repository; its folder is made on first use."""

    def __init__(self, git: Git, folder: Path) -> None:
        """Keep it in `folder`."""
        self._git, self.folder = git, folder
        self.lock = asyncio.Lock()

    async def prepare(self, head: str = f"{HEADS}main") -> None:
        """Make it, or put right what a crash left; after this, git can work with it.

        Raises:
            StorageError: the disk said no.
        """
        if await asyncio.to_thread(repair, self.folder, head):
            return
        fresh = self.folder.with_name(f"{self.folder.name}.new")
        await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
        await asyncio.to_thread(self.folder.parent.mkdir, parents=True, exist_ok=True)
        await self._git.run(["init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--", str(fresh)])
        await asyncio.to_thread(self._place, fresh)

    def _place(self, fresh: Path) -> None:
        (fresh / "config").write_text(CONFIG)
        shutil.rmtree(self.folder, ignore_errors=True)  # it has no objects, or no refs: nothing of it is left
        fresh.rename(self.folder)

    async def refs(self, *under: str) -> Mapping[str, str]:
        """Return refs by full name, in one call."""
        args = ["for-each-ref", "--format=%(objectname) %(refname)", *(under or ("refs/",))]
        out = (await self._git.run(args, folder=self.folder)).out.decode("utf-8", "surrogateescape")
        return {name: oid for oid, _, name in (line.partition(" ") for line in out.splitlines())}

    async def served(self) -> Refs:
        """Return what was accepted last, held refs laid over."""
        return Refs(await self.refs(HEADS, TAGS), await self.head())

    async def incoming(self) -> Mapping[str, str]:
        """Return what upstream had when it was last fetched, by the names that refs have there."""
        return _renamed(await self.refs(INCOMING), INCOMING)

    async def held(self) -> Mapping[str, str]:
        """Return the refs that were restored and outrank upstream's."""
        return _renamed(await self.refs(HELD), HELD)

    async def head(self) -> str:
        """Return what HEAD points to."""
        out = (await self._git.run(["symbolic-ref", "--quiet", "HEAD"], folder=self.folder)).out
        return out.decode("utf-8", "surrogateescape").strip()

    async def fetch(self, address: Address, *, deadline: float | None = None) -> int:
        """Bring upstream's branches and tags into `incoming`; return by how many bytes the repository grew.

        A repository that turns out to be damaged is begun anew: upstream has it all. Backups whose objects only
        the damaged one had stay in `<folder>.damaged`.

        Raises:
            ContentError: what upstream sends is damaged or dangerous.
            MirrordError: it cannot be had.
        """
        before = await asyncio.to_thread(size, self.folder)
        try:
            await self._fetch(address, deadline)
        except ContentError:
            await self._anew(address, deadline)
        failpoints.hit("git.fetched")
        return max(0, await asyncio.to_thread(size, self.folder) - before)

    async def _fetch(self, address: Address, deadline: float | None) -> None:
        args = [*_FETCH, "--no-recurse-submodules", "--", address.url, *_REFSPECS]
        await self._git.run(args, folder=self.folder, remote=address, config=_CHECKS, deadline=deadline)

    async def _anew(self, address: Address, deadline: float | None) -> None:
        try:
            old, head = await self.refs(), await self.head()
        except MirrordError:
            old, head = {}, f"{HEADS}main"
        fresh = Cache(self._git, self.folder.with_name(f"{self.folder.name}.again"))
        await asyncio.to_thread(shutil.rmtree, fresh.folder, ignore_errors=True)
        try:
            await fresh.prepare()
            await fresh._fetch(address, deadline)
            there = await fresh.known(old.values())
            kept = {name: oid for name, oid in old.items() if oid in there and not name.startswith(INCOMING)}
            await fresh.update(kept, ())
            await fresh.point(head)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, fresh.folder, ignore_errors=True)
            raise
        lost = any(oid not in there for name, oid in old.items() if name.startswith((BACKUP, HELD)))
        await asyncio.to_thread(self._swap, fresh.folder, keep=lost)

    def _swap(self, fresh: Path, *, keep: bool) -> None:
        damaged = self.folder.with_name(f"{self.folder.name}.damaged")
        shutil.rmtree(damaged, ignore_errors=True)
        for note in self.folder.glob("mirrord-*"):
            shutil.copy2(note, fresh)
        self.folder.rename(damaged)
        fresh.rename(self.folder)
        if not keep:
            shutil.rmtree(damaged, ignore_errors=True)

    async def known(self, oids: Iterable[str]) -> frozenset[str]:
        """Return those objects that are here."""
        asked = sorted(set(oids))
        stdin = "".join(f"{oid}\n" for oid in asked).encode()
        args = ["cat-file", "--batch-check=%(objectname)", "--buffer"]
        out = (await self._git.run(args, folder=self.folder, stdin=stdin)).out.decode()
        return frozenset(line for line in out.splitlines() if not line.endswith(" missing"))

    async def relations(self, pairs: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Relation]:
        """Say for pairs (old, new) of objects how the one follows from the other."""
        asked = {pair for pair in pairs if pair[0] != pair[1]}
        there = await self.known(old for old, _ in asked) if asked else frozenset()
        free = asyncio.Semaphore(_AT_ONCE)

        async def relate(old: str, new: str) -> Relation:
            if old not in there:
                return Relation.UNKNOWN
            async with free:
                ahead = await self._ancestry("--is-ancestor", old, new)
                related = ahead or await self._ancestry(old, new)
            return Relation.FORWARD if ahead else Relation.REWRITTEN if related else Relation.UNRELATED

        ordered = sorted(asked)
        found = await asyncio.gather(*(relate(*pair) for pair in ordered))
        return {**dict.fromkeys(pairs, Relation.SAME), **dict(zip(ordered, found, strict=True))}

    async def _ancestry(self, *asked: str) -> bool:
        """Ask `git merge-base`; what is no commit has no ancestors."""
        args = ["merge-base", *asked]
        return (await self._git.run(args, folder=self.folder, ok=(0, 1, 128))).status == 0

    async def adopt(self, wanted: Mapping[str, str], head: str | None, backups: Mapping[str, str], stamp: str) -> None:
        """Make `wanted` what is served and pushed; whatever it overwrites is backed up before.

        Args:
            wanted: branches and tags by full name.
            head: what HEAD shall point to.
            backups: full name → object, of refs that lose something.
            stamp: when, as `STAMP`.

        Raises:
            MirrordError: git said no; what was served before still is, or the next run goes on from there.
        """
        if backups:
            await self.update({f"{BACKUP}{stamp}/{ref.removeprefix('refs/')}": oid for ref, oid in backups.items()}, ())
            failpoints.hit("git.backed_up")
        now = await self.refs(HEADS, TAGS)
        gone = now.keys() - wanted.keys()
        changed = {ref: oid for ref, oid in wanted.items() if now.get(ref) != oid}
        blocking = {
            ref for ref in gone if any(new.startswith(f"{ref}/") or ref.startswith(f"{new}/") for new in changed)
        }
        if blocking:  # `dev` and `dev/x` cannot pass one another in one transaction
            await self.update({}, blocking)
        await self.update(changed, gone - blocking)
        if head:
            await self.point(head)
        failpoints.hit("git.adopted")

    async def update(self, refs: Mapping[str, str], gone: Iterable[str]) -> None:
        """Set and delete refs in one transaction."""
        lines = [f"update {ref}\0{oid}\0\0" for ref, oid in sorted(refs.items())]
        lines += [f"delete {ref}\0\0" for ref in sorted(gone)]
        if lines:
            stdin = "".join(lines).encode("utf-8", "surrogateescape")
            await self._git.run(["update-ref", "--stdin", "-z"], folder=self.folder, stdin=stdin)

    async def point(self, head: str) -> None:
        """Let HEAD point to a branch, by its full name."""
        if head.startswith(HEADS) and head != await self.head():
            await self._git.run(["symbolic-ref", "--", "HEAD", head], folder=self.folder)

    async def hold(self, ref: str, oid: str) -> None:
        """Let a ref outrank upstream's."""
        await self.update({f"{HELD}{ref.removeprefix('refs/')}": oid}, ())

    async def release(self, ref: str) -> None:
        """Let upstream decide about a ref again."""
        await self.update({}, [f"{HELD}{ref.removeprefix('refs/')}"])

    async def backups(self) -> tuple[Kept, ...]:
        """Return what was overwritten or deleted, the newest first."""
        found = []
        for name, oid in (await self.refs(BACKUP)).items():
            stamp, _, rest = name.removeprefix(BACKUP).partition("/")
            found.append(Kept(stamp, f"refs/{rest}", oid))
        return tuple(sorted(found, key=lambda kept: (kept.stamp, kept.ref), reverse=True))

    async def expire(self, before: datetime) -> int:
        """Forget backups that are older; return how many."""
        edge = before.astimezone(UTC).strftime(STAMP)
        old = [name for name in await self.refs(BACKUP) if name.removeprefix(BACKUP).partition("/")[0] < edge]
        await self.update({}, old)
        return len(old)


def _inside(ref: str, folder: str) -> bool:
    return ref.startswith(f"{folder}/")


def _renamed(refs: Mapping[str, str], prefix: str) -> Mapping[str, str]:
    return {f"refs/{name.removeprefix(prefix)}": oid for name, oid in refs.items()}
