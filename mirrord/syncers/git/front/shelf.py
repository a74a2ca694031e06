"""Blobs taken out of a cache for who asks for them next: files by object id, so many bytes of them.

Whoever sends a file needs no memory for it, and a part costs a part. A file that is removed while it is sent is sent
to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from mirrord.files import beside, storage_errors
from mirrord.keyedlock import KeyedLock

BUDGET: Final = 256 << 20
AT_ONCE: Final = 2  # blobs in memory on their way to the shelf


class AnswerCache:
    """Files of one folder, which may be empty or missing at any time."""

    def __init__(self, folder: Path, budget: int = BUDGET) -> None:
        """Use `folder` for so many bytes."""
        self._folder, self._budget = folder, budget
        self._free = asyncio.Semaphore(AT_ONCE)
        self._turns = KeyedLock()
        self._putting = threading.Lock()  # of threads: who is cancelled leaves one behind that still writes

    async def file(self, oid: str, read: Callable[[], Awaitable[bytes]]) -> Path:
        """Return a file with what `read` gives, which is asked when there is none yet.

        Raises:
            StorageError: it cannot be written.
            MirrordError: as `read` does.
        """
        path = self._folder / oid
        async with self._turns.hold(oid):
            if not await asyncio.to_thread(_used, path):
                async with self._free:
                    await asyncio.to_thread(self._put, path, await read())
        return path

    def _put(self, path: Path, data: bytes) -> None:
        with self._putting, storage_errors(str(self._folder)):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(len(data))
            fresh = beside(path)
            try:
                fresh.write_bytes(data)
                fresh.replace(path)
            finally:
                fresh.unlink(missing_ok=True)

    def _make_room(self, count: int) -> None:
        """Remove what was not used for longest."""
        with os.scandir(self._folder) as entries:
            files = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in entries)
        total = count + sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self._budget:
                break
            Path(path).unlink(missing_ok=True)
            total -= size


def _used(path: Path) -> bool:
    """Note that a file was used; say whether it is there."""
    with contextlib.suppress(OSError):
        os.utime(path)
        return True
    return False
