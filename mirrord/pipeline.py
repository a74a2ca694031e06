"""The pipeline: one pass over one mirror, through all five stages."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from mirrord import events
from mirrord.errors import DeadlineError, FencedError, MirrordError, StoppedError, TakenDownError
from mirrord.model.memory import NO_MEMORY, Memory
from mirrord.model.plan import Plan
from mirrord.model.run import ELSEWHERE, SHARING, Receipt, Result, Run
from mirrord.record.ledger import RunLedger, settle
from mirrord.record.store import Store
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror, Services
from mirrord.transfer.execute import execute
from mirrord.wire.http.asker import Asker, asking
from mirrord.wire.secret import bug

if TYPE_CHECKING:
    from mirrord.record.leases import Fence

SOONEST: Final = 60.0
"""Seconds after which a deferred run continues at the earliest: one pass may wait for many short pauses."""


async def plan_mirror(
    mirror: Mirror, syncer: Syncer, services: Services, store: Store, now: datetime, *, sizes: bool = False
) -> Plan:
    """Plan a run without executing it; `Plan.error` says why that is impossible.

    With `sizes` the source is asked for sizes that a run does not need.
    """
    memory = await asyncio.to_thread(believable, await store.memory(mirror.name), places(mirror, syncer))
    try:
        ledger = RunLedger(store, mirror.name, now, syncer.places(mirror)[1], lambda: now)
        services = replace(services, ledger=ledger)  # a plan moves nothing, but may read it
        plan = await decide(mirror, syncer, services, memory, now)
        return await syncer.measured(mirror, plan, services) if sizes and syncer.measured else plan
    except MirrordError as error:
        return Plan(mirror.name, mirror.kind, now, error=str(error), code=error.code)
    except Exception as error:  # noqa: BLE001 - a bug in one mirror must not hide the plans of others
        return Plan(mirror.name, mirror.kind, now, error=bug(error), code=MirrordError.code)


async def decide(mirror: Mirror, syncer: Syncer, services: Services, memory: Memory, now: datetime) -> Plan:
    """Survey and plan once, so that the printed plan is the executed one.

    Raises:
        TakenDownError: nothing of the mirror may be mirrored.
        MirrordError: the source cannot be read.
    """
    if services.denied and not syncer.removes and (entry := services.denied.mirror(mirror.name)):
        raise TakenDownError(f"{mirror.name}: taken down, so nothing of it is mirrored: {entry.reason}")
    survey = await syncer.survey(mirror, services, await asyncio.to_thread(of_source, memory), now)

    def decided() -> Plan:
        plan = syncer.plan(mirror, survey, now)
        _ = plan.active  # computed here, since listeners read it on the event loop
        return plan

    return await asyncio.to_thread(decided)


def places(mirror: Mirror, syncer: Syncer) -> Mapping[str, str]:
    """Return, by target, the place that a record must have to be valid: origin and address of the target."""
    origin, targets = syncer.places(mirror)
    return {name: f"{origin} > {place}" for name, place in targets.items()}


def believable(memory: Memory, now_at: Mapping[str, str]) -> Memory:
    """Drop records of other places: the operator changed `from`, `to` or `as`.

    The build of a name depends on the target's address alone, not on the origin.
    """
    known = {key: known for key, known in memory.items() if known.place == now_at.get(key[0])}
    at = {target: place.rpartition(" > ")[2] for target, place in now_at.items()}
    names = {key: named for key, named in memory.names.items() if named.place.rpartition(" > ")[2] == at.get(key[0])}
    return Memory(known, names)


def of_source(memory: Memory) -> Memory:
    """Drop the content of moving names that builds have: the source need not have it under that name."""
    builds = {key for key, named in memory.names.items() if named.beside and not named.stays}
    return Memory({key: seen for key, seen in memory.items() if key not in builds}, memory.names) if builds else memory


class _Ended:
    """The receipts of a run as they come, and by target the seconds from the first transfer to the last receipt."""

    def __init__(self, mirror: str, tell: Callable[[events.Event], None]) -> None:
        self._mirror, self._tell, self._began = mirror, tell, 0.0
        self.receipts: list[Receipt] = []
        self.took: dict[str, float] = {}

    def begin(self) -> Callable[[Receipt], None]:
        """Return the listener for receipts; transfers begin now."""
        self._began = time.monotonic()
        return self._take

    def _take(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)
        self.took[receipt.step.target] = time.monotonic() - self._began
        self._tell(events.StepDone(self._mirror, receipt))


@dataclass(slots=True)
class RunLimit:
    """Ends a run at its deadline, or when somebody asks for that.

    Attributes:
        why: what somebody said who ended it, or "".
    """

    why: str = ""
    _timeout: asyncio.Timeout | None = None

    def end(self, why: str) -> None:
        """End the run as its deadline would, now or as soon as it begins; nothing happens to one that ends already."""
        if self._timeout and self._timeout.expired():
            return
        self.why = self.why or why
        if self._timeout:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def after(self, seconds: float) -> AsyncIterator[None]:
        """Raise TimeoutError in a block that takes longer, or is ended."""
        async with asyncio.timeout(0 if self.why else seconds) as timeout:
            self._timeout = timeout
            try:
                yield
            finally:
                self._timeout = None


async def run_mirror(
    mirror: Mirror,
    syncer: Syncer,
    services: Services,
    store: Store | None,
    trigger: str,
    *,
    clock: Callable[[], datetime],
    parallel: int,
    home: Mirror | None = None,
    fenced: Fence | None = None,
    limit: RunLimit | None = None,
) -> Run:
    """Plan, execute, record and report. Errors are in the run; only cancellation raises.

    `home` is the mirror as configured, if `mirror` is a copy with another source: both share a record. A cancelled
    pass, or one ended by its `limit`, is interrupted, with its receipts so far. Without a `store` nothing is recorded.
    `fenced` is as for `RunLedger`; nothing is recorded either of a run that another replica has overtaken.
    """
    tell = services.events.emit
    tell(_started(mirror, trigger, fenced))
    ended, asked, home = _Ended(mirror.name, tell), Asker(scheduled=trigger == "schedule"), home or mirror
    limit = limit or RunLimit()
    run = Run(mirror.name, mirror.kind, trigger, clock(), clock(), places=places(home, syncer))
    run = replace(run, error="stopped before its end", code=StoppedError.code)
    try:
        with asking(asked):
            async with limit.after(mirror.deadline):
                memory = NO_MEMORY
                if store:
                    memory = await asyncio.to_thread(believable, await store.memory(mirror.name), run.places)
                    if trigger not in SHARING:  # the moves of another run may be open
                        await settle(home, syncer, services, store)
                    ledger = RunLedger(store, mirror.name, run.started, syncer.places(home)[1], clock, fenced)
                    services = replace(services, ledger=ledger)
                plan = await decide(mirror, syncer, services, memory, run.started)
                run = replace(run, plan=replace(plan, decisions=None))  # those for `open` are not needed any more
                active = await asyncio.to_thread(lambda: Counter(step.target for step in plan.active))
                tell(events.Planned(plan, active))
                async with syncer.open(mirror, plan, services) as session:
                    try:
                        await execute(plan, session, parallel, ended.begin())
                    finally:
                        run = replace(run, read=session.read)
        run = replace(run, error="", code="")
    except MirrordError as error:
        run = replace(run, error=str(error), code=error.code)
    except TimeoutError:
        late = f"cancelled at its deadline of {mirror.deadline:.0f} s; raise it, or check which host was slow"
        run = replace(run, error=limit.why or late, code=StoppedError.code if limit.why else DeadlineError.code)
    except Exception as error:
        run = replace(run, error=bug(error), code=MirrordError.code)
        raise
    finally:
        run = replace(run, finished=clock(), receipts=tuple(ended.receipts), took=ended.took)
        run = _with_until(run, asked.until)
        if store:
            run = await _remembered(run, store, fenced)
        tell(events.RunFinished(run))
    return run


def _started(mirror: Mirror, trigger: str, fenced: Fence | None) -> events.RunStarted:
    started = events.RunStarted(mirror.name, mirror.kind, trigger)
    return started._replace(fence=fenced.lease.fence, doubtful=fenced.lease.doubtful) if fenced else started


def _with_until(run: Run, until: float | None) -> Run:
    """Say when a run goes on that hosts have sent away until then (monotonic time), if it does by itself.

    Of one of `SHARING` each item does, whatever came of the others.
    """
    if until is None:  # asked first: the result takes a pass over all receipts
        return run
    goes_on = run.result is Result.DEFERRED if run.trigger not in ELSEWHERE else run.trigger in SHARING
    if not goes_on:
        return run
    seconds = max(SOONEST, until - time.monotonic())
    return replace(run, until=(run.finished + timedelta(seconds=seconds)).replace(microsecond=0) + timedelta(seconds=1))


async def _remembered(run: Run, store: Store, fenced: Fence | None) -> Run:
    """Record a run; if that fails, return the run with that error and all its receipts."""
    try:
        await asyncio.shield(asyncio.to_thread(run.add_up))
        if fenced:
            await asyncio.shield(fenced())
        await asyncio.shield(store.add_run(run))
    except FencedError as error:  # that is also why it was stopped
        return replace(run, error=str(error), code=error.code)
    except MirrordError as error:
        return run if run.error else replace(run, error=str(error), code=error.code)
    return run
