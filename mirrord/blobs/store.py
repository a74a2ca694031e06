"""The port of a store that keeps content by digest, and where it says that content is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from mirrord.errors import StorageError, TooLargeError
from mirrord.files import LocalFile, storage_errors
from mirrord.model.digest import Digest


@dataclass(frozen=True, slots=True)
class Remote:
    """Content that is kept elsewhere.

    Attributes:
        open: gives `count` bytes from `offset` on; raises `MirrordError` when they cannot be had.
        size: bytes of all of it.
        url: where a client that asks us may get it itself, for a while; or None.
    """

    open: Callable[[int, int], AsyncIterator[bytes]]
    size: int
    url: str | None = None


Stored = LocalFile | Remote


class BlobStore(Protocol):
    """Content-addressed and write-once. What it returns is whole and has been verified."""

    async def find(self, digest: Digest) -> Stored | None:
        """Return where exactly this content is, or None. For who serves or reads it: a loss may show a second late."""

    async def missing(self, digests: Collection[Digest]) -> frozenset[Digest]:
        """Return those that are not there now, looking at all of them anew: for who decides what to bring."""

    async def adopt(self, digest: Digest, file: Path) -> None:
        """Keep the content of `file`, which the caller has verified; `file` itself stays.

        MUST be durable on return and idempotent; a crash leaves the content whole or absent.

        Raises:
            StorageError: the disk is full, read-only or broken; nothing is half kept.
        """

    async def put(self, digest: Digest, data: bytes) -> None:
        """Keep a small piece of content (a manifest); promises as `adopt`. DigestError: `data` is not `digest`'s."""

    async def remove(self, digest: Digest) -> None:
        """Give up what nothing refers to; nothing happens when it is not there. Raises as `adopt`."""


def own(stored: Stored) -> Stored:
    """Return content to be sent by us, whoever else has an address for it."""
    return replace(stored, url=None) if isinstance(stored, Remote) else stored


async def read_stored(stored: Stored, cap: int) -> bytes:
    """Read something small into memory.

    Raises:
        TooLargeError: it has more than `cap` bytes; nothing was read.
        StorageError: it cannot be read, or has become shorter.
        MirrordError: as the remote says.
    """
    if stored.size > cap:
        raise TooLargeError(f"{stored.size} bytes where at most {cap} are read")
    if isinstance(stored, LocalFile):

        def read() -> bytes:
            with storage_errors(str(stored.path)), stored.path.open("rb") as file:
                file.seek(stored.offset)
                return file.read(stored.size)

        data = await asyncio.to_thread(read)
    else:
        data = b"".join([piece async for piece in stored.open(0, stored.size)])
    if len(data) != stored.size:
        raise StorageError(f"{len(data)} bytes of {stored.size} are left of what was kept")
    return data
