"""Streams pieces as fast as a client reads, and stops when it disconnects."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from time import monotonic

from aiohttp import web

from mirrord.errors import BrokenError
from mirrord.serve.door import departure
from mirrord.serve.sending import LOOKS, PIECE, STALL, ConnectionProgress
from mirrord.serve.turns import TurnBudget
from mirrord.syncer.serving import Meter


async def send_stream(
    request: web.Request,
    answer: web.StreamResponse,
    pieces: AsyncGenerator[bytes, None],
    broken: Callable[[Exception], None],
    stall: float = STALL,
    *,
    prompt: bool = False,
    meter: Meter | None = None,
    turns: TurnBudget | None = None,
) -> web.StreamResponse:
    """Send each piece when the previous one was read, then close the source; an error before the first piece is raised.

    After the first piece, or with `prompt` after the headers, which are then sent at once, an error can only end the
    connection: `broken` is called with it. `meter` counts and paces the pieces; `turns` bounds
    what one turn of the event loop writes of all streams.
    """
    async with aclosing(pieces):
        first = b"" if prompt else await _next(pieces)
        await answer.prepare(request)
        try:
            with _watched(request, stall) as progress:
                while first is not None:
                    if first:  # an empty piece would end the answer
                        await _send(answer, first, progress, meter, turns)
                    first = await _next(pieces)
        except ConnectionError:
            abort(request)
        except Exception as error:  # noqa: BLE001 - the client must not regard this as complete
            abort(request)
            broken(error)
    return answer


async def _send(
    answer: web.StreamResponse,
    piece: bytes,
    progress: ConnectionProgress,
    meter: Meter | None,
    turns: TurnBudget | None,
) -> None:
    """Send a piece, in smaller ones if it is paced."""
    paced = meter is not None and meter.paced
    for start in range(0, len(piece), PIECE if paced else len(piece)):
        part = piece[start : start + PIECE] if paced else piece
        if meter is not None and paced:
            await meter.pace(len(part))
        if turns is not None:
            await turns.take(len(part))
        progress.waits = True
        progress.sent(monotonic())
        await answer.write(part)
        progress.waits = False
        if meter is not None:
            meter.sent(len(part))


async def _next(pieces: AsyncGenerator[bytes, None]) -> bytes | None:
    try:
        return await anext(pieces, None)
    except OSError as error:  # from the source, not from this client's connection
        raise BrokenError(str(error)) from error


@contextlib.contextmanager
def _watched(request: web.Request, stall: float) -> Iterator[ConnectionProgress]:
    """Check a client periodically while waiting for it; disconnect it if it stopped reading."""
    transport = request.transport
    connection = transport.get_extra_info("socket") if transport is not None else None
    if connection is None or transport is None:
        raise ConnectionResetError("the client disconnected")
    progress = ConnectionProgress(connection.fileno(), monotonic())

    async def looks() -> None:
        with contextlib.suppress(OSError):  # disconnected: the writer gets the error
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
    """Return the result of `work`, which is cancelled when the client leaves."""
    working, gone = asyncio.ensure_future(work), asyncio.create_task(departure(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.wait((working, gone))
    return web.Response(status=400, text="the client disconnected\n") if working.cancelled() else working.result()


def abort(request: web.Request) -> None:
    """Abort the connection, so that the client does not regard the answer as complete."""
    if request.transport is not None:
        request.transport.abort()
