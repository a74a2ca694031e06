"""The LFS objects of one run: from upstream into the cache, from there to each target, and which refs wait for them.

A ref waits for objects that could not be had or brought, since a host that knows LFS refuses it without (GitHub's
GH008), and another one would publish pointers to nothing. What nobody can help, because upstream itself has lost it or
a host has no LFS server, keeps a ref only where a checkout of it would need it: else one object that was lost years ago
would stop a repository for ever. Where no ref needs it, it is left out, as a problem. Refs that need none of what is
lacking go on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mirrord.errors import MirrordError, MissingError, UnsupportedError
from mirrord.events import BytesRead, BytesSent
from mirrord.model.plan import Step
from mirrord.model.run import Outcome, Receipt
from mirrord.syncer.values import LOCAL, Mirror, Services
from mirrord.syncers.git.kept.cache import MirrorCache
from mirrord.syncers.git.kept.lfs_notes import Owed
from mirrord.syncers.git.names import places, source_address
from mirrord.syncers.git.transfer.destinations import GitDestination
from mirrord.wire.git.changes import Change
from mirrord.wire.git.command import Git
from mirrord.wire.git.failures import lacks_objects
from mirrord.wire.git.lfs import objects
from mirrord.wire.git.lfs.carry import Errors, download, upload
from mirrord.wire.git.lfs.needed import holding, reaching
from mirrord.wire.git.lfs.objects import Pointer
from mirrord.wire.git.lfs.server import LfsServer

_CAUSES = 3  # that are reported

Walk = Callable[[Git, Path, Collection[str], Collection[str]], Coroutine[None, None, frozenset[str]]]
"""Finds those of some tips that need some files."""


@dataclass(slots=True)
class LfsTransfer:
    """What is owed to whom, and what became of it."""

    mirror: Mirror
    services: Services
    cache: MirrorCache
    owed: Owed  # when the run begins
    tips: frozenset[str]  # what all refs that are mirrored point to
    read: int = 0  # bytes that came
    sent: Counter[str] = field(default_factory=Counter)  # bytes that went, by target
    _absent: Errors = field(default_factory=dict)
    _left: dict[str, Errors] = field(default_factory=dict)
    _hopeless: dict[str, frozenset[Pointer]] = field(default_factory=dict)
    _needing: dict[str, frozenset[str]] = field(default_factory=dict)
    _doubted: set[str] = field(default_factory=set)
    _walks: dict[object, asyncio.Task[frozenset[str]]] = field(default_factory=dict)

    async def fetch(self, targets: Collection[str]) -> None:
        """Bring what the cache lacks of what is owed to these targets. Raises MirrordError."""
        if not targets:
            return
        owed = frozenset[Pointer]().union(*(self.owed[name] for name in targets))
        wanted = await asyncio.to_thread(objects.lacking, self.cache.folder, owed)
        try:
            await asyncio.to_thread(objects.sweep, self.cache.folder, wanted)
            if wanted:
                server = LfsServer(self.cache.git, self.services.http, source_address(self.mirror))
                self._absent = await download(server, self.cache.folder, wanted, self._came)
        except MirrordError as error:
            self._absent = dict.fromkeys((one.oid for one in wanted), error)
        if LOCAL in targets:
            missing = (one.oid for one in self.owed[LOCAL] if one.oid in self._absent)
            await self._judge(LOCAL, {oid: self._absent[oid] for oid in missing})

    async def send(self, target: str, destination: GitDestination) -> None:
        """Bring to a target what is owed to it, unless it turns out to have it. Raises MirrordError."""
        server = LfsServer(self.cache.git, self.services.http, destination.address)

        def went(count: int) -> None:
            self.sent[target] += count
            self.services.events.emit(BytesSent(f"{self.mirror.name}/{target}", count))

        errors = await upload(server, self.cache.folder, self.owed[target], went)
        # Why it did not come explains more than that it is not here.
        await self._judge(target, {oid: self._absent.get(oid, why) for oid, why in errors.items()})
        self._left[target] = {oid: destination.explained(why) for oid, why in self._left[target].items()}

    async def _judge(self, target: str, errors: Errors) -> None:
        """Keep what went wrong for a target, and which refs need what is not to be had from anybody."""
        self._left[target] = errors
        # Nobody can help it where there is no LFS server to have it from or to, or upstream has lost it.
        missing = (oid for oid, error in errors.items() if isinstance(error, MissingError))
        lost = {oid for oid in missing if errors[oid] is self._absent.get(oid)}
        gone = lost | {oid for oid, error in errors.items() if isinstance(error, UnsupportedError)}
        self._hopeless[target] = frozenset(one for one in self.owed[target] if one.oid in gone)
        self._needing[target] = await self._walk(holding, self.tips, self._hopeless[target])

    async def waiting(self, target: str, changes: Sequence[Change]) -> Mapping[str, MirrordError]:
        """Return, with the reason, refs that lack objects at a target, and so must not go. Raises MirrordError."""
        errors, hopeless = self._left.get(target, {}), self._hopeless.get(target, frozenset())
        late = frozenset(one for one in self.owed.get(target, ()) if one.oid in errors and one not in hopeless)
        new = frozenset(change.new for change in changes if change.new)
        stuck: dict[str, MirrordError] = {}
        for tips, pointers in (
            (self._needing.get(target, frozenset()), hopeless),
            (await self._walk(reaching, new, late), late),
        ):
            if tips:
                error = errors[objects.ordered(pointers)[0].oid]
                why = type(error).__new__(type(error))  # whatever its kind needs besides words, it has
                vars(why).update(vars(error))
                why.args = (f"waits for LFS objects that it needs: {error}",)  # the same for all: reported once
                stuck |= {change.ref: why for change in changes if change.new in tips}
        return stuck

    async def _walk(self, walk: Walk, tips: frozenset[str], pointers: Collection[Pointer]) -> frozenset[str]:
        """Ask which tips need the objects of some pointers; once for all targets to which the same happened."""
        blobs = frozenset(pointer.blob for pointer in pointers)
        if not tips or not blobs:
            return frozenset()
        key = (walk, tips, blobs)
        if key not in self._walks:
            self._walks[key] = asyncio.create_task(walk(self.cache.git, self.cache.folder, tips, blobs))
        return await self._walks[key]

    def doubt(self, target: str, errors: Iterable[MirrordError]) -> None:
        """Check everything with the next run, where a host lacks objects that it was recorded to have."""
        if target not in self._left and any(lacks_objects(str(error)) for error in errors):
            self._doubted.add(target)

    def receipt(self, step: Step) -> Receipt:
        """Tell what became of the objects of one target, with all causes in one line."""
        errors, sent = self._left.get(step.target, {}), self.sent[step.target]
        if not errors:
            return Receipt(step, Outcome.DONE, f"LFS objects: {step.reason}", sent=sent)
        total = len({pointer.oid for pointer in self.owed[step.target]})
        first, causes = _causes(list(errors.values()))
        causes = f"{causes}; {'it is' if len(errors) == 1 else 'the first is'} {min(errors)[:12]}"
        if not self._needing[step.target] and errors.keys() <= {one.oid for one in self._hopeless[step.target]}:
            problem = f"{_many(len(errors))} of older commits, which no branch or tag needs, cannot be had: {causes}"
            return Receipt(step, Outcome.LEFT_OUT, problem, first.code, sent=sent, problem=problem)
        detail = f"{len(errors)} of {_many(total)} could not be brought: {causes}"
        return Receipt(step, Outcome(first.outcome), detail, first.code, sent=sent)

    async def settle(self) -> None:
        """Remember what is still owed. Raises StorageError: it cannot be noted."""
        if not self._left and not self._doubted:
            return
        owed = dict(self.owed)
        for name, errors in self._left.items():
            owed[name] = frozenset(pointer for pointer in self.owed[name] if pointer.oid in errors)
        if LOCAL in owed:  # an object that turned out to be damaged is gone
            touched = frozenset[Pointer]().union(*(self.owed[name] for name in self._left))
            owed[LOCAL] |= await asyncio.to_thread(objects.lacking, self.cache.folder, touched)
        async with self.cache.lock:
            await self.cache.lfs.settle(owed, places(self.mirror)[1], self._doubted)

    def _came(self, count: int) -> None:
        self.read += count
        self.services.events.emit(BytesRead(f"{self.mirror.name}/{LOCAL}", count))


def _causes(errors: Sequence[MirrordError]) -> tuple[MirrordError, str]:
    """Return the most frequent error, and one text for each cause; errors of one kind and status are one."""
    kinds = [(type(error), getattr(error, "status", None)) for error in errors]
    ranked = [kind for kind, _ in Counter(kinds).most_common()]
    firsts = [errors[kinds.index(kind)] for kind in ranked]
    more = f"; and {len(firsts) - _CAUSES} more" if len(firsts) > _CAUSES else ""
    return firsts[0], "; ".join(map(str, firsts[:_CAUSES])) + more


def _many(number: int) -> str:
    return "1 LFS object" if number == 1 else f"{number} LFS objects"
