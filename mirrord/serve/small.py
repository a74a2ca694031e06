"""Recently sent small files, in memory: requests for popular files need no disk."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import OrderedDict
from contextlib import suppress
from typing import BinaryIO, Final

from mirrord.errors import StorageError
from mirrord.files import LocalFile

SMALL: Final = 64 << 10
"""Largest size in bytes; larger files are sent by threads."""
_ROOM: Final = 16 << 20  # bytes in memory


class SmallFiles:
    """Caches files by location and strong entity tag, which identifies their bytes."""

    def __init__(self, room: int = _ROOM) -> None:
        """Cache at most this many bytes."""
        self._room = room
        self._kept: OrderedDict[tuple[LocalFile, str], bytes] = OrderedDict()

    async def read(self, stored: LocalFile, etag: str | None) -> bytes | None:
        """Return all of a file of at most `SMALL` bytes; None if it is missing or truncated.

        Raises:
            StorageError: as `open_stored`.
        """
        strong = etag is not None and not etag.startswith("W/")
        key = stored, etag or ""
        if strong and (data := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return data
        data = await asyncio.to_thread(_read, stored)
        if strong and data is not None:
            self._remember(key, data)
        return data

    def _remember(self, key: tuple[LocalFile, str], data: bytes) -> None:
        if key not in self._kept:
            self._kept[key] = data
            self._room -= len(data)
        while self._room < 0:
            _, old = self._kept.popitem(last=False)
            self._room += len(old)


def open_stored(stored: LocalFile) -> BinaryIO | None:
    """Open a file; None if it is missing.

    Raises:
        StorageError: it is there, but cannot be opened, such as when this process may open no more files.
    """
    try:
        return os.fdopen(os.open(stored.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise StorageError(f"{stored.path}: cannot be opened: {error.strerror}") from error


def _read(stored: LocalFile) -> bytes | None:
    file = open_stored(stored)
    if file is None:
        return None
    with file, suppress(OSError):
        data = os.pread(file.fileno(), stored.size, stored.offset)
        return data if len(data) == stored.size else None
    return None
