"""A store that keeps its content elsewhere, as an object store would: in memory, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path

from mirrord.blobs.store import Remote
from mirrord.errors import DigestError, MissingError, StorageError
from mirrord.model.digest import Digest

PIECE = 1000


@dataclass
class RemoteStore:
    """Fulfils `BlobStore`.

    Attributes:
        url: below which clients may get the content themselves, or None.
        content: what is kept.
        opened: the parts that were asked for: offset and count.
        closed: how many of them were read to their end, or let go.
        sent: bytes that were taken.
        ended: set whenever a read is over.
    """

    url: str | None = None
    content: dict[Digest, bytes] = field(default_factory=dict)
    opened: list[tuple[int, int]] = field(default_factory=list)
    closed: int = 0
    sent: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def find(self, digest: Digest) -> Remote | None:
        """Return how to get it."""
        if digest not in self.content:
            return None

        async def opened(offset: int, count: int) -> AsyncIterator[bytes]:
            self.opened.append((offset, count))
            try:
                if digest not in self.content:
                    raise MissingError(f"{digest} is gone")
                for at in range(offset, offset + count, PIECE):
                    piece = self.content[digest][at : min(at + PIECE, offset + count)]
                    self.sent += len(piece)
                    yield piece
            finally:
                self.closed += 1
                self.ended.set()

        return Remote(opened, len(self.content[digest]), f"{self.url}/{digest}" if self.url else None)

    async def missing(self, digests: Collection[Digest], *, linked: bool = False) -> frozenset[Digest]:
        """Look into the memory."""
        return frozenset(digests) - self.content.keys()

    async def adopt(self, digest: Digest, file: Path) -> None:
        """Read the file."""
        try:
            self.content[digest] = file.read_bytes()
        except OSError as error:
            raise StorageError(f"{file}: {error}") from error

    async def put(self, digest: Digest, data: bytes) -> None:
        """Keep it."""
        if Digest.of(data, digest.algorithm) != digest:
            raise DigestError(f"{len(data)} bytes do not match {digest}")
        self.content[digest] = data

    async def remove(self, digest: Digest) -> None:
        """Forget it."""
        self.content.pop(digest, None)
