"""Drops what `keep` does not keep in `local`, then the content that nothing needs: `mirrord gc`, and after runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from mirrord import failpoints
from mirrord.blobs.collector import Collector, RunningCollection
from mirrord.blobs.repositories import RepositoryState
from mirrord.daemon.judging import Found, Owner, goes, judge, pinned, pins, went
from mirrord.daemon.runtime import Runtime, Snapshot
from mirrord.errors import ConflictError, MirrordError
from mirrord.events import RunFinished
from mirrord.model.collected import Collected, Gone
from mirrord.model.digest import Digest
from mirrord.model.keep import EVERYTHING, Keep
from mirrord.model.ledger import Settled
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.plan.restored import Restored
from mirrord.plan.retention import DAY, READING
from mirrord.record.ledger import RunLedger, settle
from mirrord.syncer.keeping import ListedNames
from mirrord.syncer.restoring import FACTS
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.tasks import ahead

TRIGGER: Final = "gc"
GATHERED: Final = 60.0
"""Seconds for which what clients of other replicas used counts as known: they write it once a minute."""
AT_ONCE: Final = 8
"""Repositories of a bucket that are read at once, and are in memory."""
_CHARTS: Final = "_helm/"


class GarbageCollection:
    """Collections of one program; one at a time."""

    def __init__(self, runtime: Runtime, collector: Collector) -> None:
        """Collect what is open."""
        self._runtime, self._collector = runtime, collector
        self._gathered = 0.0

    @property
    def wanted(self) -> bool:
        """Whether anything may go by the configuration."""
        configuration = self._runtime.snapshot.configuration
        return any((configuration.settings.local.keep.rules, *(mirror.keep for mirror in configuration.mirrors)))

    @property
    def shared(self) -> bool:
        """Whether replicas have the same `local`, of which one collects it."""
        return self._collector.shared

    async def collect(self, *, dry: bool = False) -> Collected:
        """Let go what is not kept, and remove what nothing needs; with `dry` only say what that would be."""
        await asyncio.to_thread(self._runtime.ease)
        async with self._collector.collection() as collection, (current := self._runtime.snapshot).lease():
            self._gathered = 0.0
            await self._gather(dry=dry)
            if not dry:
                await self._settle(current)
            owners, rest = await self._owners(current)
            linked, gone, troubles, kept = set[Digest](), list[tuple[Gone, set[Digest]]](), list[str](), 0
            repositories = self._collector.repositories
            states = ahead(await repositories.names(), repositories.read, AT_ONCE if self.shared else 1)
            async with aclosing(states):
                async for name, reading in states:
                    await self._gather(dry=dry)
                    owner = owners.get(name, Owner(EVERYTHING if name.startswith(_CHARTS) else rest))
                    try:
                        state = await reading
                        async with self._alone(owner.mirror, current, dry=dry):
                            left, went, stay = await self._repository(name, owner, state, collection, current, dry=dry)
                    except (MirrordError, OSError) as error:  # such as a publication meanwhile: the next one looks
                        troubles += [] if isinstance(error, ConflictError) else [f"{name}: {error}"]
                        state = await repositories.read(name) or RepositoryState()
                        left, went, stay = set(state.content), [], _names(name, state.tags)
                    linked |= left
                    gone += went
                    kept += stay
            found = Collected(kept=kept, troubles=tuple(troubles), dry=dry, remark=self._remark())
            return await self._sweep(collection, linked, gone, found)

    async def _gather(self, *, dry: bool) -> None:
        """Learn what clients of all replicas used, again when that was a minute ago."""
        if (at := self._collector.clock()) >= self._gathered + GATHERED:
            await self._collector.uses.gather(0.0 if dry else at - DAY)
            self._gathered = at

    async def _settle(self, current: Snapshot) -> None:
        """Look what came of moves in `local` that a killed process left open, where no run is under way."""
        left, leases = await self._runtime.store.unsettled(), self._runtime.runner.leases
        for name in current.names:
            if name in left and not await leases.busy(name):
                mirror = current.mirror(name)
                async with leases.hold(name):
                    await settle(mirror, current.syncer(mirror), current.services, self._runtime.store, LOCAL)

    def _remark(self) -> str:
        """Return why every name stays, whatever its age; "" where `keep` decides."""
        if not self.wanted:
            return "every name stays: neither `settings.local.keep` nor `keep` of a mirror is configured"
        uses = self._collector.uses
        until = uses.known_from + uses.unseen + READING
        if until < self._collector.clock():
            return ""
        at = datetime.fromtimestamp(until, UTC)
        return f"every name stays until {at:%H:%M} UTC: a daemon needs an hour to learn what clients are reading"

    async def _owners(self, current: Snapshot) -> tuple[Mapping[str, Owner], Keep]:
        """Return who decides about which repository, and the rules for all others."""
        found, rest = dict[str, Owner](), current.configuration.settings.local.keep.rules or EVERYTHING
        for mirror in current.configuration.mirrors:
            syncer = current.syncer(mirror)
            if syncer.kept is None or all(target.name != LOCAL for target in mirror.targets):
                continue
            memory = await self._runtime.store.memory(mirror.name)
            facts = await self._runtime.store.recall(mirror.name, FACTS)
            restored = await asyncio.to_thread(Restored.read, facts)
            items, pinned = await asyncio.to_thread(pins, memory, restored)
            for repository, item in (await asyncio.to_thread(syncer.kept, mirror, items)).items():
                owner = Owner(mirror.keep or EVERYTHING, mirror, item, pinned)
                found[repository] = owner.beside(found.get(repository, owner))
            if syncer.parts_of(mirror) and (not items or (mirror.keep or EVERYTHING) != rest):
                rest = EVERYTHING  # a repository without an owner may be one of its, which the record does not know
        return found, rest

    @asynccontextmanager
    async def _alone(self, mirror: Mirror | None, current: Snapshot, *, dry: bool) -> AsyncIterator[None]:
        """Let no run of a mirror write its index meanwhile, if its names are listed in one."""
        if dry or mirror is None or current.syncer(mirror).listed is None:
            yield
            return
        if await (leases := self._runtime.runner.leases).busy(mirror.name):
            raise ConflictError(f"{mirror.name}: a run is under way; it is collected after that")
        async with leases.hold(mirror.name):
            yield

    async def _repository(
        self,
        name: str,
        owner: Owner,
        state: RepositoryState | None,
        collection: RunningCollection,
        current: Snapshot,
        *,
        dry: bool,
    ) -> tuple[set[Digest], list[tuple[Gone, set[Digest]]], int]:
        """Drop what one repository does not keep; return what it links then, what went with its content, what stays."""
        repositories = self._collector.repositories
        if state is None:
            return set(), [], 0
        if not owner.keep.everything and state.tagged.keys() != state.tags.keys() and not dry:
            await repositories.date(name)  # what came before times were noted counts from now
            state = await repositories.read(name) or RepositoryState()
        owner, listed = await _listed(current, owner, state)
        found = await asyncio.to_thread(judge, state, owner, self._collector.uses, collection.began, listed)
        tags, manifests = frozenset(found.tags), frozenset(found.manifests)
        if dry:
            manifests = frozenset(await asyncio.to_thread(goes, state, owner, found))
        elif tags or manifests:
            tags, manifests = await self._drop(name, owner, state, found, listed, current=current)
            failpoints.hit("gc.dropped")
        content, gone = await asyncio.to_thread(went, name, state, found, tags, manifests)
        return content, gone, _names(name, state.tags.keys() - tags)

    async def _drop(
        self,
        name: str,
        owner: Owner,
        state: RepositoryState,
        found: Found,
        listed: ListedNames | None,
        *,
        current: Snapshot,
    ) -> tuple[frozenset[str], frozenset[Digest]]:
        """Write down what goes, drop it, and record that as a run of the mirror.

        Raises:
            ConflictError: another configuration is in use since the collection began; it may keep what this one drops.
        """
        if self._runtime.snapshot is not current:
            raise ConflictError(f"{name}: the configuration was replaced meanwhile")
        leases = self._collector.repositories.leases
        leases.need(pinned(state, owner))
        if owner.mirror is None:
            repositories, about = self._collector.repositories, found.about
            return await repositories.drop(name, found.tags, found.manifests, about=about, expect=state.revision)
        if listed:  # an index is right only if all goes that it lists no more
            free = leases.free(found.tags.values())
            found.tags = {
                tag: digest for tag, digest in found.tags.items() if {digest, found.about.get(tag, digest)} <= free
            }
        mirror, began = owner.mirror, self._now()
        syncer, store = current.syncer(mirror), self._runtime.store
        origin, places = syncer.places(mirror)
        ledger = RunLedger(store, mirror.name, began, places, self._now)
        called = await asyncio.to_thread(_called, owner, found) if listed is None else listed.called
        moves = await asyncio.to_thread(_moves, found, called)
        async with ledger.moving(LOCAL, moves) as outcomes:
            tags, manifests = await self._dropped(name, state, found, listed)
            left = found.tags.keys() - tags
            outcomes.update(
                await asyncio.to_thread(lambda: {called[one]: Settled.UNDONE for one in left & called.keys()})
            )
        steps = await asyncio.to_thread(_steps, owner, found, sorted(tags & called.keys()))
        if steps:
            run = Run(
                mirror.name,
                mirror.kind,
                TRIGGER,
                began,
                self._now(),
                Plan(mirror.name, mirror.kind, began, steps),
                await asyncio.to_thread(lambda: tuple(Receipt(step, Outcome.DONE) for step in steps)),
                places={target: f"{origin} > {place}" for target, place in places.items()},
            )
            await store.add_run(run)
            self._runtime.events.emit(RunFinished(run))
        return tags, manifests

    async def _dropped(
        self, name: str, state: RepositoryState, found: Found, listed: ListedNames | None
    ) -> tuple[frozenset[str], frozenset[Digest]]:
        about = {tag: other for tag, other in found.about.items() if tag in found.tags}
        if listed is None:
            drop = self._collector.repositories.drop
            return await drop(name, found.tags, found.manifests, about=about, expect=state.revision)
        if not found.tags:
            return frozenset(), frozenset()
        return await listed.drop(found.tags, frozenset(found.manifests), about, state.revision)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._collector.clock(), UTC)

    async def _sweep(
        self,
        collection: RunningCollection,
        linked: set[Digest],
        gone: list[tuple[Gone, set[Digest]]],
        collected: Collected,
    ) -> Collected:
        """Remove what nothing links, and count it for the names that needed it."""
        sizes = dict[Digest, int]()
        troubles = list(collected.troubles)
        try:
            async for unlinked in collection.unlinked(linked):
                free = unlinked.keys() if collected.dry else await collection.remove(unlinked)
                sizes |= {digest: unlinked[digest] for digest in free}
        except (MirrordError, OSError) as error:
            troubles.append(str(error))
        return await asyncio.to_thread(_counted, replace(collected, troubles=tuple(troubles)), sizes, gone)


def _names(repository: str, tags: Collection[str]) -> int:
    """Count names; of charts their archives, and neither indexes nor what is kept of earlier ones."""
    if not repository.startswith(_CHARTS):
        return len(tags)
    return sum(tag.startswith("charts/") and tag.endswith(".tgz") for tag in tags) if repository.count("/") == 1 else 0


def _counted(collected: Collected, sizes: dict[Digest, int], gone: list[tuple[Gone, set[Digest]]]) -> Collected:
    """Return it with what went; each byte counts for the first name that needed it."""
    freed, blobs = sum(sizes.values()), len(sizes)
    rows = tuple(replace(row, size=sum(sizes.pop(digest, 0) for digest in content)) for row, content in gone)
    return replace(collected, gone=rows, freed=freed, blobs=blobs, loose=sum(sizes.values()))


def _called(owner: Owner, found: Found) -> dict[str, str]:
    return {tag: owner.item(tag) for tag in found.tags}


def _moves(found: Found, called: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    return {called[tag]: (str(digest), None) for tag, digest in found.tags.items() if tag in called}


def _steps(owner: Owner, found: Found, tags: Collection[str]) -> tuple[Step, ...]:
    return tuple(
        Step(Action.DELETE, owner.item(tag), found.tags[tag], LOCAL, (tag,), f"not kept: {found.why[tag]}")
        for tag in tags
    )


async def _listed(current: Snapshot, owner: Owner, state: RepositoryState) -> tuple[Owner, ListedNames | None]:
    """Return what an index lists; nothing goes of one that cannot be read."""
    listed = current.syncer(owner.mirror).listed if owner.mirror and not owner.keep.everything else None
    if owner.mirror is None or listed is None:
        return owner, None
    names = await listed(owner.mirror, current.services, state)
    return (owner, names) if names else (replace(owner, keep=EVERYTHING), None)
