"""The cache of a front: content of upstreams, least recently used first out, and the names that it was seen under."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from mirrord.blobs.bounded import BoundedStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.repositories import ManifestRef, RepositoryState, reached
from mirrord.blobs.store import BlobStore, Remote, Stored
from mirrord.errors import ConflictError, StorageError
from mirrord.files import LocalFile
from mirrord.model.digest import Digest

if TYPE_CHECKING:
    from mirrord.blobs.shared_cache import SharedCache

EVERY: Final = 60.0
"""Seconds between two turns of `ContentCache.tend_on`."""
TIDY: Final = 3600.0
"""Seconds between the beginnings of two passes over all repositories."""
AT_ONCE: Final = 200
"""Repositories that are tidied in one turn."""


@dataclass(frozen=True, slots=True)
class CacheStanding:
    """The state of a cache.

    Attributes:
        size: bytes of its content.
        entries: blobs and manifests.
        evictions: of entries, since it was opened.
        evicted: their bytes.
        error: why content could not be kept or evicted the last time, "" if it could.
        limit: bytes that its content may have; 0 before `limits` was called.
    """

    size: int
    entries: int
    evictions: int
    evicted: int
    error: str
    limit: int = 0


class ContentCache:
    """Content by digest within a size, and repositories that are named by their references at the upstreams.

    Content may be served under a name only if that repository links it: ask `repositories`.

    Attributes:
        store: the content.
        repositories: what was seen under each name; publish with `link`.
        shared: the part that other replicas use, too; or None. What is read from there is kept here as well.
    """

    def __init__(
        self,
        folder: Path,
        spools: SpoolPool,
        evicted: Callable[[int, int], None],
        shared: SharedCache | None = None,
    ) -> None:
        """Keep everything below `folder`; see `open_cache`."""
        self.shared = shared
        # Their name of a file would keep the bytes of what goes on the disk.
        removing = spools.cache.give_up
        self.store = BoundedStore(folder / "blobs", spools.cache.room, removing=removing, evicted=self._count)
        self.repositories = DiskRepositories(folder / "repositories")
        self._evicted, self._evictions, self._evicted_bytes = evicted, 0, 0
        self._pins: Callable[[str], bool] | None = None
        self._pinned_by: dict[str, frozenset[Digest]] = {}
        self._pinned: frozenset[Digest] = frozenset()
        self._untidy: list[str] = []
        self._tidied = -math.inf
        self._changed = asyncio.Event()

    async def limits(
        self, size: float = math.inf, unused: float = math.inf, pinned: Callable[[str], bool] | None = None
    ) -> None:
        """Set what may be kept, and begin to evict what is too much. Before the first call nothing is evicted.

        Args:
            size: bytes of all content.
            unused: seconds after which content that nobody asked for goes.
            pinned: says of which repositories (by name) nothing that a tag reaches is evicted.

        Raises:
            StorageError: the disk failed.
        """
        self._pins = pinned
        names = await self.repositories.names() if pinned else ()
        self._pinned_by = {name: await self._tagged(name) for name in names if pinned and pinned(name)}
        self._pinned = frozenset().union(*self._pinned_by.values())
        order = self.store.order
        order.limit, order.unused, order.pinned = size, unused, lambda digest: digest in self._pinned
        order.unpin()
        if self.shared is not None:
            self.shared.limits(size, unused, pinned)
        self._changed.set()

    async def link(self, name: str, manifests: Mapping[Digest, ManifestRef], tags: Mapping[str, Digest]) -> None:
        """Note that manifests, which are in the store, and tags were seen under a name now. Raises as `publish`."""
        await self.link_here(name, manifests, tags)
        await self.tell(name, manifests, tags)

    async def link_here(self, name: str, manifests: Mapping[Digest, ManifestRef], tags: Mapping[str, Digest]) -> None:
        """Note what other replicas have told, as `link`."""
        await self.repositories.publish(name, manifests, tags)
        if self._pins is not None and self._pins(name):
            await self._pin(name)

    async def tell(self, name: str, manifests: Mapping[Digest, ManifestRef], tags: Mapping[str, Digest]) -> None:
        """Tell other replicas that manifests, and tags of what is linked, were seen just now. Raises as `manifest`."""
        if self.shared is None:
            return
        links = dict(manifests)
        for digest in set(tags.values()) - links.keys():
            if (link := await self.repositories.manifest(name, digest)) is not None:
                links[digest] = link
        self.shared.saw(name, links, {tag: one for tag, one in tags.items() if one in links}, self.store.place)

    async def find(self, digest: Digest) -> LocalFile | None:
        """Return content that is on this machine, for a client."""
        found = await self.store.find(digest)
        if found is not None and self.shared is not None:
            self.shared.note(digest)
        return found

    async def besides(self, store: BlobStore, digest: Digest) -> Stored | None:
        """Return content that another store has; one in the bucket may be away, and nobody waits for it then."""
        return await (self.shared.bucket.asked(lambda: store.find(digest)) if self.shared else store.find(digest))

    async def elsewhere(self, digest: Digest) -> Remote | None:
        """Return content that other replicas have shared."""
        return await self.shared.find(digest) if self.shared else None

    async def links(self, name: str, digest: Digest) -> bool:
        """Return whether a manifest that was seen under a name, by any replica, is or refers to this content."""
        here = await self.repositories.links(name, digest)
        return here or (self.shared is not None and await self.shared.links(name, digest))

    async def keep(self, reader: SpoolReader) -> bool:
        """Store a blob when it is whole, unless it is too large; for `SpoolPool.reader(keep=…)`. Returns whether it is.

        It takes no more of the disk than the spool's file, of which it is a second name.

        Raises:
            MirrordError: it could not be read or stored.
        """
        size = await reader.answered()
        if size is not None and not self.store.order.takes(size):
            return False
        file = await reader.verified()
        await self.store.adopt(reader.digest, file)
        if self.shared is not None:
            self.shared.share(reader.digest, self.store.place)
        return True

    def standing(self) -> CacheStanding:
        """Return the totals."""
        order, error = self.store.order, self.store.error
        limit = 0 if math.isinf(order.limit) else int(order.limit)
        return CacheStanding(order.size, len(order), self._evictions, self._evicted_bytes, error, limit)

    async def tend(self) -> None:
        """Evict what is too much or too old, write last uses, and tidy some repositories."""
        try:
            await self.store.evict()
            await self.store.write_uses()
            await self._tidy_some()
        except StorageError as error:  # the next turn tries again
            self.store.error = str(error)

    async def tend_on(self) -> None:
        """Tend every `EVERY` seconds, and when the limits change; never returns."""
        while True:
            self._changed.clear()
            await self.tend()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._changed.wait()

    async def tidy(self, name: str) -> None:
        """Remove the links of one repository to manifests that were evicted, and tags that name them.

        Raises:
            StorageError: the disk failed.
        """
        state = await self.repositories.state(name)
        if state is None:
            return
        manifests = {digest: link for digest, link in state.manifests.items() if digest in self.store}
        tags = {tag: digest for tag, digest in state.tags.items() if digest in manifests}
        if len(manifests) == len(state.manifests) and len(tags) == len(state.tags):
            return
        with contextlib.suppress(ConflictError):  # somebody published meanwhile: the next pass tidies it
            if manifests:
                await self.repositories.publish(name, manifests, tags, exactly=True, expect=state.revision)
            else:
                await self.repositories.remove(name, expect=state.revision)
            if name in self._pinned_by:
                await self._pin(name)

    async def _tidy_some(self) -> None:
        if not self._untidy and monotonic() >= self._tidied + TIDY:
            self._tidied, self._untidy = monotonic(), list(await self.repositories.names())
        some, self._untidy = self._untidy[:AT_ONCE], self._untidy[AT_ONCE:]
        for name in some:
            await self.tidy(name)

    async def _pin(self, name: str) -> None:
        before, self._pinned_by[name] = self._pinned_by.get(name, frozenset()), await self._tagged(name)
        self._pinned = frozenset().union(*self._pinned_by.values())
        if before - self._pinned:
            self.store.order.unpin()

    async def _tagged(self, name: str) -> frozenset[Digest]:
        return reached(await self.repositories.state(name) or RepositoryState())

    def _count(self, count: int, size: int) -> None:
        self._evictions, self._evicted_bytes = self._evictions + count, self._evicted_bytes + size
        self._evicted(count, size)


@asynccontextmanager
async def open_cache(
    folder: Path,
    spools: SpoolPool,
    evicted: Callable[[int, int], None] = lambda _count, _size: None,
    shared: SharedCache | None = None,
) -> AsyncIterator[ContentCache]:
    """Open the cache below `folder` (`<state>/cache/<kind>`), which the state's lock protects.

    Args:
        folder: created with the first content.
        spools: of the same disk; the cache makes way when they need space.
        evicted: is called once for each pass that evicts, with the number of entries and their bytes.
        shared: the part that other replicas use, too; or None. It is closed with the cache.

    Raises:
        StorageError: the folder cannot be read.
    """
    cache = ContentCache(folder, spools, evicted, shared)
    await asyncio.to_thread(cache.repositories.sweep)
    await cache.store.open_()
    if shared is not None:
        await shared.look()
    spools.cache.others.append(cache.store)
    tending = [asyncio.create_task(one.tend_on(), name=f"tend {folder}") for one in (cache, shared) if one]
    try:
        yield cache
    finally:
        spools.cache.others.remove(cache.store)
        for task in tending:
            task.cancel()
        await asyncio.gather(*tending, return_exceptions=True)
        if shared is not None:
            await shared.aclose()
        await cache.store.aclose()
