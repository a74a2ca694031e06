"""Sends what comes piece by piece, as fast as a client takes it, and stops when the client is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from time import monotonic

from aiohttp import web

from mirrord.errors import BrokenError
from mirrord.serve.door import departure
from mirrord.serve.sending import LOOKS, STALL, ConnectionProgress


async def send_stream(
    request: web.Request,
    answer: web.StreamResponse,
    pieces: AsyncGenerator[bytes, None],
    broken: Callable[[Exception], None],
    stall: float = STALL,
) -> web.StreamResponse:
    """Send what comes, each piece when the one before was taken, and close it; what it raises first is raised.

    Behind the first piece nobody can be told of an error but by the end of the connection: `broken` hears of it.
    """
    async with aclosing(pieces):
        first = await _next(pieces)
        await answer.prepare(request)
        try:
            with _watched(request, stall) as progress:
                while first is not None:
                    if first:  # an empty one would end the answer
                        progress.waits = True
                        progress.sent(monotonic())
                        await answer.write(first)
                        progress.waits = False
                    first = await _next(pieces)
        except ConnectionError:
            abort(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must not take this for whole
            abort(request)
            broken(error)
    return answer


async def _next(pieces: AsyncGenerator[bytes, None]) -> bytes | None:
    try:
        return await anext(pieces, None)
    except OSError as error:  # of whoever makes them, and not of this client's connection
        raise BrokenError(str(error)) from error


@contextlib.contextmanager
def _watched(request: web.Request, stall: float) -> Iterator[ConnectionProgress]:
    """Look now and then at a client that is waited for; the connection of one that stopped reading is ended."""
    transport = request.transport
    connection = transport.get_extra_info("socket") if transport is not None else None
    if connection is None or transport is None:
        raise ConnectionResetError("the client disconnected")
    progress = ConnectionProgress(connection.fileno(), monotonic())

    async def looks() -> None:
        with contextlib.suppress(OSError):  # it is gone: whoever writes hears of it
            while True:
                await asyncio.sleep(stall / LOOKS)
                if progress.waits and progress.stopped(monotonic(), stall):
                    transport.abort()

    looking = asyncio.create_task(looks())
    try:
        yield progress
    finally:
        looking.cancel()


async def attended(request: web.Request, work: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    """Return what `work` returns, which is called off when the client leaves."""
    working, gone = asyncio.ensure_future(work), asyncio.create_task(departure(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.wait((working, gone))
    return web.Response(status=400, text="the client disconnected\n") if working.cancelled() else working.result()


def abort(request: web.Request) -> None:
    """End the connection, so that nobody takes what was sent for whole."""
    if request.transport is not None:
        request.transport.abort()
