"""Who runs when: never two runs of one mirror that are not `SHARING`, none past its deadline, and an orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mirrord import pipeline
from mirrord.errors import BusyError, MirrordError, UsageError
from mirrord.events import Event, Events, RunFinished, RunSkipped
from mirrord.model.run import SHARING, Result, Run
from mirrord.record.leases import Fence, OwnLeases, RunLease, RunLeases
from mirrord.record.ledger import settle
from mirrord.record.store import Store
from mirrord.report.activity import Activity
from mirrord.report.status import Running
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror, Publication
from mirrord.wire.secret import bug, redact

if TYPE_CHECKING:
    from mirrord.daemon.runtime import Snapshot

GRACE = 60.0
"""Seconds that a cancelled run may take to end before the process counts as hanging."""
CANCEL = 20.0
"""Seconds that cancelled runs may take to end when the process itself ends."""
Change = Callable[[Mirror, Syncer], tuple[Mirror, Syncer]]
"""Makes of a mirror and its syncer those that one run uses."""
STOPPING = "mirrord is shutting down; ask again when it is back"
CANCELLED = "cancelled by `mirrord cancel`; what was done is kept"


@dataclass(slots=True)
class _Active:
    """A run under way, and how it ended when that is known before it is over; `began` is loop time."""

    mirror: Mirror
    trigger: str
    started: datetime
    began: float
    ended: Run | None = None
    limit: pipeline.RunLimit = field(default_factory=pipeline.RunLimit)


class Runner:
    """Runs mirrors, one run of each at a time, and any number of `SHARING`."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        store: Store,
        events: Events,
        now: Callable[[], datetime],
        *,
        grace: float = GRACE,
        check: Callable[[], None] = lambda: None,
        leases: RunLeases | None = None,
    ) -> None:
        """Take the snapshot anew for each run, and call `check` before it; `leases` are those of a fleet, if any."""
        self._snapshot, self._store, self._events, self._now = snapshot, store, events, now
        self._grace, self._check = grace, check
        self.after: Callable[[Run], Awaitable[None]] | None = None  # hears of an ended run before whoever waits for it
        self.leases: RunLeases = leases or OwnLeases()  # a run holds one, and so does whoever changes what runs read
        self._active: dict[asyncio.Task[Any] | None, _Active] = {}  # by the task that runs it
        self._activity = Activity()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting: set[asyncio.Task[Any] | None] = set()  # those that wait for a lease
        self.stopping = False  # whether `stop` was called; no run starts any more
        events.listen(self._hear)
        events.listen(self._activity)

    async def tick(self, mirror: str) -> None:
        """Start a scheduled run, unless the mirror was taken down, or has one under way or wanted; returns at once."""
        if self._snapshot().denying(mirror):
            return  # the status says so; a run would say nothing else
        if self.stopping or mirror in self.leases:
            self._events.emit(RunSkipped(mirror, "stopping" if self.stopping else "overlap"))
            return
        self._task(self._run(mirror, "schedule"))
        await asyncio.sleep(0)  # let it take its lock: a second tick in the same moment must see it

    def settle(self) -> None:
        """Begin to look, mirror by mirror, what came of moves that an earlier process left open."""
        self._task(self._settle())

    async def _settle(self) -> None:
        left = await self._store.unsettled()
        for name in filter(left.__contains__, self._snapshot().names):
            await self._settle_one(name)

    async def _settle_one(self, name: str) -> None:
        current = self._snapshot()
        async with self._holding(name), current.lease():
            mirror = current.mirror(name)
            await settle(mirror, current.syncer(mirror), current.services, self._store)

    async def sync(
        self,
        mirror: str,
        trigger: str = "command",
        *,
        allow: bool = False,
        change: Change | None = None,
        first: Callable[[], Awaitable[None]] | None = None,
    ) -> Run:
        """Run a mirror as `Sync` says; it goes on when the caller is cancelled. Raises as `Dispatcher.carry_out`.

        `change` makes of the mirror and its syncer those that this run uses; `first` is awaited before that, when
        nobody else runs the mirror.
        """
        self._snapshot().mirror(mirror)
        return await self._end(self._run(mirror, trigger, allow=allow, change=change, first=first))

    async def publish(self, mirror: str, publication: Publication) -> Run:
        """Publish one build, after the run under way if there is one. Raises as `Dispatcher.carry_out`."""
        current = self._snapshot()
        found = current.mirror(mirror)
        if current.syncer(found).publishing is None:
            raise UsageError(f"{mirror}: mirrors of kind {found.kind} cannot be published to")
        return await self._end(self._run(mirror, "publish", publication))

    async def _end(self, work: Coroutine[Any, Any, Run]) -> Run:
        """Return how a run ends that does not end with whoever waits for it."""
        task = self._task(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():  # by `stop`, and not whoever waits
                raise BusyError("stopped because mirrord is shutting down; the next run goes on from there") from None
            raise

    def cut(self, mirror: str) -> Mapping[asyncio.Task[Any], _Active]:
        """Let the runs of a mirror that are under way end in good order; return them. Others that wait begin then."""
        found = {task: run for task, run in self._active.items() if task and run.mirror.name == mirror}
        for run in found.values():
            run.limit.end(CANCELLED)
        return found

    async def cancel(self, mirror: str) -> Sequence[Run]:
        """End the runs of a mirror that are under way; return how they ended. BusyError if one does not."""
        runs = self.cut(mirror)
        if runs and (await asyncio.wait(runs, timeout=CANCEL))[1]:
            raise BusyError(f"{mirror}: its run was cancelled, and has not ended after {CANCEL:.0f} s")
        return [run.ended for run in runs.values() if run.ended]

    def running(self) -> Mapping[str, Running]:
        """Return the runs under way, by mirror."""
        return self._activity.running()

    def overdue(self) -> tuple[str, ...]:
        """Return the mirrors whose run outlived its cancellation at the deadline."""
        now = asyncio.get_running_loop().time()
        late = {run.mirror.name for run in self._active.values() if now > run.began + run.mirror.deadline + self._grace}
        return tuple(sorted(late))

    async def stop(self, patience: float) -> bool:
        """Start nothing more, give runs `patience` seconds to end, cancel the others; say whether all ended."""
        self.stopping = True
        for task in filter(None, self._waiting):  # another replica may have the lease for hours
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CANCEL)
        return not self._tasks

    def _task(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever waits gets it
        return task

    async def _run(
        self,
        name: str,
        trigger: str,
        publication: Publication | None = None,
        *,
        allow: bool = False,
        change: Change | None = None,
        first: Callable[[], Awaitable[None]] | None = None,
    ) -> Run:
        if publication is not None:  # whichever is carried out later, the one that came in last decides
            accepted = self._now()
            publication = replace(publication, number=await self._store.accept(name), accepted=accepted)
        if trigger in SHARING and name not in self.leases:
            with suppress(MirrordError):  # the run reports it
                await self._settle_one(name)
        async with self._holding(name, trigger) as lease:
            if first:
                await first()
            current = self._snapshot()
            mirror, syncer = current.mirror(name), current.syncer(current.mirror(name))
            if publication is not None and syncer.publishing:
                mirror = syncer.publishing(mirror, publication)
            mirror = replace(mirror, allow=allow, trust=0.0 if lease.doubtful else mirror.trust)
            mirror, syncer = change(mirror, syncer) if change else (mirror, syncer)
            active = _Active(mirror, trigger, self._now(), asyncio.get_running_loop().time())
            self._active[asyncio.current_task()] = active
            self._activity.begin(name, trigger, active.started)
            try:
                async with current.lease():
                    run = await self._walk(current, active, syncer, lease)
                if trigger in SHARING and lease.fence and run.result not in (Result.SUCCESS, Result.NOOP):
                    await self.leases.check(lease)  # what fails in a process that was stopped says nothing
            finally:
                del self._active[asyncio.current_task()]
                self._activity.end(name)
        if self.after is not None:
            await self.after(run)
        return run

    @asynccontextmanager
    async def _holding(self, name: str, trigger: str = "") -> AsyncIterator[RunLease]:
        """Wait for the lease on a mirror, and hold it. BusyError: no run starts any more."""
        task = asyncio.current_task()
        if self.stopping:
            raise BusyError(STOPPING)
        self._waiting.add(task)
        try:
            shared = trigger in SHARING  # each item of such a run is recorded by itself
            async with self.leases.hold(name, shared=shared, trigger="" if shared else trigger) as lease:
                self._waiting.discard(task)
                if self.stopping:
                    raise BusyError(STOPPING)
                yield lease
        finally:
            self._waiting.discard(task)

    async def _walk(self, current: Snapshot, active: _Active, syncer: Syncer, lease: RunLease) -> Run:
        """Walk the corridor; a failure that it could not put into its run becomes a run here."""
        mirror = active.mirror
        try:
            await asyncio.to_thread(self._check)
            trigger, home, services = active.trigger, current.mirror(mirror.name), current.services
            parallel = current.configuration.settings.parallel
            return await pipeline.run_mirror(
                mirror,
                syncer,
                services,
                self._store,
                trigger,
                clock=self._now,
                parallel=parallel,
                home=home,
                fenced=Fence(self.leases, lease) if lease.fence else None,
                limit=active.limit,
            )
        except MirrordError as error:  # the record: the disk is full, or broken
            code, text = error.code, redact(str(error))
        except Exception as error:  # noqa: BLE001 - a bug in one syncer must not end the daemon
            code, text = MirrordError.code, redact(bug(error))
        if active.ended is not None:
            return active.ended
        run = Run(mirror.name, mirror.kind, active.trigger, active.started, self._now(), error=text, code=code)
        self._events.emit(RunFinished(run))
        return run

    def _hear(self, event: Event) -> None:
        if isinstance(event, RunFinished) and (active := self._active.get(asyncio.current_task())):
            active.ended = event.run
