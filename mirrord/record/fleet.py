"""Replicas that share a record in PostgreSQL: who is there, and who may run which mirror.

A lease alone says nothing to a registry: a process that was stopped for a minute goes on as if nothing had happened.
So each lease has a fence, a number that grows, and whoever writes names looks first whether it is still its own
(`check`). What a stopped process writes right after such a look is at most one batch of names; whoever took the lease
over, and every run of the next hour, asks the targets instead of trusting the record, and so puts it right.

All times are those of the database. Native asyncio: a beat never waits behind a long query of the record.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from mirrord.errors import BusyError, FencedError, StorageError
from mirrord.events import Event
from mirrord.keyedlock import KeyedLock
from mirrord.model.remote import LeaseLost, LeaseTakenOver
from mirrord.model.replica import Replica, WaitingRuns
from mirrord.record import fleet_statements as statements
from mirrord.record.cut_off import CutOff
from mirrord.record.elsewhere import run_elsewhere
from mirrord.record.fleet_database import PATIENCE, POLL, SharedDatabase
from mirrord.record.leases import HeldLease, RunLease
from mirrord.tasks import finished

_FORGOTTEN: Final = 86400  # seconds after which a dead replica is forgotten
_DOUBT: Final = 3600  # seconds after a lease was lost in which runs of the mirror trust nothing recorded of targets
_OTHER: Final = "~"  # what leases begin with that are on no mirror; no mirror has such a name
_LEAD: Final = f"{_OTHER}lead"


@dataclass(frozen=True, slots=True)
class Pace:
    """How often replicas give signs of life, in seconds.

    Attributes:
        beat: between two signs.
        stale: after its last sign a replica counts as dead, and others take over what it ran.
        sweep: between two looks for runs of dead replicas.
    """

    beat: float = 5.0
    stale: float = 60.0
    sweep: float = 10.0


@dataclass(frozen=True, slots=True)
class Me:
    """This replica.

    Attributes:
        name: of its state directory, for ever.
        boot: of its process.
        version: of mirrord.
        running: what it runs, and how far that is.
        configuration: returns the digest of its configuration.
    """

    name: str
    boot: str
    version: str = ""
    running: Callable[[], Mapping[str, Any]] = dict
    configuration: Callable[[], str] = str


async def _nobody(_: object) -> bool:
    return True


@dataclass(slots=True)
class Fleet:
    """This replica among the others; implements `RunLeases`. Every method may raise StorageError.

    Attributes:
        database: that of the record.
        me: this replica.
        pace: the same at all replicas.
        leads: whether this replica does what one of all does: sends notices, answers issues, verifies by schedule,
            and collects what all have in a bucket.
        lost: hears of mirrors whose lease was lost when what held it has ended: they need a run. It hears of them again
            at each sign of life until it returns True.
        emit: takes events about leases.
        cancel: hears, at each sign of life, of mirrors whose run here is to end (`RunCancellation`); returns whether
            there is one.
        missed: when a sign of life did not arrive the last time, by the clock of the event loop; 0.0 if all did.
        now: the clock of this machine.
        left: runs that an earlier process of this replica was killed in, of which nobody has heard yet.
        cut_off: hears of a run that a replica was killed in when its mirror is taken over.
    """

    database: SharedDatabase
    me: Me
    pace: Pace = field(default_factory=Pace)
    leads: bool = False
    lost: Callable[[str], Awaitable[bool]] = field(default=_nobody)
    emit: Callable[[Event], object] = field(default=bool)
    cancel: Callable[[str], bool] = field(default=bool)
    missed: float = 0.0
    now: Callable[[], datetime] = field(default=partial(datetime.fromtimestamp, 0, UTC))
    left: list[CutOff] = field(default_factory=list)
    cut_off: Callable[[CutOff], Coroutine[Any, Any, object]] = field(default=_nobody)
    _silent: bool = False  # whether the last sign of life did not arrive
    _held: dict[str, HeldLease] = field(default_factory=dict)
    _doubtful: set[str] = field(default_factory=set)  # of which `lost` has to hear
    _locks: KeyedLock = field(default_factory=KeyedLock)
    _taking: KeyedLock = field(default_factory=KeyedLock)

    @asynccontextmanager
    async def hold(self, mirror: str, *, shared: bool = False, trigger: str = "") -> AsyncIterator[RunLease]:
        """See `RunLeases.hold`."""
        async with self._locks.share(mirror) if shared else self._locks.hold(mirror):
            async with self._taking.hold(mirror):  # of those who share it the first one takes it
                held = self._held.get(mirror) or await self._take(mirror, trigger)
                self._held[mirror] = held
            task = asyncio.current_task()
            assert task is not None
            held.users.add(task)
            try:
                if found := held.cut_off:  # the lease is ours by now, and is released whatever happens
                    held.cut_off = None
                    await finished(self.cut_off(found), self.shortly)
                yield held.lease
            except asyncio.CancelledError:
                if held.why is None or task.uncancel():
                    raise
                raise held.why from None
            finally:
                held.users.discard(task)
                if not held.users:
                    del self._held[mirror]
                    if held.lost:  # nothing is written any more; the next sign of life says so
                        self._doubtful.add(mirror)
                    else:
                        await self._release(held.lease)

    async def _release(self, lease: RunLease) -> None:
        with suppress(StorageError):  # it ends by itself
            await asyncio.shield(self.database.do(statements.RELEASE, self._of(lease), patience=self.shortly))

    async def _take(self, mirror: str, trigger: str) -> HeldLease:
        about = {"mirror": mirror, "replica": self.me.name, "boot": self.me.boot, "trigger": trigger, **self._seconds}
        loop, tell = asyncio.get_running_loop(), 0.0
        while not (rows := await self.database.do(statements.TAKE, {**about, "began": self.now()})):
            if not mirror.startswith(_OTHER) and loop.time() >= tell:
                tell = loop.time() + self.pace.beat  # its replica says as often how far it is
                if run := await run_elsewhere(self.database, mirror):
                    self.emit(run)
            await asyncio.sleep(self.pace.beat if mirror == _LEAD else POLL)
        if rows[0]["taken_over"] and not mirror.startswith(_OTHER):
            self.emit(LeaseTakenOver(mirror))
        lease, cut = RunLease(mirror, rows[0]["fence"], rows[0]["doubtful"]), rows[0]["cut_off"]
        return HeldLease(lease, cut_off=CutOff.read(cut) if cut else None)

    async def check(self, lease: RunLease) -> None:
        """See `RunLeases.check`; it is good for another `pace.stale` seconds."""
        if not await self.database.do(statements.KEEP, self._of(lease)):
            raise self._fenced(lease)

    async def busy(self, mirror: str) -> bool:
        """See `RunLeases.busy`."""
        return mirror in self._locks or await run_elsewhere(self.database, mirror) is not None

    def __contains__(self, mirror: object) -> bool:
        """See `RunLeases.__contains__`."""
        return mirror in self._locks

    async def lead(self, follow: Callable[[], Awaitable[None]]) -> None:
        """Take the lead whenever nobody has it; `follow` is called at each change. Never returns."""
        while True:
            try:
                async with self.hold(_LEAD):
                    self.leads = True
                    await follow()
                    await asyncio.Event().wait()
            except (FencedError, StorageError):
                await asyncio.sleep(POLL)
            finally:
                self.leads = False
            await follow()

    async def insist(self) -> None:
        """Raise FencedError unless this replica leads, StorageError where nobody can say that."""
        try:
            if held := self._held.get(_LEAD):
                return await self.check(held.lease)
        except FencedError:
            pass
        raise FencedError("another replica leads by now")

    async def replicas(self) -> Sequence[Replica]:
        """Return all replicas by name, those too that died since yesterday; not those that ended in good order."""
        about = {"lead": _LEAD, **self._seconds}
        return [Replica(**row) for row in await self.database.do(statements.REPLICAS, about)]

    async def waiting(self) -> WaitingRuns:
        """Return the runs that are due, and that no replica has begun."""
        return WaitingRuns(**(await self.database.do(statements.WAITING, {}))[0])

    async def ran_last(self, mirror: str) -> str:
        """Return the replica that had the lease on a mirror last, "" if that is not alive."""
        rows = await self.database.do(statements.RAN_LAST, {"mirror": mirror, **self._seconds})
        return str(rows[0]["replica"]) if rows else ""

    async def join(self) -> None:
        """Begin: what an earlier process of this state directory held is free.

        BusyError: that one still gives signs of life, or one with a copy of the directory. One that was killed just now
        is waited for, until two signs of it are missing.
        """
        about = {"replica": self.me.name, "boot": self.me.boot, "beats": 2 * self.pace.beat, **self._seconds}
        before = None
        while rows := await self.database.do(statements.NAMESAKE, about):
            if before not in {None, rows[0]["seen"]}:
                copied = "if this state directory was copied, remove the file `replica` of the copy"
                raise BusyError(f"another process is the replica {self.me.name}; {copied}")
            before = rows[0]["seen"]
            await asyncio.sleep(self.pace.beat / 2)
        self.left = [CutOff.read(row["cut_off"]) for row in await self.database.do(statements.ENDED, about)]
        await self.sign(PATIENCE)
        await self.database.do(statements.FORGET, about)

    async def leave(self) -> None:
        """End: others need not wait until it counts as dead, nor for what it still has."""
        with suppress(StorageError):
            await self._doubt()
            about = {"replica": self.me.name, "boot": self.me.boot, **self._seconds}
            await self.database.do(statements.GONE, about, patience=self.shortly)

    async def beat(self) -> None:
        """Give signs of life, and stop what has lost its lease; never returns."""
        while True:
            try:
                await self.sign()
                self._silent = False
            except StorageError:  # leases last longer than a short absence of the database
                self._silent, self.missed = True, asyncio.get_running_loop().time()
            await asyncio.sleep(self.pace.beat)

    async def sign(self, patience: float = 0.0) -> None:
        """Give one sign of life; see `beat`. The database is waited for until the next one is due, or so long."""
        me, patience = self.me, patience or self.pace.beat
        about = {
            "replica": me.name,
            "boot": me.boot,
            "version": me.version,
            "running": json.dumps(me.running(), default=str),
            "configuration": me.configuration(),
            **self._seconds,
        }
        await self.database.do(statements.BEAT, about, patience=patience)
        before = dict(self._held)  # one that is taken meanwhile is not missed
        ours = {**about, "mirrors": list(before)}  # a lease that could not be released ends
        rows = await self.database.do(statements.KEEP_ALL, ours, patience=patience)
        kept = {row["mirror"]: row for row in rows}
        for mirror, held in before.items():
            row = kept.get(mirror)
            if row is None or row["fence"] != held.lease.fence:
                held.stop(self._fenced(held.lease))
            elif row["cancel"] == row["fence"] and not self.cancel(mirror):
                await self.database.do(statements.NOT_CANCELLED, self._of(held.lease), patience=self.pace.beat)
        for mirror in await self._doubt():
            if await self.lost(mirror):
                self._doubtful.discard(mirror)

    async def _doubt(self) -> Sequence[str]:
        """Let the next runs of what had lost its lease trust nothing recorded of targets; return which those are."""
        if found := list(self._doubtful):
            await self.database.do(statements.DOUBTED, {"mirrors": found, **self._seconds}, patience=self.shortly)
        return found

    @property
    def shortly(self) -> float:
        """For how many seconds to wait with what ends by itself: hardly while signs of life do not arrive."""
        return min(POLL, self.pace.beat) if self._silent else self.pace.beat

    @property
    def _seconds(self) -> Mapping[str, float]:
        return {"stale": self.pace.stale, "doubt": _DOUBT, "forgotten": _FORGOTTEN}

    def _of(self, lease: RunLease) -> dict[str, Any]:
        return {"mirror": lease.mirror, "fence": lease.fence, "boot": self.me.boot, **self._seconds}

    def _fenced(self, lease: RunLease) -> FencedError:
        """Return the error of a lease that was lost, which is told once."""
        held = self._held.get(lease.mirror)
        if held and held.lease is lease and not held.lost:
            held.lost = True
            if not lease.mirror.startswith(_OTHER):
                self.emit(LeaseLost(lease.mirror))
        return FencedError(
            f"{lease.mirror}: another replica runs it, since this one gave no sign of life for {self.pace.stale:.0f} s"
        )
