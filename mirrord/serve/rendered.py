"""A page that all clients share: it is rendered at most once a second, and compressed once."""

from __future__ import annotations

import asyncio
import gzip
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final

from aiohttp import web

from mirrord.serve.negotiation import packed, unchanged, wants_gzip, with_vary

EVERY: Final = 1.0
"""Minimum seconds between two renderings of a page."""


@dataclass(slots=True)
class _Made:
    """A rendered page: bytes, tag, start time, edition, and its gzip form."""

    body: bytes
    etag: str
    began: float
    edition: int
    small: asyncio.Task[bytes] | None = None

    async def packed(self) -> bytes:
        """Return the gzip form, which is compressed once, on demand."""
        if self.small is None:
            self.small = asyncio.create_task(asyncio.to_thread(gzip.compress, self.body, 1))
        return await asyncio.shield(self.small)


class Rendered:
    """One page."""

    def __init__(
        self,
        make: Callable[[], Awaitable[bytes]],
        edition: Callable[[], int],
        headers: Mapping[str, str],
        every: float = EVERY,
    ) -> None:
        """Render nothing yet.

        `make` returns the present page, and MUST NOT block the event loop for long; `edition` grows with each event
        that later requests have to show.
        """
        self._make, self._edition, self._every = make, edition, every
        self._headers = with_vary({"Cache-Control": "no-cache", **headers}, "Accept-Encoding")
        # Pages always differ, since they show the time.
        self._tags = (f'"{secrets.token_hex(6)}-{number}"' for number in count())
        self._made: _Made | None = None
        self._making: asyncio.Task[None] | None = None

    async def answer(self, request: web.Request) -> web.Response:
        """Send the page, or 304 if the client has it."""
        made = await self._current()
        headers, small = {**self._headers, "ETag": made.etag}, wants_gzip(request.headers.get("Accept-Encoding"))
        headers = packed(headers) if small else headers
        if unchanged(request.headers.get("If-None-Match"), headers["ETag"]):
            return web.Response(status=304, headers=headers)
        return web.Response(body=await made.packed() if small else made.body, headers=headers)

    async def close(self) -> None:
        """Stop rendering."""
        if self._making is not None:
            self._making.cancel()
            await asyncio.wait((self._making,))

    async def _current(self) -> _Made:
        asked, edition = asyncio.get_running_loop().time(), self._edition()
        while self._made is None or self._made.edition < edition or self._made.began + self._every <= asked:
            # A task that is done must not be awaited again: that returns at once, so that this would never yield.
            if self._making is None or self._making.done():
                self._making = asyncio.create_task(self._next())
                self._making.add_done_callback(lambda done: done.cancelled() or done.exception())  # the waiters get it
            await asyncio.shield(self._making)  # a cancelled client must not affect others
        return self._made

    async def _next(self) -> None:
        loop = asyncio.get_running_loop()
        if self._made is not None:
            await asyncio.sleep(self._made.began + self._every - loop.time())
        began, edition = loop.time(), self._edition()
        body = await self._make()
        self._made = _Made(body, next(self._tags), began, edition)
