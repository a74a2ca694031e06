"""The bare repository in which mirrord keeps its copy of an upstream.

Three namespaces: `refs/heads` and `refs/tags` are what was accepted, what is served and what is pushed;
`refs/mirrord/incoming` is what upstream had when it was last fetched; `refs/mirrord/backup` and `refs/mirrord/held`
keep what was overwritten or deleted. Nothing under `refs/mirrord` is advertised to a client, and nothing is pushed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Final

from mirrord import failpoints
from mirrord.errors import ContentError, MirrordError, RefusedError, TooLargeError
from mirrord.wire.git.address import Address
from mirrord.wire.git.cache.ancestry import Pair, relate
from mirrord.wire.git.cache.bare import INCOMING, OURS, Bare, sizes
from mirrord.wire.git.cache.damage import damage, doubtful, reclone
from mirrord.wire.git.cache.repair import DAMAGED
from mirrord.wire.git.refs import HEADS, TAGS, Refs, Relation, blocking, parents

BACKUP: Final = f"{OURS}backup/"
HELD: Final = f"{OURS}held/"
STAMP: Final = "%Y%m%dT%H%M%SZ"

_AT_ONCE = 8
_FEW: Final = 64  # pairs asked one by one (6 ms each, however long the history is); more are answered by one walk
_WALK: Final = 256 * 2**20  # bytes that name the commits of one walk: three million of them


@dataclass(frozen=True, slots=True)
class BackupRef:
    """A ref that was overwritten or deleted."""

    stamp: str  # when, as `STAMP`; with a number behind a dot where one moment needs several
    ref: str  # its full name then
    oid: str  # what it pointed to

    @property
    def name(self) -> str:
        """What people call it: `<stamp>/heads/x`."""
        return f"{self.stamp}/{self.ref.removeprefix('refs/')}"


class GitCache(Bare):
    """One bare repository; its folder is made on first use."""

    async def served(self) -> Refs:
        """Return what was accepted last, held refs laid over."""
        return Refs(await self.refs(HEADS, TAGS), await self.head())

    async def incoming(self) -> Refs:
        """Return what upstream had when it was last fetched, by the names that refs have there."""
        return Refs(_renamed(await self.refs(INCOMING), INCOMING))

    async def held(self) -> Mapping[str, str]:
        """Return the refs that were restored and override upstream's."""
        return _renamed(await self.refs(HELD), HELD)

    async def fetch(self, address: Address, seen: Refs | None = None, *, deadline: float | None = None) -> int:
        """Bring upstream's branches and tags into `incoming`; return the bytes of the objects that came.

        What came as a difference from an object that was here counts as it is stored, whole.

        A repository that turns out to be damaged is rebuilt: upstream has nearly all of it, and the rest is carried
        over. What upstream itself has damaged is refused, and costs no second transfer.

        Raises:
            ContentError: what upstream sends is damaged or dangerous.
            MirrordError: it cannot be had.
        """
        before = (await asyncio.to_thread(sizes, self.folder)).bytes
        marked = await asyncio.to_thread((self.folder / DAMAGED).exists)
        try:
            if marked:
                raise ContentError(f"{self.folder.name} is known to be damaged")
            await self.bring(address, deadline, seen)
        except MirrordError as error:
            # Whether it failed because of what we have, git's words alone do not tell.
            if not marked and not (doubtful(error) and await damage(self._git, self.folder)):
                raise
            await self.renew(address, deadline=deadline)
            before = 0
        failpoints.hit("git.fetched")
        return max(0, (await asyncio.to_thread(sizes, self.folder)).bytes - before)

    async def renew(self, address: Address, *, deadline: float | None = None) -> None:
        """Rebuild it from upstream; what upstream no longer has is carried over as far as it is whole.

        Raises:
            ContentError: the default branch cannot be had from anywhere.
            MirrordError: upstream cannot be had; everything stays as it is.
        """
        await reclone(self._git, self, lambda fresh: fresh.bring(address, deadline))

    async def relations(self, pairs: Iterable[Pair]) -> Mapping[Pair, Relation]:
        """Say for pairs (old, new) of objects how the one follows from the other; tags stand for their commits."""
        found = {pair: Relation.SAME if pair[0] == pair[1] else Relation.UNKNOWN for pair in pairs}
        asked = [pair for pair, relation in found.items() if relation is Relation.UNKNOWN]
        commits = await self.commits(oid for pair in asked for oid in pair)
        peeled: dict[Pair, Pair] = {}
        for old, new in asked:
            if old in commits and new in commits:
                before, after = commits[old], commits[new]
                if before and after:
                    peeled[old, new] = before, after
                else:
                    found[old, new] = Relation.UNRELATED  # a tag of a file or a tree, which has no history
        answers = await self._descent(frozenset(peeled.values()))
        return {**found, **{pair: answers[commits] for pair, commits in peeled.items()}}

    async def lacking(self, oids: Collection[str]) -> frozenset[str]:
        """Return those objects that are not here, or not with all that belongs to them.

        Of many, none counts as here when one of them is not whole: to fetch them once more costs less than to look.
        """
        here = frozenset(await self.commits(oids)) if oids else frozenset[str]()
        if here and not await self._whole(here):
            few = sorted(here) if len(here) <= _FEW else []
            here = frozenset([oid for oid in few if await self._whole([oid])])
        return frozenset(oids) - here

    async def _whole(self, oids: Collection[str]) -> bool:
        """Whether nothing is missing of objects that are here; what refs lead to is known to be whole."""
        stdin = "".join(f"{oid}\n" for oid in sorted(oids)).encode()
        args = ["rev-list", "--objects", "--quiet", "--stdin", "--not", "--all"]
        return (await self._git.run(args, folder=self.folder, stdin=stdin, ok=(0, 128))).status == 0

    async def _descent(self, pairs: Collection[Pair]) -> Mapping[Pair, Relation]:
        if len(pairs) > _FEW:
            tips = "".join(f"{commit}\n" for commit in {commit for pair in pairs for commit in pair})
            args = ["rev-list", "--topo-order", "--reverse", "--parents", "--stdin"]
            try:
                walk = await self._git.run(args, folder=self.folder, stdin=tips.encode(), limit=_WALK)
                return await asyncio.to_thread(relate, walk.out, pairs)
            except TooLargeError:  # a longer history than any known: slowly, then
                pass
        free = asyncio.Semaphore(_AT_ONCE)

        async def one(old: str, new: str) -> Relation:
            async with free:
                if old == new or await self._has_base("--is-ancestor", old, new):
                    return Relation.FORWARD
                return Relation.REWRITTEN if await self._has_base(old, new) else Relation.UNRELATED

        ordered = sorted(pairs)
        return dict(zip(ordered, await asyncio.gather(*(one(*pair) for pair in ordered)), strict=True))

    async def _has_base(self, *asked: str) -> bool:
        return (await self._git.run(["merge-base", *asked], folder=self.folder, ok=(0, 1))).status == 0

    async def adopt(
        self, wanted: Mapping[str, str], head: str | None, backups: Iterable[tuple[str, str]], stamp: str
    ) -> None:
        """Make `wanted` (by full name) what is served and pushed, and HEAD; what it overwrites is backed up before.

        Backups are full names and objects that they lose, made at `stamp` (as `STAMP`); of an object that a ref lost
        before, the new one stays. One transaction moves the refs. Only where `dev` gives way to `dev/x`, or the other
        way round, git cannot delete and create in one; then those that stand in the way go first. Killed between the
        two, the next run creates what is missing, and the backups are there.

        Raises:
            MirrordError: git refused; what was served before still is, or the next run completes the change.
        """
        backups = frozenset(backups)
        if backups:
            taken = await self.refs(BACKUP)
            places = _places(stamp, sorted(backups), taken)
            # Of the same objects no older ones: a host that refuses to be overwritten would bring one more each day.
            ends = ((name, f"refs/{name.removeprefix(BACKUP).partition('/')[2]}", oid) for name, oid in taken.items())
            old = {name for name, ref, oid in ends if (ref, oid) in backups}
            await self.update(places, old.difference(places))
            failpoints.hit("git.backed_up")
        now = await self.refs(HEADS, TAGS)

        def compared() -> tuple[Mapping[str, str], AbstractSet[str], AbstractSet[str]]:
            changed = {ref: oid for ref, oid in wanted.items() if now.get(ref) != oid}
            gone = now.keys() - wanted.keys()
            return changed, gone, blocking(gone, changed)

        changed, gone, way = await asyncio.to_thread(compared)
        if way:
            await self.update({}, way)
        await self.update(changed, gone - way)
        if head:
            await self.point(head)
        failpoints.hit("git.adopted")

    async def hold(self, refs: Mapping[str, str]) -> None:
        """Let refs override upstream's. Raises RefusedError: another restored one is in the way (`dev`, `dev/x`)."""
        if way := blocking({*await self.held(), *refs}, refs):
            there = min(way, key=lambda one: (one in refs, one))
            ref = min(one for one in refs if blocking((there,), (one,)))
            why = "which is to be restored, too; restore one of them"
            why = why if there in refs else "which was restored; release that one first"
            raise RefusedError(f"{ref} cannot stand beside {there}, {why}")
        await self.update({f"{HELD}{ref.removeprefix('refs/')}": oid for ref, oid in refs.items()})

    async def release(self, refs: Iterable[str]) -> None:
        """Let upstream decide about refs again."""
        await self.update({}, [f"{HELD}{ref.removeprefix('refs/')}" for ref in refs])

    async def backups(self) -> tuple[BackupRef, ...]:
        """Return what was overwritten or deleted, the newest first."""
        found = []
        for name, oid in (await self.refs(BACKUP)).items():
            stamp, _, rest = name.removeprefix(BACKUP).partition("/")
            found.append(BackupRef(stamp, f"refs/{rest}", oid))
        return tuple(sorted(found, key=lambda backup: (backup.stamp, backup.ref), reverse=True))

    async def expire(self, before: datetime) -> int:
        """Forget backups that are older; return how many."""
        edge = before.astimezone(UTC).strftime(STAMP)
        old = [name for name in await self.refs(BACKUP) if name.removeprefix(BACKUP).partition("/")[0] < edge]
        await self.update({}, old)
        return len(old)


def _places(stamp: str, backups: Iterable[tuple[str, str]], taken: Mapping[str, str]) -> Mapping[str, str]:
    """Choose names for backups: below `stamp`, or below `stamp.1`… where that has the name for something else.

    It has when two runs fall into one second, when a ref lost one object here and another one at a destination, and
    when `dev` was lost here and `dev/x` there.
    """
    held, chosen = dict(taken), dict[str, str]()
    folders = {parent for name in held for parent in parents(name)}
    for ref, oid in backups:
        for number in count():
            name = f"{BACKUP}{stamp}{f'.{number}' if number else ''}/{ref.removeprefix('refs/')}"
            if held.get(name, oid) == oid and name not in folders and held.keys().isdisjoint(parents(name)):
                break
        held[name] = chosen[name] = oid
        folders.update(parents(name))
    return chosen


def _renamed(refs: Mapping[str, str], prefix: str) -> Mapping[str, str]:
    return {f"refs/{name.removeprefix(prefix)}": oid for name, oid in refs.items()}
