"""A blob that the shared part of a cache has: read from there, and from its own source what does not come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from mirrord.blobs.source import BlobSource
from mirrord.blobs.store import Remote
from mirrord.errors import BrokenError, MirrordError
from mirrord.model.digest import Digest
from mirrord.model.objects import BucketAwayError

if TYPE_CHECKING:
    from mirrord.blobs.shared_cache import SharedCache

FIRST: Final = 5.0
"""Seconds until the first bytes."""
STALLED: Final = 15.0
"""Seconds between bytes."""


class SharedFirst:
    """Opens the shared copy once: when it breaks, or its bytes are wrong, everything else comes from the source.

    Each client of a transfer has one of these, and only one of them opens the copy, lest wrong bytes come twice.
    """

    def __init__(self, source: BlobSource, digest: Digest, shared: Remote, cache: SharedCache) -> None:
        """Read `source`, whose digest and shared copy these are; tell the `cache` what is wrong with that."""
        self._source, self._digest, self._shared, self._cache = source, digest, shared, cache
        self._reading = False

    @property
    def source(self) -> BlobSource:
        """Return the source; only bytes of the original one are counted."""
        wrong = partial(self._cache.wrong, self._digest)
        return replace(self._source, open=self._open, on_bytes=self._count, on_wrong=wrong)

    def _count(self, count: int) -> None:
        if not self._reading:
            self._source.on_bytes(count)

    @asynccontextmanager
    async def _open(self, offset: int) -> AsyncIterator[tuple[int | None, AsyncIterator[bytes]]]:
        async with AsyncExitStack() as stack:
            if self._cache.may_open(self._digest):
                pieces = self._pieces(offset)
                stack.push_async_callback(pieces.aclose)
                first = await anext(pieces, b"")
                self._reading = True
                stack.callback(self._ended)
                yield self._shared.size, self._all(first, pieces)
                return
            assert self._source.open is not None
            yield await stack.enter_async_context(self._source.open(offset))

    def _ended(self) -> None:
        self._reading = False

    async def _pieces(self, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield what comes; BrokenError when nothing does."""
        pieces, seconds = self._shared.open(offset, self._shared.size - offset), FIRST
        try:
            while True:
                async with asyncio.timeout(seconds):
                    piece = await anext(pieces, b"")
                if not piece:
                    return
                yield piece
                seconds = STALLED
        except (MirrordError, TimeoutError) as error:
            why = str(error) or f"nothing came of a blob for {seconds:.0f} s"
            if isinstance(error, BucketAwayError | TimeoutError):
                self._cache.bucket.rest(why)
            raise BrokenError(f"{self._source}: the shared copy cannot be read: {why}") from error
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    async def _all(self, first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        if first:
            yield first
        async for piece in pieces:
            yield piece
