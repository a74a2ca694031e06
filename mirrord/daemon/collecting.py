"""Drops what `keep` does not keep in `local`, then the content that nothing needs: `mirrord gc`, and after runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from mirrord import failpoints
from mirrord.blobs.collector import Collector, RunningCollection
from mirrord.blobs.reachable import reached, unneeded
from mirrord.blobs.repositories import RepositoryState
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
from mirrord.plan.retention import READING, Clients, Retained, expired, retained
from mirrord.plan.select import REFERRER
from mirrord.record.ledger import RunLedger
from mirrord.syncer.restoring import FACTS
from mirrord.syncer.values import LOCAL, Mirror

TRIGGER: Final = "gc"
_CHARTS: Final = "_helm/"


@dataclass(frozen=True, slots=True)
class _Owner:
    """Who decides about a repository.

    Attributes:
        keep: the rules.
        mirror: whose names they are, if that is known.
        item: returns the item of a tag.
        pinned: digests that stay, and so do their tags: those that items name, that are restored, and of branches.
    """

    keep: Keep
    mirror: Mirror | None = None
    item: Callable[[str], str] = str
    pinned: frozenset[str] = frozenset()

    def beside(self, other: _Owner) -> _Owner:
        """Return it where another mirror has names, too: what either one pins stays, and all if they do not agree."""
        keep = self.keep if self.keep == other.keep else EVERYTHING
        return replace(self, keep=keep, pinned=self.pinned | other.pinned)


@dataclass(slots=True)
class _Found:
    """What a look at one repository found."""

    tags: dict[str, Digest] = field(default_factory=dict)
    about: dict[str, Digest] = field(default_factory=dict)  # those of them that go with an image
    why: dict[str, str] = field(default_factory=dict)  # by tag or digest
    manifests: dict[Digest, str] = field(default_factory=dict)


class GarbageCollection:
    """Collections of one program; one at a time."""

    def __init__(self, runtime: Runtime, collector: Collector) -> None:
        """Collect what is open."""
        self._runtime, self._collector = runtime, collector

    @property
    def wanted(self) -> bool:
        """Whether anything may go by the configuration."""
        configuration = self._runtime.snapshot.configuration
        return any((configuration.settings.local.keep.rules, *(mirror.keep for mirror in configuration.mirrors)))

    async def collect(self, *, dry: bool = False) -> Collected:
        """Let go what is not kept, and remove what nothing needs; with `dry` only say what that would be."""
        async with self._collector.collection() as collection, (current := self._runtime.snapshot).lease():
            owners, rest = await self._owners(current)
            linked, gone, troubles, kept = set[Digest](), list[tuple[Gone, set[Digest]]](), list[str](), 0
            for name in await self._collector.repositories.names():
                owner = owners.get(name, _Owner(EVERYTHING if name.startswith(_CHARTS) else rest))
                try:
                    left, went, stay = await self._repository(name, owner, collection, current, dry=dry)
                except (MirrordError, OSError) as error:  # such as a publication meanwhile: the next one looks again
                    troubles += [] if isinstance(error, ConflictError) else [f"{name}: {error}"]
                    state = await self._collector.repositories.read(name) or RepositoryState()
                    left, went, stay = set(state.content), [], len(state.tags)
                linked |= left
                gone += went
                kept += stay
            return await self._sweep(collection, linked, gone, Collected(kept=kept, troubles=tuple(troubles), dry=dry))

    async def _owners(self, current: Snapshot) -> tuple[Mapping[str, _Owner], Keep]:
        """Return who decides about which repository, and the rules for all others."""
        found, rest = dict[str, _Owner](), current.configuration.settings.local.keep.rules or EVERYTHING
        for mirror in current.configuration.mirrors:
            syncer = current.syncer(mirror)
            if syncer.kept is None or all(target.name != LOCAL for target in mirror.targets):
                continue
            memory = await self._runtime.store.memory(mirror.name)
            items = [item for target, item in memory if target == LOCAL]
            restored = Restored.read(await self._runtime.store.recall(mirror.name, FACTS))
            pinned = {*filter(None, map(_digest, items)), *restored.digests}
            pinned |= {one.digest for (target, _), one in memory.names.items() if target == LOCAL and not one.stays}
            for repository, item in (await asyncio.to_thread(syncer.kept, mirror, items)).items():
                owner = _Owner(mirror.keep or EVERYTHING, mirror, item, frozenset(pinned))
                found[repository] = owner.beside(found.get(repository, owner))
            if syncer.parts_of(mirror) and (not items or (mirror.keep or EVERYTHING) != rest):
                rest = EVERYTHING  # a repository without an owner may be one of its, which the record does not know
        return found, rest

    async def _repository(
        self, name: str, owner: _Owner, collection: RunningCollection, current: Snapshot, *, dry: bool
    ) -> tuple[set[Digest], list[tuple[Gone, set[Digest]]], int]:
        """Drop what one repository does not keep; return what it links then, what went with its content, what stays."""
        repositories = self._collector.repositories
        state = await repositories.read(name)
        if state is None:
            return set(), [], 0
        if not owner.keep.everything and state.tagged.keys() != state.tags.keys() and not dry:
            await repositories.date(name)  # what came before times were noted counts from now
            state = await repositories.read(name) or RepositoryState()
        found = await asyncio.to_thread(self._judge, state, owner, collection.began)
        tags, manifests = frozenset(found.tags), frozenset(found.manifests)
        if dry:
            manifests = frozenset(await asyncio.to_thread(_goes, state, owner, found))
        elif tags or manifests:
            tags, manifests = await self._drop(name, owner, state, found, current)
            failpoints.hit("gc.dropped")
        content, went = await asyncio.to_thread(_went, name, state, found, tags, manifests)
        return content, went, len(state.tags) - len(tags)

    def _judge(self, state: RepositoryState, owner: _Owner, now: float) -> _Found:
        """Decide about one repository. Blocks."""
        uses, found = self._collector.uses, _Found()
        needed_by = Counter(ref for link in state.manifests.values() for ref in link.refs)

        def reading(digest: Digest) -> bool:  # what several images share says nothing about one of them
            parts = _content(state, digest)
            return any(uses.since(one, now - READING) for one in parts if one in state.manifests or needed_by[one] < 2)

        def used(digest: Digest) -> float:  # who knows an index asks for the image of a platform alone
            return max(map(uses.last, {digest, *reached(state.manifests, [digest])}))

        clients = Clients(used, reading)
        verdicts: Mapping[str, Retained] = retained(state.tags, state.tagged, owner.keep, now, clients)
        going = {name: state.tags[name] for name, verdict in verdicts.items() if not verdict.stays}
        found.tags = {name: digest for name, digest in going.items() if digest not in owner.pinned}
        found.why = {name: verdicts[name].why for name in found.tags}
        left = {name: digest for name, digest in state.tags.items() if name not in found.tags}
        needed = reached(state.manifests, left.values()) | {Digest(one) for one in owner.pinned}
        lost = {one: at for one, at in state.lost.items() if one in state.manifests and one not in needed}
        lost = {one: at for one, at in lost.items() if one not in found.tags.values()}
        found.manifests = dict(expired(lost, owner.keep, now, clients))
        gone = _goes(state, owner, found)
        for name, digest in state.tags.items():  # those of signatures go with their image
            image = Digest(f"sha256:{name[7:71]}")
            if name.startswith(REFERRER) and image in gone:
                found.tags[name], found.about[name], found.why[name] = digest, image, "it is about an image that goes"
        return found

    async def _drop(
        self, name: str, owner: _Owner, state: RepositoryState, found: _Found, current: Snapshot
    ) -> tuple[frozenset[str], frozenset[Digest]]:
        """Write down what goes, drop it, and record that as a run of the mirror.

        Raises:
            ConflictError: another configuration is in use since the collection began; it may keep what this one drops.
        """
        if self._runtime.snapshot is not current:
            raise ConflictError(f"{name}: the configuration was replaced meanwhile")
        drop = self._collector.repositories.drop
        self._collector.repositories.leases.need(_pinned(state, owner))
        if owner.mirror is None:
            return await drop(name, found.tags, found.manifests, about=found.about, expect=state.revision)
        mirror, began = owner.mirror, self._now()
        syncer, store = current.syncer(mirror), self._runtime.store
        origin, places = syncer.places(mirror)
        ledger = RunLedger(store, mirror.name, began, places, self._now)
        moves = {owner.item(tag): (str(digest), None) for tag, digest in found.tags.items()}
        async with ledger.moving(LOCAL, moves) as outcomes:
            tags, manifests = await drop(name, found.tags, found.manifests, about=found.about, expect=state.revision)
            outcomes.update((owner.item(tag), Settled.UNDONE) for tag in found.tags.keys() - tags)
        steps = tuple(
            Step(Action.DELETE, owner.item(tag), found.tags[tag], LOCAL, (tag,), f"not kept: {found.why[tag]}")
            for tag in sorted(tags)
        )
        if steps:
            run = Run(
                mirror.name,
                mirror.kind,
                TRIGGER,
                began,
                self._now(),
                Plan(mirror.name, mirror.kind, began, steps),
                tuple(Receipt(step, Outcome.DONE) for step in steps),
                places={target: f"{origin} > {place}" for target, place in places.items()},
            )
            await store.add_run(run)
            self._runtime.events.emit(RunFinished(run))
        return tags, manifests

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
        rows, freed, blobs = list[Gone](), sum(sizes.values()), len(sizes)
        for row, content in gone:
            rows.append(replace(row, size=sum(sizes.pop(digest, 0) for digest in content)))
        loose = sum(sizes.values())
        return replace(collected, gone=tuple(rows), freed=freed, blobs=blobs, loose=loose, troubles=tuple(troubles))


def _pinned(state: RepositoryState, owner: _Owner) -> set[Digest]:
    return {digest for digest in state.manifests if digest in owner.pinned}


def _goes(state: RepositoryState, owner: _Owner, found: _Found) -> set[Digest]:
    left = {name: digest for name, digest in state.tags.items() if name not in found.tags}
    return unneeded(left, state.manifests, {*found.tags.values(), *found.manifests}, _pinned(state, owner))


def _went(
    name: str, state: RepositoryState, found: _Found, tags: Collection[str], manifests: Collection[Digest]
) -> tuple[set[Digest], list[tuple[Gone, set[Digest]]]]:
    """Return what a repository links without these, and what went of it with the content that nothing there needs."""
    left = {digest: link for digest, link in state.manifests.items() if digest not in manifests}
    content = {*left, *(ref for link in left.values() for ref in link.refs)}
    rows = [Gone(name, tag, found.tags[tag], found.why[tag]) for tag in sorted(tags)]
    rows += [Gone(name, "", one, found.manifests[one]) for one in sorted(found.manifests.keys() & manifests)]
    return content, [(row, _content(state, Digest(row.digest)) - content) for row in rows]


def _digest(item: str) -> str:
    """Return the digest that an item is named by; "" for one that is named by a tag."""
    digest = item.rpartition("@")[2]
    return digest if ":" in digest and "/" not in digest else ""


def _content(state: RepositoryState, digest: Digest) -> set[Digest]:
    manifests = reached(state.manifests, [digest])
    return {digest, *manifests, *(ref for one in manifests for ref in state.manifests[one].refs)}
