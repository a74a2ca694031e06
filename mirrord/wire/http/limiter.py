"""Waiting in line at one host, by the rules of `mirrord.wire.http.pace.admits`."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mirrord.wire.http.pace import RequestClass, admits


@dataclass(slots=True)
class HostLimiter:
    """Admission to one host: first come, first served within each class.

    Attributes:
        limit: how many requests at once.
    """

    limit: int
    _active: Counter[RequestClass] = field(default_factory=Counter)
    _waiting: dict[RequestClass, OrderedDict[asyncio.Future[None], None]] = field(
        default_factory=lambda: {kind: OrderedDict() for kind in RequestClass}
    )

    @asynccontextmanager
    async def slot(self, kind: RequestClass) -> AsyncIterator[None]:
        """Hold a place for one request of this class."""
        if self._waiting[kind] or not self._admits(kind):
            await self._wait(kind)
        else:
            self._active[kind] += 1
        try:
            yield
        finally:
            self._active[kind] -= 1
            self._wake()

    async def _wait(self, kind: RequestClass) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting[kind][turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():  # whoever left since may have taken it out of the line already
                self._waiting[kind].pop(turn, None)
            else:  # admitted and cancelled in the same breath: pass the place on
                self._active[kind] -= 1
                self._wake()
            raise

    def _wake(self) -> None:
        for kind, queue in self._waiting.items():
            while queue and self._admits(kind):
                turn, _ = queue.popitem(last=False)
                if not turn.done():
                    self._active[kind] += 1
                    turn.set_result(None)

    def _admits(self, kind: RequestClass) -> bool:
        return admits(kind, self._active, self.limit)
