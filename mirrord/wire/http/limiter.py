"""Waiting in line at one host, by the rules of `mirrord.wire.http.pace.admits`."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mirrord.wire.http.pace import Load, RequestClass, admits


@dataclass(slots=True)
class HostLimiter:
    """Admission to one host: first come, first served within each lane.

    Attributes:
        limit: how many requests at once.
    """

    limit: int
    _active: Counter[RequestClass] = field(default_factory=Counter)
    _waiting: dict[RequestClass, OrderedDict[asyncio.Future[None], None]] = field(
        default_factory=lambda: {
            lane: OrderedDict() for lane in (RequestClass.SMALL, RequestClass.DOWN, RequestClass.UP)
        }
    )

    @asynccontextmanager
    async def slot(self, lane: RequestClass) -> AsyncIterator[None]:
        """Hold a place in `lane`."""
        if self._waiting[lane] or not self._admits(lane):
            await self._wait(lane)
        else:
            self._active[lane] += 1
        try:
            yield
        finally:
            self._active[lane] -= 1
            self._wake()

    async def _wait(self, lane: RequestClass) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting[lane][turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():  # whoever left since may have taken it out of the line already
                self._waiting[lane].pop(turn, None)
            else:  # admitted and cancelled in the same breath: pass the place on
                self._active[lane] -= 1
                self._wake()
            raise

    def _wake(self) -> None:
        for lane, queue in self._waiting.items():
            while queue and self._admits(lane):
                turn, _ = queue.popitem(last=False)
                if not turn.done():
                    self._active[lane] += 1
                    turn.set_result(None)

    def _admits(self, lane: RequestClass) -> bool:
        active = self._active
        return admits(
            lane, Load(active[RequestClass.SMALL], active[RequestClass.DOWN], active[RequestClass.UP]), self.limit
        )
