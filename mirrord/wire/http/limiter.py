"""How many requests a host gets at once, and how many bytes a second: shared by the runs and the front.

Runs of mirrors and the front are two `Http` over one `HostShares`. At hosts that both may ask each keeps at least a
third of the host's `requests`, rounded up, which the other cannot take; the rest goes to whoever comes. While both move
content each has half of the `bandwidth`. At all other hosts, and where there is no front, nothing is kept for anybody.
A host with `requests: 1` has nothing to divide: the two take turns.

A host that is overloaded gets fewer requests at once for a while (`Concurrency`).

A download of the front that nobody reads, since its client is slow, is preempted when another request waits for a
place: slow clients, however many, must not keep others from an upstream. Its connection is closed, and the rest is
requested later.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from mirrord.errors import MirrordError, PreemptedError, StalledError
from mirrord.wire.http.asker import scheduled
from mirrord.wire.http.message import permanent
from mirrord.wire.http.pace import Concurrency, Party, RequestClass, admits, admits_share
from mirrord.wire.http.sender import Deadline

PREEMPTIBLE_AFTER: Final = 0.25
"""Seconds without reading after which a download may be preempted; what was received and not read is lost then."""


class _Line:
    """Requests that wait: those of people first, and each of them in the order in which they came."""

    __slots__ = ("_people", "_schedules")

    def __init__(self) -> None:
        self._people: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._schedules: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._people or self._schedules)

    def add(self, turn: asyncio.Future[None]) -> None:
        """Let the request of this task wait."""
        (self._schedules if scheduled() else self._people)[turn] = None

    def next(self) -> asyncio.Future[None]:
        """Take the first one out."""
        return (self._people or self._schedules).popitem(last=False)[0]

    def remove(self, turn: asyncio.Future[None]) -> bool:
        """Take one out; whether it was in line still."""
        there = turn in self._people or turn in self._schedules
        self._people.pop(turn, None)
        self._schedules.pop(turn, None)
        return there


@dataclass(slots=True)
class HostLimiter:
    """Admission to one host: within each class of each party people before schedules; the parties take turns."""

    limit: int  # how many requests at once, at most
    shared: bool = False  # whether each party keeps a share
    host: str = ""  # for messages
    key: str = "hosts:"  # where `requests` is written
    _all: Counter[RequestClass] = field(default_factory=Counter)
    _active: dict[Party, Counter[RequestClass]] = field(default_factory=lambda: {party: Counter() for party in Party})
    _waiting: dict[Party, dict[RequestClass, _Line]] = field(
        default_factory=lambda: {party: {kind: _Line() for kind in RequestClass} for party in Party}
    )
    _queued: int = 0  # requests in line
    _preemptible: OrderedDict[HostSlot, Callable[[], None]] = field(default_factory=OrderedDict)  # longest unread first
    pace: Concurrency = field(init=False)

    def __post_init__(self) -> None:
        """Begin with all that is allowed."""
        self.pace = Concurrency(self.limit)

    def slot(
        self,
        kind: RequestClass,
        deadline: Deadline | None = None,
        party: Party = Party.RUNS,
        *,
        patience: float | None = None,
        further: HostSlot | None = None,
    ) -> HostSlot:
        """Return a slot for one request, to hold with `async with`.

        Args:
            kind: what the request weighs.
            deadline: stands still until the slot is free.
            party: who asks.
            patience: seconds to wait in line, None for ever.
            further: a slot that is needed, too, and taken after this one.
        """
        return HostSlot(self, kind, party, deadline, patience=patience, further=further)

    def enter(self, kind: RequestClass, party: Party = Party.RUNS) -> bool:
        """Take a slot if one is free and nobody of the party waits for it."""
        if (self._queued and self._waiting[party][kind]) or not self._admits(kind, party):
            return False
        self._begin(kind, party)
        return True

    def leave(self, kind: RequestClass, party: Party = Party.RUNS) -> None:
        """Give the slot to the next in line."""
        self._end(kind, party)
        self._wake()

    async def wait(self, kind: RequestClass, party: Party = Party.RUNS) -> None:
        """Wait in line for a slot."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting[party][kind].add(turn)
        self._queued += 1
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():  # `_wake` may have taken it out of the line already
                self._queued -= self._waiting[party][kind].remove(turn)
            else:  # admitted and cancelled at the same moment: pass the slot on
                self.leave(kind, party)
            raise

    def offer(self, slot: HostSlot, abort: Callable[[], None]) -> None:
        """Let a request in line have this slot, since nobody reads the download that holds it; `abort` ends that."""
        self._preemptible[slot] = abort
        self._wake()

    def withdraw(self, slot: HostSlot) -> None:
        """Keep the slot: its download is read again."""
        self._preemptible.pop(slot, None)

    def busy(self, seconds: float) -> MirrordError:
        """Return the error of a request that waited so long for its slot."""
        many = f"{self.pace.limit} requests are under way (`requests:` under {self.key}), none ended"
        return permanent(StalledError(f"{self.host}: {many} within {seconds:.0f} s"))

    def ended(self, epoch: int, *, overloaded: bool) -> None:
        """Note how the host took a request that began in this `Concurrency.epoch`."""
        if overloaded:
            self.pace.overloaded(epoch)
        elif self.pace.went_well(epoch):
            self._wake()

    def _wake(self) -> None:
        if not self._queued:  # as most often: each request wakes
            return
        self._admit()
        while self._preempt():
            self._admit()

    def _preempt(self) -> bool:
        """Take the slot of the download that is unread for longest, if a request in line can have it."""
        slot = next(iter(self._preemptible), None)
        if slot is None:
            return False
        self._end(slot.kind, slot.party)
        if not any(next(self._ready(kind), None) for kind in RequestClass):
            self._begin(slot.kind, slot.party)
            return False
        abort, slot.preempted = self._preemptible.pop(slot), True
        abort()
        return True

    def _admit(self) -> None:
        for kind in RequestClass:
            while (party := next(self._ready(kind), None)) is not None:
                turn = self._waiting[party][kind].next()
                self._queued -= 1
                if not turn.done():
                    self._begin(kind, party)
                    turn.set_result(None)
                    self._waiting[party] = self._waiting.pop(party)  # the other one is first next time

    def _begin(self, kind: RequestClass, party: Party) -> None:
        self._active[party][kind] += 1
        self._all[kind] += 1

    def _end(self, kind: RequestClass, party: Party) -> None:
        self._active[party][kind] -= 1
        self._all[kind] -= 1

    def _ready(self, kind: RequestClass) -> Iterator[Party]:
        return (party for party, lines in self._waiting.items() if lines[kind] and self._admits(kind, party))

    def _admits(self, kind: RequestClass, party: Party) -> bool:
        limit = self.pace.limit
        if self.shared and limit > 1:
            return admits_share(kind, self._active[party], self._all, limit)
        return admits(kind, self._all, limit)


