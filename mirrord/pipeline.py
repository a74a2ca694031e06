"""The corridor: one pass over one mirror, through all five rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from mirrord import events
from mirrord.errors import MirrordError, StalledError
from mirrord.model import Plan, Receipt, Run
from mirrord.record.store import Store
from mirrord.syncer import Mirror, Services, Syncer
from mirrord.transfer.execute import execute
from mirrord.wire.trust import redact


async def plan_mirror(mirror: Mirror, syncer: Syncer, services: Services, store: Store, now: datetime) -> Plan:
    """Decide what a run would do, without doing it.

    Raises:
        MirrordError: the source as a whole cannot be read.
    """
    memory = await store.memory(mirror.name)
    return syncer.plan(mirror, await syncer.survey(mirror, services, memory, now), now)


async def run_mirror(
    mirror: Mirror,
    syncer: Syncer,
    services: Services,
    store: Store,
    trigger: str,
    *,
    clock: Callable[[], datetime],
    parallel: int,
) -> Run:
    """Decide, do, remember, tell. What goes wrong is in the run; only cancellation raises.

    A cancelled pass is remembered as interrupted, with the receipts that it had until then.
    """
    tell = services.events.emit
    tell(events.RunStarted(mirror.name, mirror.kind, trigger))
    receipts: list[Receipt] = []
    run = Run(mirror.name, mirror.kind, trigger, clock(), clock(), error="stopped half-way", code="interrupted")

    def done(receipt: Receipt) -> None:
        receipts.append(receipt)
        tell(events.StepDone(mirror.name, receipt))

    try:
        async with asyncio.timeout(mirror.deadline):
            survey = await syncer.survey(mirror, services, await store.memory(mirror.name), run.started)
            run = replace(run, plan=syncer.plan(mirror, survey, run.started))
            assert run.plan is not None
            tell(events.Planned(run.plan))
            async with syncer.open(mirror, survey, services) as session:
                try:
                    await execute(run.plan, session, parallel, done)
                finally:
                    run = replace(run, read=session.read)
        run = replace(run, error="", code="")
    except MirrordError as error:
        run = replace(run, error=str(error), code=error.code)
    except TimeoutError:
        late = f"cancelled at its deadline of {mirror.deadline:.0f} s; raise it, or see what was slow"
        run = replace(run, error=late, code=StalledError.code)
    except Exception as error:
        run = replace(run, error=redact(f"a bug: {error!r}"), code=MirrordError.code)
        raise
    finally:
        run = replace(run, finished=clock(), receipts=tuple(receipts))
        await asyncio.shield(store.add_run(run))
        tell(events.RunFinished(run))
    return run
