"""Restores what runs overwrote or deleted: from backups that a kind keeps, or by the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mirrord import pipeline
from mirrord.daemon.runtime import now
from mirrord.errors import TakenDownError, UsageError
from mirrord.plan.restored import Restored
from mirrord.plan.restoring import Standing, chosen, earlier, standing, undoing
from mirrord.syncer.restoring import FACTS, Resetting, RestoreWish

if TYPE_CHECKING:
    from mirrord.commands import PlanRestore, Restore
    from mirrord.daemon.runtime import Runtime, Snapshot
    from mirrord.model.plan import Plan
    from mirrord.model.run import Run
    from mirrord.syncer.port import Syncer
    from mirrord.syncer.values import Backup, Mirror, Services

LOOKED_AT: Final = 1000
"""Earlier contents, the newest of them, of which it is asked where they are."""


async def backups(runtime: Runtime, name: str) -> tuple[Backup, ...]:
    """See `Backups`."""
    current, mirror, syncer = _restorable(runtime, name)
    async with current.lease():
        if syncer.restores:
            return tuple(await syncer.restores.backups(mirror, current.services))
        found, names, _ = await _earlier(runtime, mirror, syncer)
        return tuple(await _with_where(found, names, _resets(syncer), mirror, current.services))


async def restore(runtime: Runtime, command: Restore) -> Run:
    """See `Restore`. Raises TakenDownError before anything is noted that a run after a lift would do."""
    current, mirror, syncer = _restorable(runtime, command.mirror)
    if reason := current.denying(mirror.name):
        raise TakenDownError(f"{mirror.name}: taken down, so nothing of it is restored: {reason}")
    if syncer.restores:
        if command.run is not None:
            of_git = "restore its backups: `mirrord restore NAME 'TIME/*'`"
            raise UsageError(f"{mirror.name}: --run is for images and charts; {of_git}")
        async with runtime.runner.leases.hold(mirror.name), current.lease():
            await syncer.restores.restore(mirror, current.services, command.backups, release=command.release)
        return await runtime.runner.sync(mirror.name, allow=True)
    if command.release:
        async with runtime.runner.leases.hold(mirror.name), current.lease():
            facts, at, called = await runtime.store.recall(mirror.name, FACTS), now(), _resets(syncer).called
            left = lambda: Restored.read(facts).releasing(command.backups, at, called).facts(at)  # noqa: E731 - as short as a name
            await runtime.store.note(mirror.name, FACTS, await asyncio.to_thread(left))
        return await runtime.runner.sync(mirror.name)
    variant = await _variant(runtime, mirror, syncer, command)
    return await runtime.runner.sync(mirror.name, "restore", change=lambda mirror, _: (mirror, variant))


async def plan_restore(runtime: Runtime, command: PlanRestore) -> Plan:
    """See `PlanRestore`."""
    current, mirror, syncer = _restorable(runtime, command.mirror)
    if syncer.restores:
        raise UsageError(f"{mirror.name}: --dry-run is for images and charts; `mirrord restore NAME` lists backups")
    async with current.lease():
        variant = await _variant(runtime, mirror, syncer, command)
        return await pipeline.plan_mirror(mirror, variant, current.services, runtime.store, now())


def _restorable(runtime: Runtime, name: str) -> tuple[Snapshot, Mirror, Syncer]:
    """Return a mirror with its kind. Raises UsageError: nothing of that kind can be restored."""
    current = runtime.snapshot
    mirror = current.mirror(name)
    syncer = current.syncer(mirror)
    if syncer.restores is None and syncer.resets is None:
        raise UsageError(f"{name}: mirrors of kind {mirror.kind} keep nothing that could be brought back")
    return current, mirror, syncer


def _resets(syncer: Syncer) -> Resetting:
    assert syncer.resets is not None
    return syncer.resets()


async def _earlier(
    runtime: Runtime, mirror: Mirror, syncer: Syncer
) -> tuple[Sequence[Backup], Mapping[str, str], Standing]:
    """List what the ledger has of a mirror, after what is restored now.

    Also return its names by item, and what they stand for now.
    """
    facts = await runtime.store.recall(mirror.name, FACTS)
    moves, called = await runtime.store.moves(mirror.name), _resets(syncer).called

    def look() -> tuple[Sequence[Backup], Mapping[str, str], Standing]:
        places = syncer.places(mirror)[1]
        found = earlier(moves, places, Restored.read(facts), called)
        return found, {called(one.name): one.name for one in moves}, standing(moves, places, called)

    return await asyncio.to_thread(look)


async def _with_where(
    found: Sequence[Backup], names: Mapping[str, str], resets: Resetting, mirror: Mirror, services: Services
) -> list[Backup]:
    """Add where the newest of them are now; `names` has the names of the ledger by item."""
    asked: dict[str, set[str]] = {}
    for one in found[:LOOKED_AT]:
        asked.setdefault(names.get(one.item, one.item), set()).update(filter(None, [one.digest]))
    where = await resets.where(mirror, services, {name: those for name, those in asked.items() if those})
    return await asyncio.to_thread(lambda: [replace(one, where=where.get(one.digest, "")) for one in found])


async def _variant(runtime: Runtime, mirror: Mirror, syncer: Syncer, command: Restore | PlanRestore) -> Syncer:
    """Return the variant of a kind that does what was asked for. Raises UsageError: that means nothing."""
    resets = _resets(syncer)
    if command.run is None:
        listed, names, at = await _earlier(runtime, mirror, syncer)
        targets = [target.name for target in mirror.targets]

        def meant() -> RestoreWish:
            wanted = chosen(mirror.name, command.backups, listed, targets, at)
            return RestoreWish({(target, names[item]): one for (target, item), one in wanted.items()})

        return resets.variant(await asyncio.to_thread(meant))
    return resets.variant(await _undoing(runtime, mirror, syncer, command.run))


async def _undoing(runtime: Runtime, mirror: Mirror, syncer: Syncer, number: int) -> RestoreWish:
    runs = await runtime.store.runs(mirror.name, 1, number + 1)
    if not runs or runs[0].id != number:
        raise UsageError(f"{mirror.name}: no run {number} is known; `mirrord runs {mirror.name}` lists them")
    moves, places = await runtime.store.moves(mirror.name), syncer.places(mirror)[1]
    return RestoreWish(await asyncio.to_thread(undoing, mirror.name, number, runs[0].started, moves, places))
