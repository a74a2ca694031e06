"""A page that many ask for and one makes: at most so often, in a thread, and the same bytes for all.

Whoever asks waits for nothing while the page is young and shows all that had to be seen when it was asked for. Else
one makes the next, when its time has come, and all who ask meanwhile get that.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from mirrord.serve.negotiation import unchanged

EVERY: Final = 1.0
"""Seconds between two makings of one page, at least."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A page: its bytes and their tag, when its making began, and the edition that it shows."""

    body: bytes
    etag: str
    began: float
    edition: int


class Rendered:
    """One page."""

    def __init__(
        self,
        make: Callable[[], Awaitable[bytes]],
        edition: Callable[[], int],
        headers: Mapping[str, str],
        every: float = EVERY,
    ) -> None:
        """Make nothing yet.

        Args:
            make: gives the page as it is now; MUST NOT occupy the event loop for long.
            edition: grows whenever something happened that whoever asks afterwards has to see.
            headers: to send with it.
            every: seconds between two makings.
        """
        self._make, self._edition, self._every = make, edition, every
        self._headers = {"Cache-Control": "no-cache", **headers}
        self._made: _Made | None = None
        self._making: asyncio.Task[None] | None = None

    async def answer(self, request: web.Request) -> web.Response:
        """Send the page, or 304 to a client that has it."""
        made = await self._current()
        headers = {**self._headers, "ETag": made.etag}
        if unchanged(request.headers.get("If-None-Match"), made.etag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=made.body, headers=headers)

    async def close(self) -> None:
        """Make no more."""
        if self._making is not None:
            self._making.cancel()
            await asyncio.wait((self._making,))

    async def _current(self) -> _Made:
        asked, edition = asyncio.get_running_loop().time(), self._edition()
        while self._made is None or self._made.edition < edition or self._made.began + self._every <= asked:
            if self._making is None:
                self._making = asyncio.create_task(self._next())
                self._making.add_done_callback(self._ended)
            await asyncio.shield(self._making)  # who leaves takes nothing away from the others
        return self._made

    async def _next(self) -> None:
        loop = asyncio.get_running_loop()
        if self._made is not None:
            await asyncio.sleep(self._made.began + self._every - loop.time())
        began, edition = loop.time(), self._edition()
        body = await self._make()
        tag = hashlib.blake2b(body, digest_size=16).hexdigest()
        self._made = _Made(body, f'"{tag}"', began, edition)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._making = None
        if not task.cancelled():
            task.exception()  # whoever waits gets it
