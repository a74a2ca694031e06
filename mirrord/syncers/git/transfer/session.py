"""One run over a repository: the served refs first, then every destination on its own, from the one cache."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from mirrord.errors import ContentError, MirrordError
from mirrord.events import BytesSent
from mirrord.model.ledger import settled
from mirrord.model.plan import Step
from mirrord.model.run import Receipt
from mirrord.syncer.port import OnReceipt
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.git.kept.cache import MirrorCache
from mirrord.syncers.git.names import forge_at, options_of, source_address, spec_of, target_address
from mirrord.syncers.git.plan.lost_objects import LostObject, lost_objects
from mirrord.syncers.git.plan.steps import LFS, decide
from mirrord.syncers.git.plan.survey import GitSurvey
from mirrord.syncers.git.transfer.destinations import GitDestination, Push
from mirrord.syncers.git.transfer.lfs import LfsTransfer
from mirrord.syncers.git.transfer.rescue import Secured, rescue, rescue_objects
from mirrord.syncers.git.transfer.target_push import TargetPush, done
from mirrord.transfer.execute import failed, tell
from mirrord.transfer.fanout import deliberate
from mirrord.wire.git.cache.damage import doubtful
from mirrord.wire.git.cache.maintenance import pack_refs
from mirrord.wire.git.cache.repository import STAMP
from mirrord.wire.git.refs import Refs
from mirrord.wire.offload import offload

_Made = TypeVar("_Made")


def _moves(before: Mapping[str, str], after: Mapping[str, str]) -> Mapping[str, tuple[str | None, str | None]]:
    moves = {ref: (before.get(ref), after.get(ref)) for ref in {**before, **after}}
    return {ref: move for ref, move in moves.items() if move[0] != move[1]}


class GitSession:
    """Fulfils `mirrord.syncer.port.Session`."""

    def __init__(self, mirror: Mirror, survey: GitSurvey, services: Services) -> None:
        """Begin a run over what was found, and planned from."""
        self._mirror, self._survey, self._services = mirror, survey, services
        self._cache = MirrorCache(mirror, services)
        self._adopted = self._suspect = False
        self._secured = Secured()
        self._done: set[tuple[str, str]] = set()
        self._lfs = LfsTransfer(mirror, services, self._cache, survey.lfs, survey.wanted.objects)

    @property
    def read(self) -> int:
        """Bytes that came from upstream."""
        return self._survey.read + self._lfs.read

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        """Serve what is wanted, then push it to all targets at once, and tell what became of each ref.

        Raises:
            MirrordError: the cache cannot be changed; no target was touched.
        """
        targets = {target.name: target for target in self._mirror.targets}
        names = dict.fromkeys(step.target for step in batch)
        mine = await self._aside(lambda: {name: tuple(step for step in batch if step.target == name) for name in names})
        pushes = [TargetPush(targets[name], steps) for name, steps in mine.items()]
        async with self._cache.pushing:
            pushes = await self._completed(pushes)
            await self._secure(frozenset(targets) - {push.target.name for push in pushes if push.work})
            await self._lfs.fetch([push.target.name for push in pushes if push.lfs])
            await self._adopt()
            if self._survey.unsearched is not None:
                self._suspect |= doubtful(self._survey.unsearched)
                raise self._survey.unsearched
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tidy())  # while the hosts are busy with what they get
                for push in pushes:
                    group.create_task(self._deliver(push, on_receipt))
            kept, gone = self._secured.outcomes(self._done)
            if kept or gone:
                async with self._cache.lock:
                    await self._cache.backup_notes.add(self._survey.at.strftime(STAMP), kept, gone)
            await self._lfs.settle()

    async def finish(self) -> None:
        """Serve what is wanted, if no target needed a push, and maintain the cache. Raises MirrordError."""
        async with self._cache.pushing:
            if not self._survey.accident and not self._adopted:
                self._secured = Secured(await self._lost(frozenset(target.name for target in self._mirror.targets)))
                await self._adopt()
            async with self._cache.lock:
                await self._cache.care(self._survey.at, spec_of(self._mirror).backups, suspect=self._suspect)

    async def _tidy(self) -> None:
        with contextlib.suppress(MirrordError):  # the next look at the cache says what is wrong with it
            await pack_refs(self._cache.git, self._cache.folder)

    async def _lost(self, refused: frozenset[str]) -> tuple[LostObject, ...]:
        if not spec_of(self._mirror).backups:
            return ()
        return await offload(self._survey.upstream.size, lost_objects, self._mirror, self._survey, refused)

    async def _secure(self, refused: frozenset[str]) -> None:
        """Fetch what only targets have and are about to lose."""
        mirror, found = self._mirror, await self._lost(refused)
        places = {target.name: target_address(mirror, target) for target in mirror.targets if target.name != LOCAL}
        unsaved = await rescue(self._cache, found, places)
        large = spec_of(mirror).lfs
        without = await rescue_objects(self._cache, self._services.http, found, unsaved, places) if large else {}
        command = f"mirrord sync {mirror.name} --allow"
        self._secured = Secured(found, unsaved, without, allow=mirror.allow, command=command)

    async def _adopt(self) -> None:
        served, wanted = self._survey.served, await self._aside(lambda: self._survey.kept)
        self._adopted = True
        kept = self._secured.backups
        changed = served is None or served.refs != wanted.refs
        if changed or not await self._cache.baseline.knows(served):
            await self._cache.baseline.accept(*filter(None, (served, wanted)))
        if changed or kept or wanted.head not in (served.head if served else None, None):
            local = any(target.name == LOCAL for target in self._mirror.targets)
            moves = await self._aside(lambda: _moves(served.refs if served else {}, wanted.refs)) if local else {}
            async with self._cache.lock, self._services.ledger.moving(LOCAL, moves):
                await self._cache.adopt(wanted, kept, self._survey.at.strftime(STAMP))

    async def _completed(self, pushes: Sequence[TargetPush]) -> list[TargetPush]:
        """Look once more at targets that could not be seen, and decide what the one step of each stands for."""
        unseen = [push for push in pushes if push.unseen]
        if not unseen:
            return list(pushes)
        looks = await asyncio.gather(*(self._look(push.target) for push in unseen))
        seen = {push.target.name: look for push, look in zip(unseen, looks, strict=True)}
        fresh = {name: look for name, look in seen.items() if not isinstance(look, MirrordError)}
        unasked = {name: why for name, why in self._survey.unasked.items() if name not in fresh}
        survey = replace(self._survey, targets={**self._survey.targets, **fresh}, unasked=unasked)
        self._survey = await self._cache.related(survey)
        targets = [push.target for push in unseen if push.target.name in fresh]
        steps = await asyncio.to_thread(decide, self._mirror, self._survey, targets)
        return [push.seen(seen[push.target.name], steps) if push.unseen else push for push in pushes]

    async def _look(self, target: Target) -> Refs | MirrordError | None:
        try:
            return await self._destination(target).look()
        except MirrordError as error:
            return error

    async def _deliver(self, push: TargetPush, on_receipt: OnReceipt) -> None:
        """Do what is to be done at one target; what befalls it hurts no other."""
        try:
            receipts = await self._outcomes(push)
        except Exception as error:  # noqa: BLE001 - a bug that one target brings out is that target's failure
            wrong = deliberate(error)
            receipts = [failed(step, wrong) for step in push.work]
        self._done |= {(push.target.name, receipt.step.item) for receipt in receipts if receipt.good}
        self._suspect |= any(receipt.code == ContentError.code for receipt in receipts)
        await tell(await self._aside(lambda: push.answered(receipts)), on_receipt)

    async def _aside(self, work: Callable[[], _Made]) -> _Made:
        """Return what `work` makes of all refs; of many beside the event loop."""
        return await offload(self._survey.upstream.size, work)

    async def _outcomes(self, push: TargetPush) -> Sequence[Receipt]:
        if not push.away:
            return await self._aside(
                lambda: [self._lfs.receipt(step) if step.item == LFS else done(step) for step in push.work]
            )
        name, destination = push.target.name, self._destination(push.target)
        held = self._survey.targets.get(name)
        async with self._cache.locks.hold(destination.address):
            note = ""
            if held is None:
                description = f"Mirror of {source_address(self._mirror)}"
                note = await destination.make(options_of(push.target).visibility, description)
            if push.lfs:
                await self._lfs.send(name, destination)
            attempt = Push(destination, partial(self._sent, name))
            changes = await self._aside(lambda: push.changes(held or Refs({})))
            held_back = self._secured.held_back(changes)
            todo = tuple(change for change in changes if change.ref not in held_back)
            stuck = {**held_back, **await self._lfs.waiting(name, todo)}
            todo = tuple(change for change in todo if change.ref not in stuck)
            moves = {change.ref: (change.old, change.new) for change in todo}
            async with self._services.ledger.moving(name, moves) as outcomes:
                await attempt.carry_out(held or Refs({}), todo, push.head)
                outcomes.update((ref, settled(*move, attempt.after.refs.get(ref))) for ref, move in moves.items())
            attempt.errors |= stuck
        self._lfs.doubt(name, attempt.errors.values())
        old = {change.ref: change.old for change in changes}
        receipts = await self._aside(
            lambda: [
                self._lfs.receipt(step)
                if step.item == LFS
                else self._secured.corrected(push.receipt(step, attempt, note), old.get(step.item))
                for step in push.work
            ]
        )
        pushed = {change.ref for change in todo if change.new}
        first = next((number for number, one in enumerate(receipts) if one.step.item in pushed), None)
        if first is not None:  # one pack has what all refs need: it is counted once
            receipts[first] = replace(receipts[first], sent=attempt.sent)
        return receipts

    def _sent(self, target: str, count: int) -> None:
        self._services.events.emit(BytesSent(f"{self._mirror.name}/{target}", count))

    def _destination(self, target: Target) -> GitDestination:
        cache, http = self._cache, self._services.http
        forge = forge_at(self._mirror, target)
        return GitDestination(target_address(self._mirror, target), forge, cache.git, http, cache.folder)
