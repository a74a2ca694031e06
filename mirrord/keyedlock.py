"""Locks by key, for what must happen once at a time for each repository, host, mirror or file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class _Lock(asyncio.Lock):
    users = 0  # who holds it, and who waits for it


class KeyedLock:
    """One lock for each key. It is there while somebody holds it or waits for it, and no longer."""

    def __init__(self) -> None:
        """Lock nothing yet."""
        self._locks: dict[Hashable, _Lock] = {}

    @asynccontextmanager
    async def hold(self, key: Hashable) -> AsyncIterator[None]:
        """Wait for the turn, which goes by order of coming, and have it until the context ends."""
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
        """Whether somebody holds it, or waits for it."""
        return key in self._locks

    def __len__(self) -> int:
        """Return how many keys are held."""
        return len(self._locks)
