"""Locks by key, to serialise work on each repository, host, mirror or file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class _Lock(asyncio.Lock):
    users = 0  # holders and waiters


class KeyedLock:
    """One lock for each key, which exists only while it is held or waited for."""

    def __init__(self) -> None:
        """Begin without locks."""
        self._locks: dict[Hashable, _Lock] = {}

    @asynccontextmanager
    async def hold(self, key: Hashable) -> AsyncIterator[None]:
        """Wait for the lock in order of arrival, and hold it until the context ends."""
        lock = self._locks.setdefault(key, _Lock())
        lock.users += 1
        try:
            async with lock:
                yield
        finally:
            lock.users -= 1
            if not lock.users:
                del self._locks[key]

    def __contains__(self, key: object) -> bool:
        """Whether it is held or waited for."""
        return key in self._locks

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._locks)
