"""Locks by key, to serialise work on each repository, host, mirror or file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager


class _Lock(asyncio.Lock):
    users = 0  # holders and waiters
    shares = 0  # holders of a share
    alone: asyncio.Event | None = None  # set when the last share is given back


class KeyedLock:
    """One lock for each key, which exists only while it is held or waited for."""

    def __init__(self) -> None:
        """Begin without locks."""
        self._locks: dict[Hashable, _Lock] = {}

    @asynccontextmanager
    async def hold(self, key: Hashable) -> AsyncIterator[None]:
        """Wait for the lock in order of arrival, and hold it until the context ends."""
        with self._using(key) as lock:
            async with lock:
                if lock.shares:
                    lock.alone = asyncio.Event()
                    await lock.alone.wait()
                yield

    @asynccontextmanager
    async def share(self, key: Hashable) -> AsyncIterator[None]:
        """Hold the lock together with others who share it; who holds it alone waits for all of them."""
        with self._using(key) as lock:
            async with lock:
                lock.shares += 1
            try:
                yield
            finally:
                lock.shares -= 1
                if lock.alone and not lock.shares:
                    lock.alone.set()

    @contextmanager
    def _using(self, key: Hashable) -> Iterator[_Lock]:
        lock = self._locks.setdefault(key, _Lock())
        lock.users += 1
        try:
            yield lock
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
