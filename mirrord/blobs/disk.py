"""Content by digest on a local disk: `<folder>/<algorithm>/<two hex digits>/<hex>`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Collection, Container
from pathlib import Path
from time import monotonic
from typing import Final

from mirrord import failpoints
from mirrord.blobs.reserve import eased
from mirrord.errors import DigestError
from mirrord.files import LocalFile, link_durably, nothing, storage_errors, sync, write_durably
from mirrord.model.digest import Digest

FRESH: Final = 1.0
"""Seconds for which a file that was found is assumed to exist."""
_MOST: Final = 10_000  # remembered files


class DiskStore:
    """The embedded default; implements `BlobStore`."""

    def __init__(self, folder: Path, ease: Callable[[], object] = nothing) -> None:
        """Keep content below `folder`, which is created with the first content; `ease` makes room on a full disk."""
        self._folder, self._ease = folder, ease
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

    async def missing(self, digests: Collection[Digest], *, linked: bool = False) -> frozenset[Digest]:  # noqa: ARG002 - a disk is looked at each time
        """Look at all the files."""
        return await asyncio.to_thread(lambda: frozenset(one for one in digests if not self._has(one)))

    async def adopt(self, digest: Digest, file: Path) -> None:
        """Keep the content of `file`, by a hard link where the file system allows it."""

        def link() -> None:
            with storage_errors(self._folder):
                if self._has(digest):
                    sync(self.place(digest).parent)  # whoever named it may have failed at that
                else:
                    link_durably(file, self.place(digest), named=_linked)

        def ease() -> None:
            with contextlib.suppress(OSError):
                if file.stat().st_dev == self._folder.parent.stat().st_dev:  # a second name needs little, a copy all
                    self._ease()

        await asyncio.to_thread(eased, link, ease)

    async def put(self, digest: Digest, data: bytes) -> None:
        """Keep a small piece of content."""

        def write() -> None:
            if Digest.of(data, digest.algorithm) != digest:
                raise DigestError(f"{len(data)} bytes do not match {digest}")
            if not self._has(digest):
                write_durably(self.place(digest), data, named=_linked)
                return
            with storage_errors(self._folder):
                sync(self.place(digest).parent)

        await asyncio.to_thread(eased, write, self._ease)

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

    async def contents(self) -> AsyncIterator[dict[Digest, int]]:
        """Yield what is there, and its bytes, folder by folder; not what is still being written."""
        for shard in await asyncio.to_thread(lambda: sorted(self._folder.glob("*/*"))):
            yield await asyncio.to_thread(self._listed, shard)

    def _listed(self, shard: Path) -> dict[Digest, int]:
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