class HostSlot:
    """A slot for one request at a host, for `async with`.

    Attributes:
        kind: what the request weighs.
        party: who asks.
        preempted: whether another request has it now.
        epoch: that of the host's `Concurrency` when it began.
    """

    __slots__ = ("_deadline", "_further", "_limiter", "_patience", "epoch", "kind", "party", "preempted")

    def __init__(
        self,
        limiter: HostLimiter,
        kind: RequestClass,
        party: Party,
        deadline: Deadline | None,
        *,
        patience: float | None,
        further: HostSlot | None,
    ) -> None:
        """Prepare; `__aenter__` waits."""
        self._limiter, self._deadline, self._patience, self._further = limiter, deadline, patience, further
        self.kind, self.party, self.preempted, self.epoch = kind, party, False, 0

    async def __aenter__(self) -> Self:
        """Wait for it; StalledError when patience is at an end."""
        if not self._limiter.enter(self.kind, self.party):
            await self._wait()
        self.epoch = self._limiter.pace.epoch
        if self._further is not None:
            try:
                await self._further.__aenter__()
            except BaseException:
                self._limiter.leave(self.kind, self.party)
                raise
        return self

    async def _wait(self) -> None:
        with self._deadline.waiting() if self._deadline else nullcontext():
            try:
                async with asyncio.timeout(self._patience):
                    await self._limiter.wait(self.kind, self.party)
            except TimeoutError as error:
                raise self._limiter.busy(self._patience or 0.0) from error

    def ended(self, *, overloaded: bool) -> None:
        """Note how the host took the request, which may go on."""
        self._limiter.ended(self.epoch, overloaded=overloaded)

    @contextmanager
    def unread(self, abort: Callable[[], None]) -> Iterator[None]:
        """Offer the slot to others while the holder does not read; `abort` closes its connection if one takes it.

        Raises:
            PreemptedError: another request took it.
        """
        timer = asyncio.get_running_loop().call_later(PREEMPTIBLE_AFTER, self._limiter.offer, self, abort)
        try:
            with self._further.unread(abort) if self._further is not None else nullcontext():
                yield
        finally:
            timer.cancel()
            self._limiter.withdraw(self)
        if self.preempted:
            raise PreemptedError(f"{self._limiter.host}: closed for another request, since nobody read on")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back, unless another request has it."""
        if self._further is not None:
            await self._further.__aexit__(kind, error, trace)
        if not self.preempted:
            self._limiter.leave(self.kind, self.party)
