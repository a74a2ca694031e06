"""Waiting in line at one host, by the rules of `mirrord.wire.pace.admits`."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mirrord.wire.pace import Lane, Load, admits


@dataclass(slots=True)
class Lanes:
    """Admission to one host: first come, first served within each lane.

    Attributes:
        limit: how many requests at once.
    """

    limit: int
    _active: Counter[Lane] = field(default_factory=Counter)
    _waiting: dict[Lane, OrderedDict[asyncio.Future[None], None]] = field(
        default_factory=lambda: {lane: OrderedDict() for lane in (Lane.SMALL, Lane.DOWN, Lane.UP)}
    )

    @asynccontextmanager
    async def slot(self, lane: Lane) -> AsyncIterator[None]:
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

    async def _wait(self, lane: Lane) -> None:
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

    def _admits(self, lane: Lane) -> bool:
        active = self._active
        return admits(lane, Load(active[Lane.SMALL], active[Lane.DOWN], active[Lane.UP]), self.limit)
