"""Reports how answers of a front ended, with what clients really got: nothing of this runs unless each is logged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from mirrord.events import Events, FrontDone
from mirrord.syncer.serving import Meter, Response

_LATE = 1.0  # seconds after which what a thread has sent to a client that left is counted


class CountingMeter:
    """Fulfils `Meter`: counts, and passes on to the meter of the answer, if it has one."""

    def __init__(self, meter: Meter | None) -> None:
        """Begin."""
        self._meter, self.size = meter, 0

    @property
    def paced(self) -> bool:
        """Return whether the other one paces."""
        return self._meter is not None and self._meter.paced

    async def pace(self, count: int) -> None:
        """Wait as the other one does."""
        if self._meter is not None:
            await self._meter.pace(count)

    def sent(self, count: int) -> None:
        """Count."""
        self.size += count
        if self._meter is not None:
            self._meter.sent(count)

    def ended(self) -> None:
        """Pass it on."""
        if self._meter is not None:
            self._meter.ended()


async def reported(
    response: Response, send: Callable[[Response], Awaitable[web.StreamResponse]], events: Events
) -> web.StreamResponse:
    """Send an answer that has a `log`, and emit how it ended."""
    assert response.log is not None
    (client, repository, reference), meter = response.log, CountingMeter(response.meter)

    def emit(status: int) -> None:
        events.emit(FrontDone(client, repository, reference, status, response.outcome, meter.size))

    try:
        answer = await send(replace(response, meter=meter))
    except BaseException:  # the client has left; what it got is known a moment later
        asyncio.get_running_loop().call_later(_LATE, emit, response.status)
        raise
    emit(answer.status)
    return answer
