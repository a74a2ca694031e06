"""Reads and decodes a request's whole body, within limits, before any work starts.

A client that sends nothing costs only a connection for a few seconds: the body must arrive at a minimum pace, which
slow lines meet. Few large bodies are read at once, which bounds the memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from aiohttp import web

from mirrord.errors import ContentError, TooLargeError
from mirrord.gunzip import gunzip
from mirrord.serve.slots import FullError, Slots, client_of

PATIENCE: Final = 15.0
"""Seconds that a body may take in addition to those for its size."""
PACE: Final = 1024
"""Bytes that must arrive in each further second, on average."""
_SMALL: Final = 64 << 10
_LONG_WORK: Final = 256 << 10  # bytes; decoding more would block the event loop for too long
_GZIP: Final = ("gzip", "x-gzip")


class BodyError(Exception):
    """The body is rejected: HTTP status and reason."""


class Bodies:
    """Reads the bodies of a server's requests."""

    def __init__(self, patience: float = PATIENCE, *, large: int = 16, each: int = 4, pace: float = PACE) -> None:
        """Read at most `large` large bodies at once, `each` per client; see `PATIENCE` and `PACE`."""
        self._patience, self._pace = patience, pace
        self._slots = Slots(large, each)

    @asynccontextmanager
    async def whole(self, request: web.BaseRequest, largest: int) -> AsyncIterator[bytes]:
        """Read a body of at most `largest` decoded bytes, or raise BodyError; it counts while the context lasts."""
        coding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in {*_GZIP, "identity"}:
            raise BodyError(415, "gzip is the only Content-Encoding that a request may have")
        async with AsyncExitStack() as stack:
            try:
                body: bytes | bytearray = await self._read(request, largest, stack)
            except web.RequestPayloadError as error:
                raise BodyError(400, "the request's body cannot be read") from error
            except FullError as error:
                raise BodyError(503, "too many large requests; try again later") from error
            if coding in _GZIP:
                large = largest > _LONG_WORK
                body = await asyncio.to_thread(_plain, body, largest) if large else _plain(body, largest)
            yield bytes(body)

    async def _read(self, request: web.BaseRequest, largest: int, stack: AsyncExitStack) -> bytearray:
        """Read it in time, and take a slot on `stack` if it is large."""
        loop = asyncio.get_running_loop()
        began, body = loop.time(), bytearray()
        if (request.content_length or 0) > largest:
            raise BodyError(413, f"a request body may have at most {largest} bytes")
        try:
            async with asyncio.timeout_at(began + self._patience) as watch:
                async for piece in request.content.iter_any():
                    small = len(body) <= _SMALL
                    body += piece
                    if len(body) > largest:
                        raise BodyError(413, f"a request body may have at most {largest} bytes")
                    if small and len(body) > _SMALL:
                        watch.reschedule(None)
                        waited = loop.time()
                        await stack.enter_async_context(self._slots.slot(client_of(request.remote or "")))
                        began += loop.time() - waited
                    watch.reschedule(began + self._patience + len(body) / self._pace)
        except TimeoutError as error:
            raise BodyError(408, "timed out while reading the request body") from error
        return body


def _plain(packed: bytes | bytearray, largest: int) -> bytes:
    try:
        return b"".join(gunzip((bytes(packed),), largest, single=True))
    except TooLargeError as error:
        raise BodyError(413, f"a request body may have at most {largest} bytes") from error
    except ContentError as error:
        raise BodyError(400, "the request's body cannot be read") from error
