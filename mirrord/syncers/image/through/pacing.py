"""Sends no faster than `limits.bandwidth` says, and shares fairly; counts what each client was really sent.

- `blob`: one rate for each (client, blob), however many connections and ranges read it.
- `all`: one rate for everything, in equal shares among the clients that are waiting for their next piece, however many
  connections each has. A client that reads slowly takes less than its share, and the others get the rest.
- The first piece of an answer is sent at once, and charged. Only who takes first pieces and nothing else, such as a
  client that asks for one small range after the other, waits for one: when it is ahead of its pace by `_CREDIT` seconds
  for a blob, or by `_AHEAD` bytes of its share of all; and everybody takes turns when all are `_CREDIT` seconds ahead.
- After a pause at most `_BURST` seconds are made up for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from mirrord.files import nothing
from mirrord.syncers.image.through.clients import ClientKey
from mirrord.syncers.image.through.limits import PullLimits

_CREDIT: Final = 5.0
_AHEAD: Final = 256 * 1024
_BURST: Final = 0.25
_FEW: Final = 1024  # entries of a table below which nothing is looked for that has ended


@dataclass(slots=True)
class FairQueue:
    """Turns on one link: start-time fair queueing, without clock and I/O.

    Each piece has a place: where the last piece of its client ended, but not before the one that was sent last. The
    waiting piece with the lowest place is next.
    """

    _busy: float = 0.0  # until when what was sent keeps the link busy, at its rate
    _place: float = 0.0  # of what was sent last, in bytes
    _ends: dict[str, float] = field(default_factory=dict)  # client → where its last piece ends
    _line: list[tuple[float, int, int, asyncio.Future[None]]] = field(default_factory=list)
    _count: int = 0
    _looked: int = _FEW

    def take(self, client: str, count: int, rate: float, now: float, *, first: bool) -> bool:
        """Send a piece of `count` bytes now, or return False: then it has to `wait` in line."""
        if not self._line and self._busy <= now:
            self._ends.clear()
        place = max(self._place, self._ends.get(client, 0.0))
        free = not self._line and self._busy <= now
        if free or (first and place - self._place < _AHEAD and self._busy - now < _CREDIT):
            self._ends[client] = place + count
            self._send(place if free else self._place, count, rate, now)
            return True
        return False

    def wait(self, client: str, count: int, turn: asyncio.Future[None]) -> None:
        """Stand in line with a piece that `take` did not send; `turn` is set when it may be sent."""
        place = max(self._place, self._ends.get(client, 0.0))
        self._ends[client] = place + count
        self._count += 1
        heappush(self._line, (place, self._count, count, turn))
        if len(self._ends) > self._looked:
            self._ends = {name: end for name, end in self._ends.items() if end > self._place}
            self._looked = max(_FEW, 2 * len(self._ends))

    def serve(self, rate: float | None, now: float) -> float | None:
        """Give turns to those whose time has come; return when the next one has its, None when nobody waits."""
        while self._line and (rate is None or self._busy <= now):
            place, _, count, turn = heappop(self._line)
            if not turn.done():
                turn.set_result(None)
                if rate is not None:
                    self._send(max(place, self._place), count, rate, now)
        return self._busy if self._line else None

    def _send(self, place: float, count: int, rate: float, now: float) -> None:
        self._place, self._busy = place, max(self._busy, now - _BURST) + count / rate


class Pacer:
    """Makes the meters of all clients. `clock` is that of the event loop, and of `limits`."""

    def __init__(self, limits: PullLimits, clock: Callable[[], float]) -> None:
        """Begin with nothing sent. Other rates in `limits.keys` hold from the next piece on."""
        self.limits, self.clock = limits, clock
        self._paid: dict[tuple[str, str], float] = {}  # client and blob → when what was sent is paid for, at its pace
        self._looked = _FEW
        self._queue = FairQueue()
        self._timer: asyncio.TimerHandle | None = None

    def meter(self, client: ClientKey, repository: str, digest: str, note: Callable[[int], None]) -> TransferMeter:
        """Return the meter of an answer with content of a blob; it MUST get its `ended`. `note` gets bytes sent."""
        return TransferMeter(self, client, repository, digest, note)

    def owed(self, client: str, digest: str, count: int, *, first: bool) -> float:
        """Charge a piece of a blob, and return the seconds until it may be sent."""
        rate, now, key = self.limits.bandwidth.blob, self.clock(), (client, digest)
        if rate is None:
            return 0.0
        paid = self._paid.get(key, now)
        self._paid[key] = max(paid, now - _BURST) + count / rate
        if len(self._paid) > self._looked:
            self._paid = {one: until for one, until in self._paid.items() if until > now}
            self._looked = max(_FEW, 2 * len(self._paid))
        return max(0.0, paid - now - (_CREDIT if first else 0.0))

    async def turn(self, client: str, count: int, *, first: bool) -> None:
        """Wait until a piece may be sent as far as all clients together are concerned."""
        rate = self.limits.bandwidth.all
        if rate is None or self._queue.take(client, count, rate, self.clock(), first=first):
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.wait(client, count, turn)
        if self._timer is None:
            self._serve()
        await turn

    def _serve(self) -> None:
        self._timer = None
        at = self._queue.serve(self.limits.bandwidth.all, self.clock())
        if at is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, at - self.clock()), self._serve)


class TransferMeter:
    """Fulfils `Meter` for one answer: its client's pull runs until it has ended.

    Attributes:
        left: is called when the answer has ended.
    """

    def __init__(
        self, pacer: Pacer, client: ClientKey, repository: str, digest: str, note: Callable[[int], None]
    ) -> None:
        """Begin."""
        self._pacer, self._client, self._repository, self._digest, self._note = pacer, client, repository, digest, note
        self.left: Callable[[], None] = nothing
        self._first = True
        pacer.limits.began(client, repository, pacer.clock())

    @property
    def paced(self) -> bool:
        """Return whether there is any limit of bandwidth for this client."""
        limits, pace = self._pacer.limits, self._pacer.limits.bandwidth
        return (pace.blob is not None or pace.all is not None) and not limits.exempt(self._client)

    async def pace(self, count: int) -> None:
        """Wait until a piece may be sent."""
        first, self._first = self._first, False
        seconds = self._pacer.owed(self._client.name, self._digest, count, first=first)
        if seconds:
            await asyncio.sleep(seconds)
        await self._pacer.turn(self._client.name, count, first=first)

    def sent(self, count: int) -> None:
        """Count what was sent."""
        self._note(count)
        self._pacer.limits.sent(self._client, count, self._pacer.clock())

    def ended(self) -> None:
        """Let the pull end, unless other answers of it are under way."""
        self._pacer.limits.ended(self._client, self._repository, self._pacer.clock())
        self.left()
