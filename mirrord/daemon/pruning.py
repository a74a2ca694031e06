"""Plans and runs that remove at targets what a mirror does not want any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mirrord import pipeline
from mirrord.daemon.runtime import now
from mirrord.errors import UsageError

if TYPE_CHECKING:
    from mirrord.daemon.runtime import Runtime
    from mirrord.model.plan import Plan
    from mirrord.model.run import Run
    from mirrord.syncer.port import Syncer
    from mirrord.syncer.values import PruneWish


async def plan(runtime: Runtime, name: str, wish: PruneWish) -> Plan:
    """See `PlanPrune`."""
    current = runtime.snapshot
    mirror = current.mirror(name)
    async with current.lease():
        syncer = _pruning(runtime, name)(wish)
        return await pipeline.plan_mirror(mirror, syncer, current.services, runtime.store, now())


async def prune(runtime: Runtime, name: str, wish: PruneWish) -> Run:
    """See `Prune`."""
    pruning = _pruning(runtime, name)
    return await runtime.runner.sync(name, "prune", change=lambda mirror, _: (mirror, pruning(wish)))


def _pruning(runtime: Runtime, name: str) -> Callable[[PruneWish], Syncer]:
    current = runtime.snapshot
    mirror = current.mirror(*current.to_run([name]))
    pruning = current.syncer(mirror).pruning
    if pruning is None:
        raise UsageError(f"{name}: `mirrord prune` is not for mirrors of kind {mirror.kind} yet")
    return pruning
