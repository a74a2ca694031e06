"""The port of a store that keeps content by digest."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from mirrord.model.digest import Digest


class BlobStore(Protocol):
    """Content-addressed and write-once. What it returns is whole and has been verified."""

    def path(self, digest: Digest) -> Path | None:
        """Return the file that holds exactly this content, or None."""
        ...

    async def adopt(self, digest: Digest, file: Path) -> None:
        """Keep the content of `file`, which the caller has verified; `file` itself stays.

        MUST be durable on return and idempotent; a crash leaves the content whole or absent.

        Raises:
            StorageError: the disk is full, read-only or broken; nothing is half kept.
        """
        ...

    async def put(self, digest: Digest, data: bytes) -> None:
        """Keep a small piece of content (a manifest); promises as `adopt`.

        Raises:
            DigestError: `data` is not what `digest` says.
            StorageError: as for `adopt`.
        """
        ...

    async def remove(self, digest: Digest) -> None:
        """Give up what nothing refers to; nothing happens when it is not there.

        Raises:
            StorageError: the disk said no.
        """
        ...
