"""Tasks that have ended before whoever began them goes on, whatever fails or is cancelled."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Any, TypeVar

from mirrord.errors import MirrordError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@asynccontextmanager
async def joined() -> AsyncIterator[asyncio.TaskGroup]:
    """Open a group of tasks that raises the first error, and no group of errors."""
    first: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except* (MirrordError, TimeoutError) as errors:
        first = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
    if first is not None:  # not raised in `except*`: Python 3.11.2, which is Debian 12's, would wrap it in a group
        raise first from None


async def finished(work: Coroutine[Any, Any, object], patience: float) -> None:
    """Do what has to end before a cancellation goes on, however often that comes.

    What has not ended `patience` seconds after the first one is cancelled.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        timer = asyncio.get_running_loop().call_later(patience, task.cancel)
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        timer.cancel()
        if not task.cancelled():
            task.exception()  # it is told to nobody: the cancellation goes on
        raise


async def ahead(
    items: Iterable[_Item], do: Callable[[_Item], Coroutine[Any, Any, _Result]], most: int
) -> AsyncGenerator[tuple[_Item, asyncio.Task[_Result]], None]:
    """Yield each item in its order with the task that does it, while those of the next ones, `most` at once, begin.

    Await each task before the next item, and close it with `contextlib.aclosing`: then none is left.
    """
    left, begun = iter(items), deque[tuple[_Item, asyncio.Task[_Result]]]()
    try:
        while True:
            begun += ((item, asyncio.create_task(do(item))) for item in islice(left, most - len(begun)))
            if not begun:
                return
            yield begun[0]
            begun.popleft()
    finally:
        for _, task in begun:
            task.cancel()
        await asyncio.gather(*(task for _, task in begun), return_exceptions=True)
