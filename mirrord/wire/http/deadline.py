"""The longest that one exchange may take, whatever keeps it busy: drips, retries, redirects, new tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from mirrord.errors import StalledError
from mirrord.wire.http.message import HttpRequest, Limits, Upload

Line = AbstractAsyncContextManager[None]


@asynccontextmanager
async def deadline(
    request: HttpRequest, limits: Limits, *, content: bool = False
) -> AsyncIterator[Callable[[Line], Line]]:
    """End what runs in it when the request's time is over. Yields what holds a place in a line at no cost of time.

    Args:
        request: its `deadline` counts; None stands for `Limits.small`, and for no end with content under way.
        limits: patience.
        content: the answer is content, of whatever length.

    Raises:
        StalledError: the time ran out.
    """
    endless = content or isinstance(request.body, Upload)
    seconds = limits.small if request.deadline is None and not endless else request.deadline
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield partial(_free, limit)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StalledError(f"{request.host}: {request.method} not done within {seconds:.0f} s") from error


@asynccontextmanager
async def _free(limit: asyncio.Timeout, line: Line) -> AsyncIterator[None]:
    """Hold a place in `line`; the clock stands still until it is our turn: waiting here is our own doing."""
    until, since = limit.when(), asyncio.get_running_loop().time()
    limit.reschedule(None)
    async with line:
        if until is not None:
            limit.reschedule(until + asyncio.get_running_loop().time() - since)
        yield
