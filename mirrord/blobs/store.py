"""The port of a store of content by digest, and the locations that it returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from mirrord.errors import StorageError, TooLargeError
from mirrord.files import LocalFile, storage_errors
from mirrord.model.digest import Digest


@dataclass(frozen=True, slots=True)
class Remote:
    """Content in remote storage.

    Attributes:
        open: yields `count` bytes from `offset` on; raises `MirrordError` if they cannot be read.
        size: its bytes.
        url: a temporary URL that clients can be redirected to; or None.
        prompt: whether its headers are sent before its first piece is there. An error is then no answer of its own:
            it aborts the connection.
    """

    open: Callable[[int, int], AsyncIterator[bytes]]
    size: int
    url: str | None = None
    prompt: bool = False


Stored = LocalFile | Remote


class BlobStore(Protocol):
    """Content-addressed and write-once. Content that it returns is complete and verified."""

    async def find(self, digest: Digest) -> Stored | None:
        """Return where exactly this content is, or None. For serving and reading: a loss may show a minute late."""

    async def missing(self, digests: Collection[Digest], *, linked: bool = False) -> frozenset[Digest]:
        """Return those that are missing now, checking all of them again: for deciding what to copy.

        Of content that a repository has `linked` all the while, which no collection removes, what a store at a distance
        saw in the last day counts as there.
        """

    async def adopt(self, digest: Digest, file: Path) -> None:
        """Store the content of `file`, which the caller has verified; `file` itself stays.

        MUST be durable on return and idempotent; a crash leaves the content complete or absent.

        Raises:
            StorageError: the disk is full, read-only or broken; nothing partial is left.
        """

    async def put(self, digest: Digest, data: bytes) -> None:
        """Store a small piece of content (a manifest), as `adopt` does. DigestError: `data` does not match `digest`."""

    async def remove(self, digest: Digest) -> None:
        """Remove unreferenced content; a missing one is no error. Raises as `adopt`."""


@runtime_checkable
class DistantStore(BlobStore, Protocol):
    """A store on another machine: it takes no room on the disk of the spool, and is sent content while that comes."""

    async def receive(self, digest: Digest, size: int, pieces: AsyncGenerator[bytes, None]) -> None:
        """Store what `pieces` yields, which ends when all of it is verified. What it raises leaves nothing behind.

        Raises:
            StorageError: the store failed; nothing partial can be found there.
        """


def own(stored: Stored) -> Stored:
    """Return content without its URL, so that we send it ourselves."""
    return replace(stored, url=None) if isinstance(stored, Remote) else stored


async def read_stored(stored: Stored, cap: int) -> bytes:
    """Read small content into memory.

    Raises:
        TooLargeError: it has more than `cap` bytes; nothing was read.
        StorageError: it cannot be read, or is truncated.
        MirrordError: as `Remote.open`.
    """
    if stored.size > cap:
        raise TooLargeError(f"{stored.size} bytes, more than the limit of {cap}")
    if isinstance(stored, LocalFile):

        def read() -> bytes:
            with storage_errors(str(stored.path)), stored.path.open("rb") as file:
                file.seek(stored.offset)
                return file.read(stored.size)

        data = await asyncio.to_thread(read)
    else:
        data = b"".join([piece async for piece in stored.open(0, stored.size)])
    if len(data) != stored.size:
        raise StorageError(f"truncated: {len(data)} of {stored.size} bytes")
    return data
