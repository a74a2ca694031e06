"""The longest that one exchange may take, whatever keeps it busy: drips, retries, redirects, new tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self

from mirrord.errors import StalledError
from mirrord.wire.http.message import HttpRequest, Limits, Upload


class Deadline:
    """Ends what runs in it when the request's time is over; time in line at the host is our own doing and free.

    Args:
        request: its `deadline` counts; None stands for `Limits.small`, and for no end with content under way.
        limits: patience.
        content: the answer is content, of whatever length.
    """

    def __init__(self, request: HttpRequest, limits: Limits, *, content: bool = False) -> None:
        self._request = request
        endless = content or isinstance(request.body, Upload)
        self._seconds = limits.small if request.deadline is None and not endless else request.deadline
        self._limit = asyncio.timeout(self._seconds)

    async def __aenter__(self) -> Self:
        """Start the clock."""
        await self._limit.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clock.

        Raises:
            StalledError: it ran out.
        """
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise StalledError(
                f"{self._request.host}: {self._request.method} not done within {self._seconds:.0f} s"
            ) from late

    @asynccontextmanager
    async def free(self, line: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
        """Hold a place in `line`; the clock stands still until it is our turn."""
        until, since = self._limit.when(), asyncio.get_running_loop().time()
        self._limit.reschedule(None)
        async with line:
            if until is not None:
                self._limit.reschedule(until + asyncio.get_running_loop().time() - since)
            yield
