"""Carries out commands, each by the method of its name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from mirrord import __version__, pipeline
from mirrord.asking.asked import AskedImage
from mirrord.commands import (
    AskImages,
    Backups,
    Cancel,
    Changes,
    CollectGarbage,
    Command,
    Delivered,
    GetCatalog,
    GetDenied,
    GetMirrors,
    GetRuns,
    GetStatus,
    Lift,
    LookAtFront,
    PlanMirrors,
    PlanPrune,
    PlanRestore,
    Prune,
    Publish,
    Reload,
    Restore,
    Sync,
    Takedown,
    TryReceiver,
    Verify,
    word,
)
from mirrord.daemon import cancelling, pruning, restoring
from mirrord.daemon.asking import AskDesk
from mirrord.daemon.catalog import catalog
from mirrord.daemon.collecting import GarbageCollection
from mirrord.daemon.detail import add_record, add_uses
from mirrord.daemon.fronts import look_at_front
from mirrord.daemon.notifying import receivers_of, try_receiver
from mirrord.daemon.rows import Items
from mirrord.daemon.runner import STOPPING
from mirrord.daemon.runtime import Runtime, now
from mirrord.daemon.seen_fleet import elsewhere, seen_from, status_of
from mirrord.daemon.takedown import Takedowns
from mirrord.daemon.verifier import Verifier
from mirrord.errors import BusyError, MirrordError, StorageError, UsageError
from mirrord.model.cancelled import CancelledRun
from mirrord.model.catalog import CatalogPart
from mirrord.model.collected import Collected
from mirrord.model.history import RunRecord
from mirrord.model.plan import Plan
from mirrord.model.run import Run
from mirrord.model.takedown import DeniedThing, TakenDown
from mirrord.model.verification import Verification
from mirrord.report.board import Board
from mirrord.report.documents import PIECE
from mirrord.report.mirror import ITEMS, MirrorDetail, Wish
from mirrord.report.status import Status
from mirrord.syncer.port import Syncer
from mirrord.syncer.serving import FrontLook, OpenedThrough
from mirrord.syncer.values import Backup, Mirror

_Answer = TypeVar("_Answer")


class Dispatcher:
    """Carries out commands over what is open in this process."""

    def __init__(self, runtime: Runtime, listen: str = "") -> None:
        """Use what is open; `listen` is where the server of this process listens, "" without one."""
        self.runtime = runtime
        self._listen = listen
        self.verifier = Verifier(runtime)
        self.collecting = GarbageCollection(runtime, runtime.collector) if runtime.collector else None
        self.troubles: list[str] = []  # what else a command says, beside its answer
        self._denying = asyncio.Lock()  # one takedown at a time: each one changes the file
        self.desk = AskDesk(runtime, listen)
        self.opened: dict[str, OpenedThrough] = {}  # by kind, what serves in place of its front

    async def carry_out(self, command: Command[_Answer]) -> _Answer:
        """Return the answer to a command. Runs go on when the caller is cancelled.

        Raises:
            UsageError: a mirror is not configured, or its kind cannot do that.
            BusyError: we are stopping.
        """
        answer: _Answer = await getattr(self, word(type(command)))(command)
        return answer

    async def sync(self, command: Sync) -> tuple[Run, ...]:
        """See `Sync`."""
        change, sync = _named if command.mirrors else None, self.runtime.runner.sync
        names = self.runtime.snapshot.to_run(command.mirrors)
        if not names:
            return ()
        runs = await self._each(names, lambda name: sync(name, allow=command.allow, change=change))
        await self.collect_after_runs()
        return runs

    async def cancel(self, command: Cancel) -> tuple[CancelledRun, ...]:
        """See `Cancel`."""
        return await cancelling.cancel(self.runtime, command.mirrors)

    async def ask_images(self, command: AskImages) -> tuple[AskedImage, ...]:
        """See `AskImages`."""
        self._chosen(())
        return await self.desk.ask_all(command.images, command.platforms)

    async def plan_mirrors(self, command: PlanMirrors) -> tuple[Plan, ...]:
        """See `PlanMirrors`."""

        async def plan(name: str) -> Plan:
            current = self.runtime.snapshot
            mirror = replace(current.mirror(name), explain=command.explain, named=bool(command.mirrors))
            async with current.lease():
                syncer, services = current.syncer(mirror), current.services
                store, sizes = self.runtime.store, command.sizes
                return await pipeline.plan_mirror(mirror, syncer, services, store, now(), sizes=sizes)

        return await self._each(self.runtime.snapshot.to_run(command.mirrors), plan)

    async def publish(self, command: Publish) -> Run:
        """See `Publish`."""
        (name,) = self._chosen([command.mirror])
        run = await self.runtime.runner.publish(name, command.publication)
        await self.collect_after_runs()
        return run

    async def plan_prune(self, command: PlanPrune) -> tuple[Plan, ...]:
        """See `PlanPrune`."""
        return await self._each(command.mirrors, lambda name: pruning.plan(self.runtime, name, command.wish))

    async def prune(self, command: Prune) -> tuple[Run, ...]:
        """See `Prune`."""
        return await self._each(command.mirrors, lambda name: pruning.prune(self.runtime, name, command.wish))

    async def backups(self, command: Backups) -> tuple[Backup, ...]:
        """See `Backups`."""
        self._chosen([command.mirror])
        return await restoring.backups(self.runtime, command.mirror)

    async def restore(self, command: Restore) -> Run:
        """See `Restore`."""
        self._chosen([command.mirror])
        return await restoring.restore(self.runtime, command)

    async def plan_restore(self, command: PlanRestore) -> Plan:
        """See `PlanRestore`."""
        self._chosen([command.mirror])
        return await restoring.plan_restore(self.runtime, command)

    async def verify(self, command: Verify) -> tuple[Verification, ...]:
        """See `Verify`."""
        level, repair = command.level, command.repair
        names = command.mirrors or self.runtime.snapshot.allowed()
        return await self._each(names, lambda name: self.verifier.verify(name, level, repair=repair))

    async def collect_garbage(self, command: CollectGarbage) -> Collected:
        """See `CollectGarbage`."""
        self._chosen(())
        return await self.collecting.collect(dry=command.dry) if self.collecting else Collected(dry=command.dry)

    async def collect_after_runs(self) -> None:
        """Let go what is not kept, where a command ran mirrors by itself; what is wrong with that fails no run."""
        if self.collecting and self.collecting.wanted:
            try:
                self.troubles += (await self.collecting.collect()).troubles
            except (MirrordError, OSError) as error:
                self.troubles.append(str(error))

    async def takedown(self, command: Takedown) -> TakenDown:
        """See `Takedown`."""
        async with self._denying:
            return await self._takedowns().take_down(command.what, command.reason, command.item, adopt=command.adopt)

    async def lift(self, command: Lift) -> str:
        """See `Lift`."""
        async with self._denying:
            return await self._takedowns().lift(command.what, command.item)

    async def get_denied(self, _: GetDenied) -> tuple[DeniedThing, ...]:
        """See `GetDenied`."""
        return await self._takedowns().listed()

    def _takedowns(self) -> Takedowns:
        return Takedowns(self.runtime, self.opened)

    async def get_status(self, _: GetStatus) -> Status:
        """See `GetStatus`."""
        board = Board(await self.runtime.store.standing())
        current, fleet = self.runtime.snapshot, self.runtime.fleet
        here, replicas = await seen_from(fleet) if fleet else ("", ())
        status = board.status(
            __version__,
            now(),
            current.configuration.mirrors,
            running={**elsewhere(replicas, here), **self.runtime.runner.running()},
            addresses=current.addresses(),
            denied=current.denied(),
        )
        return replace(
            status,
            notify=receivers_of(current.configuration),
            replicas=tuple(map(status_of, replicas)),
            replica=here,
            replicas_at=status.now if fleet else None,
            waiting=(await fleet.waiting()).count if fleet else 0,
        )

    async def get_catalog(self, command: GetCatalog) -> tuple[CatalogPart, ...]:
        """See `GetCatalog`."""
        current = self.runtime.snapshot
        found = await catalog(current, self.runtime.store, current.chosen(command.mirrors))
        return tuple(CatalogPart(tuple(found[start : start + PIECE])) for start in range(0, len(found), PIECE))

    async def get_mirrors(self, command: GetMirrors) -> tuple[MirrorDetail, ...]:
        """See `GetMirrors`."""
        status, current = await self.get_status(GetStatus()), self.runtime.snapshot
        url = current.configuration.settings.address(self._listen)
        found, parts = {mirror.name: mirror for mirror in status.mirrors}, list[MirrorDetail]()
        for name in current.matching(command.mirrors):
            if name in found:
                bare = MirrorDetail(found[name], status.now, schedule=current.mirror(name).schedule)
                detail = await add_record(bare, current, self.runtime.store, Wish())
                parts.append(await asyncio.to_thread(add_uses, detail, current, url, Wish()))
                if command.every and detail.more:
                    items, after = await Items.open(current, self.runtime.store, name), detail.next
                    while after:
                        rows, after = await items.part(ITEMS, after)
                        parts.append(replace(bare, items=rows, next=after))
        return tuple(parts)

    async def get_runs(self, command: GetRuns) -> tuple[RunRecord, ...]:
        """See `GetRuns`."""
        name = self.runtime.snapshot.mirror(command.mirror).name
        return tuple(await self.runtime.store.runs(name, command.limit, command.before))

    async def look_at_front(self, command: LookAtFront) -> FrontLook:
        """See `LookAtFront`; where no daemon holds the front open it is opened for the time being."""
        return await look_at_front(self.runtime, self.opened, self._listen, command.reference)

    async def try_receiver(self, command: TryReceiver) -> Delivered:
        """See `TryReceiver`."""
        return await try_receiver(self.runtime.snapshot.configuration, command.receiver, now())

    async def reload(self, _: Reload) -> Changes:
        """See `Reload`; UsageError where there is no daemon."""
        raise UsageError(Reload.of_daemons)

    async def follow_denied(self) -> None:
        """Use what the file of `settings.denied` says now; raises as `Takedowns.take_down`."""
        await self._takedowns().reread()
        await self.follow_fronts()

    async def follow_fronts(self) -> None:
        """Let open fronts apply the configuration in use, and read their lists."""
        for front in self.opened.values():
            with suppress(StorageError):  # the next request reports it
                await front.follow()

    def _chosen(self, names: Sequence[str]) -> Sequence[str]:
        if self.runtime.runner.stopping:
            raise BusyError(STOPPING)
        return self.runtime.snapshot.chosen(names)

    async def _each(self, names: Sequence[str], work: Callable[[str], Awaitable[_Answer]]) -> tuple[_Answer, ...]:
        """Work on these mirrors, or all, some at once; what is wrong with one is raised when all are through."""
        free = asyncio.Semaphore(self.runtime.snapshot.configuration.settings.parallel)

        async def limited(name: str) -> _Answer:
            async with free:
                return await work(name)

        ends: list[Any] = await asyncio.gather(*map(limited, self._chosen(names)), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return tuple(ends)


def _named(mirror: Mirror, syncer: Syncer) -> tuple[Mirror, Syncer]:
    """Return what runs for somebody who named the mirror."""
    return replace(mirror, named=True), syncer
