"""Content to fetch: what is known of it, and where it can be had. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from mirrord.model.digest import Digest

Opener = Callable[[int], AbstractAsyncContextManager[tuple[int | None, AsyncIterator[bytes]]]]
"""Opens the source at an offset: how long the whole of it is, as far as the source says, and its bytes from there on.

Raises RestartedError when these bytes may not belong to those before the offset. Where no digest tells in the end, the
opener has to see to that.
"""


def embedded(data: bytes) -> Opener:
    """Open bytes that stand in their descriptor (descriptor.md, "Embedded Content") as if a source had them."""

    async def chunks(offset: int) -> AsyncIterator[bytes]:
        yield data[offset:]

    @contextlib.asynccontextmanager
    async def opened(offset: int) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        yield len(data), chunks(offset)

    return opened


@dataclass(frozen=True, slots=True)
class BlobSource:
    """A blob, and where it can be had.

    Attributes:
        digest: what it must be; None for whatever comes, whose sha256 is known at its end.
        size: how long it must be, in bytes; None for as long as the source says, or until it ends.
        open: opens the source at an offset, or None when there is a file.
        file: a local file that holds it (a layout, the local store), read in place.
        start: where in that file it begins.
        limit: how long it may be at most where no `size` is given; None for as long as there is room for it.
        on_bytes: called with each number of bytes that came from the source.
        name: what people call the source, a host and what is asked for there; those of one name share a connection.
    """

    digest: Digest | None
    size: int | None
    open: Opener | None = None
    file: Path | None = None
    start: int = 0
    limit: int | None = None
    on_bytes: Callable[[int], None] = lambda _count: None
    name: str = ""

    def __str__(self) -> str:
        """Return what messages call it."""
        return ": ".join(filter(None, (self.name, self.digest))) or "content of a source without a name"
