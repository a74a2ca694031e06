"""Blobs whose bytes stand in their descriptor (image-spec, descriptor.md, "Embedded Content")."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from mirrord.blobs.source import Opener


def embedded(data: bytes) -> Opener:
    """Open these bytes as if they came from a source."""

    async def chunks(offset: int) -> AsyncIterator[bytes]:
        yield data[offset:]

    @contextlib.asynccontextmanager
    async def opened(offset: int) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        yield len(data), chunks(offset)

    return opened
