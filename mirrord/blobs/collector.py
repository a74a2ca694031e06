"""Removes content of `local` that no repository links, while others publish and clients read.

A collection has two steps. The caller drops names, and then all content that no repository links is removed, one folder
of the store after the other. See ADR 32 for why that is safe.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from mirrord import failpoints
from mirrord.blobs.leases import Leases
from mirrord.blobs.repositories import Repositories, RepositoryState
from mirrord.blobs.uses import ContentUses
from mirrord.model.digest import Digest

AT_ONCE: Final = 10_000
"""Digests of which a removal is told to other processes at once."""


class CollectedStore(Protocol):
    """A store whose content can be listed."""

    def contents(self) -> AsyncIterator[dict[Digest, int]]:
        """Yield what may be collected, and its bytes, part by part."""

    async def remove_all(self, digests: Collection[Digest]) -> None:
        """Remove many; StorageError where one cannot be removed."""


class CollectedRepositories(Repositories, Protocol):
    """Repositories whose names can be dropped for their age."""

    @property
    def leases(self) -> Leases:
        """On what they link."""

    async def read(self, repository: str) -> RepositoryState | None:
        """Return the newest state of one."""

    async def date(self, repository: str) -> None:
        """Let tags whose age is unknown count from now."""

    def removing(self, digests: Collection[Digest]) -> AbstractAsyncContextManager[frozenset[Digest]]:
        """Let nobody else remove or link these until the context ends; yields what is linked by now after all."""


class Collector:
    """Over one store and its repositories.

    Attributes:
        store: the content.
        repositories: the names.
        uses: when clients asked for content.
        shared: whether other processes have them, too.
    """

    def __init__(
        self,
        store: CollectedStore,
        repositories: CollectedRepositories,
        uses: ContentUses,
        removed: Callable[[Digest], None] = lambda _: None,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - compared with the times of names
        *,
        shared: bool = False,
    ) -> None:
        """Collect what is in `store`.

        Args:
            store: the content.
            repositories: the names.
            uses: when clients asked for content.
            removed: is called before each removal: other names of a file would keep its bytes on the disk.
            clock: of the wall.
            shared: whether other processes link and remove the same content. Then each removal reads all names again,
                so that many digests go in one.
        """
        self.store, self.repositories, self.uses, self.clock = store, repositories, uses, clock
        self._removed, self.shared = removed, shared

    @asynccontextmanager
    async def collection(self) -> AsyncIterator[RunningCollection]:
        """Begin a collection, after the one under way if there is one."""
        async with self.repositories.leases.collecting():
            yield RunningCollection(self, self.clock())

    def remove(self, digest: Digest) -> None:
        """Tell who has other names of the file."""
        self._removed(digest)


class RunningCollection:
    """A collection under way.

    Attributes:
        began: when, in seconds since 1970.
    """

    def __init__(self, collector: Collector, began: float) -> None:
        """Begin to remember what is needed."""
        self._collector, self.began = collector, began

    async def unlinked(self, linked: Collection[str]) -> AsyncIterator[dict[Digest, int]]:
        """Yield what is in the store and not in `linked`, with its bytes, part by part.

        `linked` MUST have been read since the collection began.
        """
        loose, at_once = dict[Digest, int](), AT_ONCE if self._collector.shared else 1
        async for found in self._collector.store.contents():
            loose |= {digest: size for digest, size in found.items() if digest not in linked}
            if len(loose) >= at_once:
                yield loose
                loose = {}
        if loose:
            yield loose

    async def remove(self, digests: Collection[Digest]) -> frozenset[Digest]:
        """Remove those of these that nobody needs since the collection began; return them."""
        if self._collector.shared:  # who else removes or links waits until we say that it has ended
            return await self._remove(digests)
        return await asyncio.shield(self._remove(digests))

    async def _remove(self, digests: Collection[Digest]) -> frozenset[Digest]:
        collector = self._collector
        unread = frozenset(digest for digest in digests if not collector.uses.since(digest, self.began))
        if not unread:
            return unread
        async with collector.repositories.removing(unread) as linked:
            with collector.repositories.leases.removing(unread - linked) as free:
                for digest in free:
                    collector.remove(digest)
                await collector.store.remove_all(free)
        failpoints.hit("gc.swept")
        return free
