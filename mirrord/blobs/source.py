"""Content to fetch: what is known of it, and its source. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from mirrord.files import nothing
from mirrord.model.digest import Digest

Opener = Callable[[int], AbstractAsyncContextManager[tuple[int | None, AsyncIterator[bytes]]]]
"""Opens the source at an offset: the size of the whole, if the source reports it, and the bytes from there on.

Raises RestartedError when these bytes may not continue those before the offset. Without a digest the opener has to
check that.
"""


def embedded(data: bytes) -> Opener:
    """Open bytes that are embedded in their descriptor (descriptor.md, "Embedded Content") like a source."""

    async def chunks(offset: int) -> AsyncIterator[bytes]:
        yield data[offset:]

    @contextlib.asynccontextmanager
    async def opened(offset: int) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        yield len(data), chunks(offset)

    return opened


@dataclass(frozen=True, slots=True)
class BlobSource:
    """A blob and its source.

    Attributes:
        digest: the expected digest; None if unknown: then its sha256 is known at its end.
        size: the expected size in bytes; None if unknown.
        open: opens the source at an offset, or None when there is a file.
        file: a local file that contains it (a layout, the local store), read in place.
        start: its offset in that file.
        limit: its largest size where no `size` is given; None for no limit but the space.
        on_bytes: called with the number of bytes of each read from the source.
        on_wrong: called when its bytes were wrong, or those of it and others together.
        name: the source for messages, a host and the request; sources of one name share a connection.
        origin: the registry that it is read from; "" where there is none.
        same_origin: whether it shares a transfer only with sources of its origin. Clients of a front need that: wrong
            bytes cut them off.
    """

    digest: Digest | None
    size: int | None
    open: Opener | None = None
    file: Path | None = None
    start: int = 0
    limit: int | None = None
    on_bytes: Callable[[int], None] = lambda _count: None
    on_wrong: Callable[[], None] = nothing
    name: str = ""
    origin: str = ""
    same_origin: bool = False

    @property
    def key(self) -> object:
        """What readers share a read by: the digest, and the origin if it demands that; the opener without a digest."""
        return self._keyed(self.origin if self.same_origin else "")

    @property
    def keys(self) -> Sequence[object]:
        """The keys of transfers that it may join, its own first: that of its origin's clients, and that of mirrors."""
        return list(dict.fromkeys((self.key, self._keyed(self.origin), self._keyed(""))))

    def _keyed(self, origin: str) -> object:
        if self.digest is None and self.file is None:
            return self.open
        return self.digest, self.size, self.file, self.start, origin

    def __str__(self) -> str:
        """Return its name in messages."""
        return ": ".join(filter(None, (self.name, self.digest))) or "content of an unnamed source"
