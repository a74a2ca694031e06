"""What all clients share: it is made at most once a second, and compressed once."""

from __future__ import annotations

import asyncio
import gzip
import secrets
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from functools import partial
from hashlib import sha256
from itertools import count
from typing import Final, Generic, TypeVar

from aiohttp import web

from mirrord.report.status import MirrorStatus
from mirrord.serve.negotiation import packed, unchanged, wants_gzip, with_vary

_Made = TypeVar("_Made")
_Part = TypeVar("_Part")
_Key = TypeVar("_Key", bound=Hashable)

EVERY: Final = 1.0
"""Minimum seconds between two renderings of a page."""
_NONCE: Final = secrets.token_hex(6)  # of this process: numbers begin again at each start
_numbers = count()


def serial() -> str:
    """Return a text that this process and the ones before it have not returned yet."""
    return f"{_NONCE}-{next(_numbers)}"


class Paced(Generic[_Made]):
    """Something that is made when it is asked for, and at most once in `every` seconds."""

    def __init__(
        self,
        make: Callable[[], Awaitable[_Made]],
        edition: Callable[[], int],
        every: float = EVERY,
        lasts: float | None = None,
    ) -> None:
        """Make nothing yet.

        `make` returns the present one, and MUST NOT block the event loop for long; `edition` grows with each event
        that later requests have to show. Without one it is made anew when it is older than `lasts`, else `every`; it
        takes no memory for longer than that either.
        """
        self._make, self._edition, self._every = make, edition, every
        self._lasts = every if lasts is None else lasts
        self._made: tuple[_Made, float, int] | None = None  # with when it was begun, and at which edition
        self._making: asyncio.Task[None] | None = None

    async def current(self) -> _Made:
        """Return the present one."""
        asked, edition = asyncio.get_running_loop().time(), self._edition()
        while self._made is None or self._made[2] < edition or self._made[1] + self._lasts <= asked:
            # A task that is done must not be awaited again: that returns at once, so that this would never yield.
            if self._making is None or self._making.done():
                self._making = asyncio.create_task(self._next())
                self._making.add_done_callback(lambda done: done.cancelled() or done.exception())  # the waiters get it
            await asyncio.shield(self._making)  # a cancelled client must not affect others
        return self._made[0]

    async def close(self) -> None:
        """Stop making."""
        if self._making is not None:
            self._making.cancel()
            await asyncio.wait((self._making,))

    async def _next(self) -> None:
        loop = asyncio.get_running_loop()
        if self._made is not None:
            await asyncio.sleep(self._made[1] + self._every - loop.time())
        began, edition = loop.time(), self._edition()
        self._made = made = await self._make(), began, edition
        loop.call_later(self._lasts, self._forget, made)

    def _forget(self, made: tuple[_Made, float, int]) -> None:
        if self._made is made:
            self._made = None


class Body:
    """The bytes of a page; compressed on demand, once."""

    def __init__(self, body: bytes, etag: str = "") -> None:
        """Give it a tag: `etag` if the same bytes may be made again, else one that no other page has."""
        self._body, self._etag = body, etag or f'"{serial()}"'
        self._small: asyncio.Task[bytes] | None = None

    async def answer(self, request: web.Request, fields: Mapping[str, str]) -> web.Response:
        """Send it with these header fields, or 304 if the client has it."""
        small = wants_gzip(request.headers.get("Accept-Encoding"))
        headers = with_vary({"Cache-Control": "no-cache", **fields, "ETag": self._etag}, "Accept-Encoding")
        headers = packed(headers) if small else headers
        if unchanged(request.headers.get("If-None-Match"), headers["ETag"]):
            return web.Response(status=304, headers=headers)
        return web.Response(body=await self._packed() if small else self._body, headers=headers)

    async def _packed(self) -> bytes:
        if self._small is None:
            self._small = asyncio.create_task(asyncio.to_thread(partial(gzip.compress, self._body, 1, mtime=0)))
        return await asyncio.shield(self._small)


def tagged(body: bytes) -> Body:
    """Return a page whose ETag is made of its bytes, for one that may be made again without a change."""
    return Body(body, f'"{sha256(body).hexdigest()[:24]}"')


class Copies(Generic[_Key]):
    """Bodies that were made of one thing, such as a page by the look of its readers: each once for all of them."""

    def __init__(self, most: int = 8) -> None:
        """Begin empty; of more than `most` the last ones are kept."""
        self._most = most
        self._made: dict[_Key, asyncio.Task[Body]] = {}

    async def get(self, key: _Key, make: Callable[[], Body]) -> Body:
        """Return the body of a key; `make` runs in a thread, and again if it has failed."""
        made = self._made.get(key)
        if made is None or (made.done() and (made.cancelled() or made.exception())):
            while len(self._made) >= self._most:
                del self._made[next(iter(self._made))]
            made = self._made[key] = asyncio.create_task(asyncio.to_thread(make))
        return await asyncio.shield(made)


class Rendered:
    """One page."""

    def __init__(
        self,
        make: Callable[[], Awaitable[bytes]],
        edition: Callable[[], int],
        headers: Mapping[str, str],
        every: float = EVERY,
    ) -> None:
        """Render nothing yet; `make`, `edition` and `every` are those of `Paced`."""

        async def body() -> Body:
            return Body(await make())

        self._headers, self._page = headers, Paced(body, edition, every)

    async def answer(self, request: web.Request) -> web.Response:
        """Send the page, or 304 if the client has it."""
        return await (await self._page.current()).answer(request, self._headers)

    async def close(self) -> None:
        """Stop rendering."""
        await self._page.close()


class Fragments(Generic[_Part]):
    """The part of each mirror in one format, made again only when its status has changed."""

    def __init__(self, write: Callable[[MirrorStatus], _Part]) -> None:
        """Begin empty."""
        self._write = write
        self._written: Mapping[str, tuple[MirrorStatus, _Part]] = {}

    def of(self, mirrors: Iterable[MirrorStatus]) -> list[_Part]:
        """Return the part of each mirror; an unchanged one is the very value of before."""
        before, written = self._written, dict[str, tuple[MirrorStatus, _Part]]()
        for mirror in mirrors:
            found = before.get(mirror.name)
            same = found is not None and found[0] is mirror
            written[mirror.name] = found if found and same else (mirror, self._write(mirror))
        self._written = written
        return [part for _, part in written.values()]
