"""Restores in a world of images, as `mirrord restore` does them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mirrord.model.plan import Plan
from mirrord.model.run import Run
from mirrord.pipeline import plan_mirror, run_mirror
from mirrord.plan.restored import Names, Restored
from mirrord.plan.restoring import chosen, earlier, standing, undoing
from mirrord.syncer.restoring import FACTS, RestoreWish
from mirrord.syncer.values import Backup, Mirror
from mirrord.syncers.image.upstream.restored import resetting
from tests.support.world import IMAGE, World


async def earlier_of(world: World, mirror: Mirror) -> Sequence[Backup]:
    """List earlier contents, and where they are."""
    resets = resetting(IMAGE)
    restored = await _restored(world, mirror)
    found = earlier(await world.store.moves(mirror.name), IMAGE.places(mirror)[1], restored)
    names = {one.item: {other.digest for other in found if other.item == one.item} for one in found}
    where = await resets.where(mirror, world.services, names)
    return [replace(one, where=where[one.digest]) for one in found]


async def restore(world: World, mirror: Mirror, *texts: str) -> Run:
    """Restore names."""
    return await _walk(world, mirror, await _names(world, mirror, texts))


async def plan_restore(world: World, mirror: Mirror, *texts: str) -> Plan:
    """Plan to restore names."""
    syncer = resetting(IMAGE).variant(RestoreWish(await _names(world, mirror, texts)))
    return await plan_mirror(mirror, syncer, world.services, world.store, world.now)


async def undo(world: World, mirror: Mirror, run: Run) -> Run:
    """Undo a run."""
    moves = await world.store.moves(mirror.name)
    return await _walk(world, mirror, undoing(mirror.name, 1, run.started, moves, IMAGE.places(mirror)[1]))


async def release(world: World, mirror: Mirror, *texts: str) -> None:
    """Release names."""
    restored = await _restored(world, mirror)
    await world.store.note(mirror.name, FACTS, restored.releasing(texts, world.now).facts(world.now))


async def _restored(world: World, mirror: Mirror) -> Restored:
    return Restored.read(await world.store.recall(mirror.name, FACTS))


async def _names(world: World, mirror: Mirror, texts: Sequence[str]) -> Names:
    restored = await _restored(world, mirror)
    moves, places = await world.store.moves(mirror.name), IMAGE.places(mirror)[1]
    listed, targets = earlier(moves, places, restored), [target.name for target in mirror.targets]
    return chosen(mirror.name, texts, listed, targets, standing(moves, places))


async def _walk(world: World, mirror: Mirror, names: Names) -> Run:
    syncer = resetting(IMAGE).variant(RestoreWish(names))
    services, clock, parallel = world.services, lambda: world.now, world.parallel
    return await run_mirror(mirror, syncer, services, world.store, "restore", clock=clock, parallel=parallel)
