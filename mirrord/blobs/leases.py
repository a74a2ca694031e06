"""Who needs which content of `local`, so that none of it is removed before it is linked.

A writer takes a lease on a digest before it looks whether the store has the content, and keeps it until a repository
links it. A removal takes only digests without a lease, and whoever wants one of those waits until it has ended. So
nobody finds content that is about to go.

A collection looks at one repository after the other, while others publish. What has a lease at any time since it began,
and what was published or asked for since then, stays until the next one.

All methods are for the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Self
from weakref import WeakSet

from mirrord.model.digest import Digest


class Leases:
    """The leases on the content of one store."""

    def __init__(self) -> None:
        """Begin without any."""
        self._leases = WeakSet[Lease]()  # one that nobody has any more needs nothing
        self._going: dict[Digest, asyncio.Event] = {}
        self._needed: set[Digest] | None = None  # since a collection began
        self._turn = asyncio.Lock()

    def lease(self) -> Lease:
        """Return a lease on nothing yet."""
        return Lease(self)

    def need(self, digests: Iterable[Digest]) -> None:
        """Let a collection that is under way leave these."""
        if self._needed is not None:
            self._needed.update(digests)

    @asynccontextmanager
    async def collecting(self) -> AsyncIterator[None]:
        """Remember what is needed from now on, until the block ends; one collection after the other."""
        async with self._turn:
            self._needed = set()
            try:
                yield
            finally:
                self._needed = None

    def free(self, digests: Iterable[Digest], own: Lease | None = None) -> frozenset[Digest]:
        """Return those of `digests` that nobody needs now; a lease of the caller's, `own`, does not count."""
        free = frozenset(digests)
        others = (lease.held for lease in self._leases if lease is not own)
        for needed in (self._needed or frozenset[Digest](), self._going.keys(), *others):
            free -= free & needed
        return free

    @contextmanager
    def removing(self, digests: Iterable[Digest], own: Lease | None = None) -> Iterator[frozenset[Digest]]:
        """Return those of `digests` that nobody needs; nobody gets a lease on one of them before the block ends.

        With `own` a lease of the caller's does not count. A block that waits for a thread must be shielded: when it is
        cancelled, the thread goes on.
        """
        free = self.free(digests, own)
        gone = asyncio.Event()
        self._going.update(dict.fromkeys(free, gone))
        try:
            yield free
        finally:
            for one in free:
                del self._going[one]
            gone.set()

    async def hold(self, lease: Lease, digests: Collection[Digest]) -> None:
        """See `Lease.hold`."""
        lease.held.update(digests)
        self._leases.add(lease)
        for gone in {event for one in digests if (event := self._going.get(one))} if self._going else ():
            await gone.wait()

    def end(self, lease: Lease) -> None:
        """See `Lease.release`."""
        self.need(lease.held)
        self._leases.discard(lease)
        lease.held.clear()


class Lease:
    """A lease on content that one run, or one request, brings or relies on; it ends with `release`.

    Attributes:
        held: the digests.
    """

    def __init__(self, leases: Leases) -> None:
        """Hold nothing yet."""
        self._leases, self.held = leases, set[Digest]()

    async def hold(self, digests: Collection[Digest]) -> None:
        """Take it on these, too. What is found in the store after this stays there until `release`."""
        await self._leases.hold(self, digests)

    def release(self) -> None:
        """End it: what is linked stays, and all else may be removed."""
        self._leases.end(self)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.release()
