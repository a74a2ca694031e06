"""Content by digest on a local disk: `<folder>/<algorithm>/<two hex digits>/<hex>`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Collection, Container
from pathlib import Path
from time import monotonic
from typing import Final

from mirrord import failpoints
from mirrord.errors import DigestError
from mirrord.files import LocalFile, link_durably, storage_errors, write_durably
from mirrord.model.digest import Digest

FRESH: Final = 1.0
"""Seconds for which a file that was found is assumed to exist."""
_MOST: Final = 10_000  # remembered files


class DiskStore:
    """The embedded default; implements `BlobStore`."""

    def __init__(self, folder: Path) -> None:
        """Keep content below `folder`, which is created with the first content."""
        self._folder = folder
        self._seen: dict[Digest, tuple[float, LocalFile]] = {}  # and when

    def place(self, digest: Digest) -> Path:
        """Return where the file of some content is, or would be."""
        return self._folder / digest.algorithm / digest.hex[:2] / digest.hex

    async def find(self, digest: Digest) -> LocalFile | None:
        """Look at the file, unless that was done a moment ago: popular content costs no disk access each time."""
        seen, found = self._seen.get(digest, (-FRESH, None))
        if (now := monotonic()) < seen + FRESH:
            return found
        found = await asyncio.to_thread(LocalFile.whole, self.place(digest))
        if len(self._seen) >= _MOST:
            self._seen.clear()
        if found is not None:
            self._seen[digest] = now, found
        return found

    async def missing(self, digests: Collection[Digest]) -> frozenset[Digest]:
        """Look at all the files."""
        return await asyncio.to_thread(lambda: frozenset(one for one in digests if not self._has(one)))

    async def adopt(self, digest: Digest, file: Path) -> None:
        """Keep the content of `file`, by a hard link where the file system allows it."""

        def link() -> None:
            with storage_errors(self._folder):
                if not self._has(digest):
                    link_durably(file, self.place(digest), named=_linked)

        await asyncio.to_thread(link)

    async def put(self, digest: Digest, data: bytes) -> None:
        """Keep a small piece of content."""

        def write() -> None:
            if Digest.of(data, digest.algorithm) != digest:
                raise DigestError(f"{len(data)} bytes do not match {digest}")
            if not self._has(digest):
                write_durably(self.place(digest), data, named=_linked)

        await asyncio.to_thread(write)

    async def remove(self, digest: Digest) -> None:
        """Remove the file."""
        await self.remove_all([digest])

    async def remove_all(self, digests: Collection[Digest]) -> None:
        """Remove many files."""

        def unlink() -> None:
            for digest in digests:
                self.place(digest).unlink(missing_ok=True)

        try:
            with storage_errors(str(self._folder)):
                await asyncio.to_thread(unlink)
        finally:  # some are gone also where one cannot be removed
            for digest in digests:
                self._seen.pop(digest, None)

    def shards(self) -> list[Path]:
        """Return the folders that content is in: a bounded part of it each. Blocks."""
        return sorted(self._folder.glob("*/*"))

    def listed(self, shard: Path) -> dict[Digest, int]:
        """Return what is in one of `shards`, and its bytes; not what is still being written. Blocks."""
        found: dict[Digest, int] = {}
        with storage_errors(str(shard)), os.scandir(shard) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                    found[Digest(f"{shard.parent.name}:{entry.name}")] = entry.stat().st_size
        return found

    def sweep(self, linked: Container[str]) -> None:
        """Remove partial copies and content that no repository links; call it before the first use."""
        for file in self._folder.glob("*/*/*"):
            if f"{file.parent.parent.name}:{file.name}" not in linked:
                file.unlink(missing_ok=True)

    def _has(self, digest: Digest) -> bool:
        """Look at a file without creating objects, since this is called for thousands at once."""
        place = f"{self._folder}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"
        with storage_errors(place), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return stat.S_ISREG(os.stat(place).st_mode)  # noqa: PTH116 - a Path costs more than the look
        return False


def _linked() -> None:
    failpoints.hit("store.linked")
