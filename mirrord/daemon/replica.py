"""This process as one of several replicas that share a record: its name, its leases, and the runs that it takes."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mirrord import __version__
from mirrord.daemon.loop import cancelled, lasting
from mirrord.errors import BusyError, MirrordError, StorageError
from mirrord.events import Events, RunSkipped
from mirrord.files import storage_errors, write_durably
from mirrord.model.history import Standing
from mirrord.model.replica import Replica, WaitingRuns
from mirrord.model.request import ASKED
from mirrord.model.run import Result
from mirrord.record.cut_off import CutOff, record_cut_off
from mirrord.record.fleet import Fleet, Me
from mirrord.record.fleet_database import open_shared
from mirrord.record.queue import FleetQueue
from mirrord.report.documents import adapter
from mirrord.report.status import Running
from mirrord.schedule import LATEST, Clock
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.wire.database import DatabaseAddress

if TYPE_CHECKING:
    from mirrord.daemon.runtime import Runtime

NAME: Final = "replica"
"""The file with the name of a state directory among those of a fleet."""
Follow = Callable[[Sequence[Replica], WaitingRuns], Awaitable[Sequence[Standing]]]
"""Shows what the replicas do and what waits, and returns how the mirrors stand."""
_LATE: Final = 30.0  # seconds by which clocks of machines may differ
_SOON: Final = 10.0  # seconds until a run is deferred again for which the database was away: less than `_LATE`


def name_of(state: Path) -> str:
    """Return the name of this replica, `HOST-XXXXXX`: the same after every start; made at the first one. Blocks."""
    if name := known_name(state):
        return name
    file = state / NAME
    with storage_errors(file):
        host = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in socket.gethostname())
        name = f"{host[:60]}-{uuid.uuid4().hex[:6]}"
        write_durably(file, f"{name}\n".encode())
        return name


def known_name(state: Path) -> str:
    """Return the name that a state directory has among others, "" where none was made. Blocks."""
    file = state / NAME
    with storage_errors(file):
        return file.read_text("utf-8").strip() if file.exists() else ""


@asynccontextmanager
async def open_fleet(
    state: Path,
    address: DatabaseAddress | None,
    events: Events,
    runtime: Callable[[], Runtime] | None,
    now: Callable[[], datetime],
) -> AsyncIterator[Fleet | None]:
    """Join the replicas at a database, and leave them at the end; without one there is nobody else.

    Without `runtime` only look at them, as a process that has no boot.
    StorageError: it cannot be reached. BusyError: as `Fleet.join`.
    """
    if address is None:
        yield None
        return

    from mirrord.record.connecting import connection_keys  # noqa: PLC0415 - of the extra `scale`

    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_shared(partial(connection_keys, address)))
        if runtime is None:
            yield Fleet(database, Me(await asyncio.to_thread(known_name, state), ""))
            return

        def cut(mirror: str) -> bool:
            return bool(runtime().runner.cut(mirror))

        async def cut_off(found: CutOff) -> None:
            here = runtime()
            for told in await record_cut_off(here.store, [found], here.snapshot.kinds, state):
                events.emit(told)

        me = Me(await asyncio.to_thread(name_of, state), uuid.uuid4().hex, __version__)
        fleet = Fleet(database, me)
        await fleet.join()  # there is no runtime yet, and nothing runs
        fleet.emit = events.emit
        fleet.me = replace(
            me,
            running=lambda: _running(runtime()),
            configuration=lambda: runtime().snapshot.configuration.digest,
        )
        fleet.cancel, fleet.cut_off, fleet.now = cut, cut_off, now
        stack.push_async_callback(fleet.leave)
        beating = asyncio.create_task(lasting(fleet.beat))
        stack.push_async_callback(cancelled, beating)
        yield fleet


def _running(runtime: Runtime) -> Mapping[str, Any]:
    found: Mapping[str, Any] = adapter(Mapping[str, Running]).dump_python(dict(runtime.runner.running()), mode="json")
    return found


class QueuedRuns:
    """What is due in a fleet: ticks of this clock go to the queue, and what the queue gives runs here."""

    def __init__(self, runtime: Runtime, fleet: Fleet, now: Callable[[], datetime]) -> None:
        """Begin nothing yet."""
        self._runtime, self._fleet, self._now = runtime, fleet, now
        places = runtime.snapshot.configuration.settings.parallel
        self._queue = FleetQueue(fleet, self._carry_out, places)
        self._until: dict[str, datetime | None] = {}  # when deferred runs go on, as the record had it at the last look
        self.clock = Clock(self.tick, now, offset, self._goes_on)
        fleet.lost = self._again
        self._leading: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def working(self, lead: Callable[[], Awaitable[None]], follow: Follow) -> AsyncIterator[None]:
        """Take runs of the queue until the block ends; call `lead` when the lead changes, `follow` with the others.

        `follow` returns how the mirrors stand.
        """
        async with AsyncExitStack() as stack:
            await self._queue.open()
            stack.push_async_callback(self._queue.close)
            for work in (self._queue.work, self._queue.sweep, partial(self._look, follow)):
                stack.push_async_callback(cancelled, asyncio.create_task(lasting(work)))
            self._leading = asyncio.create_task(lasting(partial(self._fleet.lead, lead)))
            self._lead = lead
            stack.push_async_callback(cancelled, self._leading)
            yield

    async def resign(self) -> None:
        """Let another replica lead from now on: what runs here may take minutes to end."""
        if self._leading and not self._leading.done():
            await cancelled(self._leading)
            await self._lead()

    async def _look(self, follow: Follow) -> None:
        while True:
            with suppress(StorageError):
                self._go_on(await follow(await self._fleet.replicas(), await self._fleet.waiting()))
            await asyncio.sleep(self._fleet.pace.beat)

    def _go_on(self, standing: Sequence[Standing]) -> None:
        """Let deferred runs go on at their time whichever replica had them, and whether or not it lives."""
        snapshot, now = self._runtime.snapshot, self._now()
        names = set(snapshot.names)
        for one in standing:
            if one.target or one.mirror not in names or one.until == self._until.get(one.mirror):
                continue
            if not _served_by_each(snapshot.mirror(one.mirror)):
                self._until[one.mirror] = one.until
                late = one.until is not None and one.until <= now
                self.clock.again(one.mirror, now + timedelta(seconds=LATEST) if late else one.until)

    async def _goes_on(self, name: str) -> None:
        """Let some replica go on with a deferred run, or with a tick that found the database away; all of them do."""
        deferred = self._until.get(name) is not None
        await self._tick(name, _LATE if deferred else quiet(self._runtime.snapshot.mirror(name)))

    async def tick(self, name: str) -> None:
        """Let some replica run a mirror that is due; all of them say so at the same time."""
        if not await self._tick(name, quiet(self._runtime.snapshot.mirror(name))):
            self._runtime.events.emit(RunSkipped(name, "unreachable"))

    async def _tick(self, name: str, within: float) -> bool:
        """Let some replica run a mirror, once `within` seconds; return False where that is tried again soon."""
        snapshot = self._runtime.snapshot
        if snapshot.denying(name):
            return True
        mirror = snapshot.mirror(name)
        if _served_by_each(mirror):
            await self._runtime.runner.tick(name)
            return True
        try:
            deferred = await self._queue.defer(name, quiet=within, sticky=mirror.kind == "git")
            if not deferred and await self._queue.overlaps(name, quiet=within):  # else another replica said the same
                self._runtime.events.emit(RunSkipped(name, "overlap"))
        except StorageError:  # said by the status
            self.clock.again(name, self._now() + timedelta(seconds=_SOON))
            return False
        return True

    async def _again(self, name: str) -> bool:
        """Let a mirror run whose lease was lost; return False while a run that began before has not ended.

        Not what was asked for, which whoever leads copies.
        """
        snapshot, runner = self._runtime.snapshot, self._runtime.runner
        if name not in snapshot.names or (name == ASKED and snapshot.configuration.asking):
            return True
        if not _served_by_each(snapshot.mirror(name)):
            return await self._queue.again(name)
        if runner.stopping or name in runner.leases:
            return False
        await runner.tick(name)
        return True

    async def _carry_out(self, name: str, trigger: str) -> bool:
        runner, snapshot = self._runtime.runner, self._runtime.snapshot
        if runner.stopping:
            return False
        if name not in snapshot.names or snapshot.denying(name):  # others may be reloaded already, and know it
            return name in snapshot.names or await self._queue.gone(name)
        store, began = self._runtime.store, asyncio.get_running_loop().time()
        away = store.away
        try:
            run = await runner.sync(name, trigger)
        except (BusyError, StorageError):
            return False  # we are stopping, or the database was away before it began
        except MirrordError:
            return True  # another replica has it: it runs when it is due again
        if StorageError.code in run.codes and (away or store.away or self._fleet.missed > began):
            return False  # the database was away in it, and not our disk full
        return not (runner.stopping and run.result is Result.INTERRUPTED)


def clock_of(runtime: Runtime, now: Callable[[], datetime]) -> tuple[QueuedRuns | None, Clock]:
    """Return the clock of a daemon, and in a fleet what it hands its ticks to, in the same moments at all replicas."""
    if runtime.fleet is None:
        return None, Clock(runtime.runner.tick, now)
    queued = QueuedRuns(runtime, runtime.fleet, now)
    return queued, queued.clock


def _served_by_each(mirror: Mirror) -> bool:
    """Whether each replica runs a mirror, one after the other: clients get what the clone of whoever they ask has."""
    return mirror.kind == "git" and any(target.name == LOCAL for target in mirror.targets)


def quiet(mirror: Mirror) -> float:
    """Return for how many seconds after a scheduled run the ticks of other replicas are the same one."""
    schedule = mirror.schedule
    if schedule is None or schedule.every is None:
        return _LATE + (schedule.jitter if schedule else 0.0)
    return schedule.every / 2


def offset(name: str, every: float) -> float:
    """Return at how many seconds after a multiple of `every` a mirror is due, the same at every replica."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 0x100000000 * every
