"""Restores in a world of chart mirrors, as `mirrord restore` does them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mirrord.model.plan import Plan
from mirrord.model.run import Run
from mirrord.pipeline import plan_mirror, run_mirror
from mirrord.plan.restored import Restored
from mirrord.plan.restoring import chosen, earlier, standing, undoing
from mirrord.syncer.restoring import FACTS, RestoreWish
from mirrord.syncer.values import Backup, Mirror
from mirrord.syncers.helm.plan.restored import called
from tests.support.chartruns import HELM, ChartRuns


async def earlier_of(runs: ChartRuns, mirror: Mirror) -> Sequence[Backup]:
    """List earlier archives, and where they are."""
    assert HELM.resets
    found, names = await _earlier(runs, mirror), await _names(runs, mirror)
    asked: dict[str, set[str]] = {}
    for one in found:
        asked.setdefault(names[one.item], set()).update(filter(None, [one.digest]))
    where = await HELM.resets().where(mirror, runs.services, {name: those for name, those in asked.items() if those})
    return [replace(one, where=where.get(one.digest, "")) for one in found]


async def restore(runs: ChartRuns, mirror: Mirror, *texts: str) -> Run:
    """Restore versions."""
    return await walk(runs, mirror, await _wish(runs, mirror, texts))


async def plan_restore(runs: ChartRuns, mirror: Mirror, *texts: str) -> Plan:
    """Plan to restore versions."""
    assert HELM.resets
    syncer = HELM.resets().variant(await _wish(runs, mirror, texts))
    return await plan_mirror(mirror, syncer, runs.services, runs.store, runs.now)


async def undo(runs: ChartRuns, mirror: Mirror, run: Run) -> Run:
    """Undo a run."""
    moves = await runs.store.moves(mirror.name)
    return await walk(runs, mirror, RestoreWish(undoing(mirror.name, 1, run.started, moves, HELM.places(mirror)[1])))


async def release(runs: ChartRuns, mirror: Mirror, *texts: str) -> None:
    """Release versions."""
    assert runs.services.facts
    restored = await _restored(runs, mirror)
    await runs.services.facts.note(mirror.name, FACTS, restored.releasing(texts, runs.now, called).facts(runs.now))


async def walk(runs: ChartRuns, mirror: Mirror, wish: RestoreWish) -> Run:
    """Walk the way of a restore."""
    assert HELM.resets
    syncer = HELM.resets().variant(wish)
    clock = lambda: runs.now  # noqa: E731 - as short as a name
    return await run_mirror(mirror, syncer, runs.services, runs.store, "restore", clock=clock, parallel=runs.parallel)


async def _restored(runs: ChartRuns, mirror: Mirror) -> Restored:
    assert runs.services.facts
    return Restored.read(await runs.services.facts.recall(mirror.name, FACTS))


async def _earlier(runs: ChartRuns, mirror: Mirror) -> Sequence[Backup]:
    moves = await runs.store.moves(mirror.name)
    return earlier(moves, HELM.places(mirror)[1], await _restored(runs, mirror), called)


async def _names(runs: ChartRuns, mirror: Mirror) -> Mapping[str, str]:
    return {called(one.name): one.name for one in await runs.store.moves(mirror.name)}


async def _wish(runs: ChartRuns, mirror: Mirror, texts: Sequence[str]) -> RestoreWish:
    names, targets = await _names(runs, mirror), [target.name for target in mirror.targets]
    now = standing(await runs.store.moves(mirror.name), HELM.places(mirror)[1], called)
    wanted = chosen(mirror.name, texts, await _earlier(runs, mirror), targets, now)
    return RestoreWish({(target, names[item]): digest for (target, item), digest in wanted.items()})
