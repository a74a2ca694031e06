"""Content by digest on a local disk: `<folder>/<algorithm>/<two hex digits>/<hex>`."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from pathlib import Path

from mirrord import failpoints
from mirrord.errors import DigestError
from mirrord.files import link_durably, storage_errors, write_durably
from mirrord.model.digest import Digest


class DiskStore:
    """The embedded default; fulfils `BlobStore`."""

    def __init__(self, folder: Path) -> None:
        """Keep content below `folder`, which is made when the first content comes."""
        self._folder = folder

    def _place(self, digest: Digest) -> Path:
        return self._folder / digest.algorithm / digest.hex[:2] / digest.hex

    def path(self, digest: Digest) -> Path | None:
        """Return the file that holds exactly this content, or None."""
        place = self._place(digest)
        return place if place.is_file() else None

    async def adopt(self, digest: Digest, file: Path) -> None:
        """Keep the content of `file`, by a hard link where the file system allows it."""
        if self.path(digest) is None:
            await asyncio.to_thread(self._adopt, digest, file)

    async def put(self, digest: Digest, data: bytes) -> None:
        """Keep a small piece of content."""
        if Digest.of(data, digest.algorithm) != digest:
            raise DigestError(f"{len(data)} bytes are not {digest}")
        if self.path(digest) is None:
            await asyncio.to_thread(self._put, digest, data)

    async def remove(self, digest: Digest) -> None:
        """Remove the file."""
        with storage_errors(str(self._folder)):
            await asyncio.to_thread(self._place(digest).unlink, missing_ok=True)

    def sweep(self, linked: Container[str]) -> None:
        """Remove what a crash left: half copies, and content that no repository links; call it before the first use."""
        for file in self._folder.glob("*/*/*"):
            if f"{file.parent.parent.name}:{file.name}" not in linked:
                file.unlink(missing_ok=True)

    def _adopt(self, digest: Digest, file: Path) -> None:
        with storage_errors(self._folder):
            link_durably(file, self._place(digest), named=_linked)

    def _put(self, digest: Digest, data: bytes) -> None:
        write_durably(self._place(digest), data, named=_linked)


def _linked() -> None:
    failpoints.hit("store.linked")
