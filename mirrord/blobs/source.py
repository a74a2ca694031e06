"""A blob that somebody wants, and where it can be had. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from mirrord.model.digest import Digest

Opener = Callable[[int], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Opens the source at an offset."""


@dataclass(frozen=True, slots=True)
class BlobSource:
    """A blob, and where it can be had.

    Attributes:
        digest: what it must be.
        size: how long it must be, in bytes.
        open: opens the source at an offset, or None when there is a file.
        file: a local file that holds it (a layout, the local store), read in place; not verified.
        start: where in that file it begins.
        on_bytes: called with each number of bytes that came from the source.
        source: what people call the source, a host and what is asked for there; wants that name the same one share it.
    """

    digest: Digest
    size: int
    open: Opener | None = None
    file: Path | None = None
    start: int = 0
    on_bytes: Callable[[int], None] = lambda _count: None
    source: str = ""

    def __str__(self) -> str:
        """Return what messages call it."""
        return f"{self.source}: {self.digest}" if self.source else self.digest
