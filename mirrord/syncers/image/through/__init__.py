"""The registry front: any listed image, fetched when a client asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic, time  # noqa: TID251 - a default argument, to say until when a tag is fresh
from typing import Final

from mirrord.blobs.content_cache import open_cache
from mirrord.errors import StorageError
from mirrord.events import Evicted
from mirrord.syncer.values import Services
from mirrord.syncers.image.through.opened import KIND, ImageFront

EVERY: Final = 10.0
"""Seconds between two looks at the configuration and its files while nobody asks for anything."""


@asynccontextmanager
async def open_through(
    services: Callable[[], Services], *, clock: Callable[[], float] = monotonic, wall: Callable[[], float] = time
) -> AsyncIterator[ImageFront]:
    """Open the front with its cache below `Services.keep`; see `PullThrough.open`."""
    begun = services()
    assert begun.keep is not None

    def evicted(count: int, size: int) -> None:
        services().events.emit(Evicted(count, size))

    shared = begun.shared(KIND) if begun.shared else None
    async with open_cache(begun.keep / "cache" / KIND, begun.spools, evicted, shared) as cache:
        front = ImageFront(services, cache, begun.keep / "front" / KIND / "allow.json", clock, wall)
        following = asyncio.create_task(_follow(front), name="follow front.image")
        try:
            yield front
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await front.aclose()


async def _follow(front: ImageFront) -> None:
    """Apply changes of the configuration and of its files also while nobody asks for anything."""
    while True:
        with suppress(StorageError):  # the next request reports it
            await front.follow()
        await asyncio.sleep(EVERY)
