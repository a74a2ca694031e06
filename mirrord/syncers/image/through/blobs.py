"""Blobs: from the cache, or from upstream while they are cached; one transfer for all who want one.

A blob is served in a repository only if a manifest that was seen there refers to it, or upstream has shown it there:
what one repository may show is not for another's readers. Anybody can write a manifest that names the private blob of
somebody else. So a manifest is not enough for what our credentials may have brought here: content of `local`, content
that a run is reading, and all content while an upstream is read with credentials. Upstream is asked for that, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from mirrord.blobs.content_cache import ContentCache
from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.shared_source import SharedFirst
from mirrord.blobs.store import Remote, Stored, own, read_stored
from mirrord.errors import BrokenError, MirrordError
from mirrord.model.digest import Digest
from mirrord.syncer.values import Services
from mirrord.syncers.image.through.flights import Flights
from mirrord.syncers.image.through.held import HeldReader
from mirrord.syncers.image.through.manifests import cache_name
from mirrord.syncers.image.through.reading import UpstreamReader
from mirrord.syncers.image.through.remembered import KnownBlobs
from mirrord.wire.oci.manifest import LIMIT, Manifest
from mirrord.wire.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class FoundBlob:
    """A blob that a client may have.

    Attributes:
        body: its bytes; for HEAD they cannot be read.
        outcome: as in `FrontAnswered`.
        held: the transfer to leave when the answer has ended, or None.
    """

    body: Stored
    outcome: str
    held: HeldReader | None = None


class FrontBlobs:
    """Finds blobs, and lets what is read be kept."""

    def __init__(self, cache: ContentCache, upstream: UpstreamReader, known: KnownBlobs) -> None:
        """Use a cache, and sizes of blobs that were seen."""
        self._cache, self._upstream, self._known = cache, upstream, known
        self._flights = Flights[int]()

    async def aclose(self) -> None:
        """End all requests for sizes."""
        await self._flights.aclose()

    async def find(
        self, reference: Reference, digest: Digest, services: Services, *, whole: bool, guarded: bool
    ) -> FoundBlob:
        """Return a blob once its upstream has answered, or at once where it is here.

        Args:
            reference: the repository at its upstream.
            digest: of the blob.
            services: in use.
            whole: whether its bytes are needed.
            guarded: whether the cache may have what only our credentials could read.

        Raises:
            MirrordError: upstream does not have it, or does not give it.
        """
        name = cache_name(reference)
        size = self._known.size(name, digest)
        if size is None and not await self._cache.links(name, digest):
            size = await self._ask(reference, digest)
        stored: Stored | None = await self._cache.find(digest)
        if stored is None and services.blobs is not None:
            found = await self._cache.besides(services.blobs, digest)
            stored, guarded = (own(found), True) if found else (None, guarded)
        if stored is not None:
            if guarded and not self._known.shown(name, digest):
                await self._ask(reference, digest)
            return FoundBlob(stored, "hit")
        shared = await self._cache.elsewhere(digest)
        if shared is not None and size is None:
            size = await self._size(name, digest)
        if shared is not None and size not in (None, shared.size) and self._cache.shared is not None:
            self._cache.shared.drop(digest)
            shared = None
        if shared is None:
            return await self._from_upstream(reference, digest, services, size, whole=whole)
        if guarded and not self._known.shown(name, digest):
            await self._ask(reference, digest)
        return await self._from_others(reference, digest, services, shared, whole=whole)

    async def _from_upstream(
        self, reference: Reference, digest: Digest, services: Services, size: int | None, *, whole: bool
    ) -> FoundBlob:
        name = cache_name(reference)
        if size is None:
            size = await self._size(name, digest)
        if size is None or not (whole or self._known.shown(name, digest)):
            size = await self._ask(reference, digest)
        if not whole:
            return FoundBlob(Remote(unread, size), "miss")
        held = self._join(reference, digest, size, services)
        await held.answered()
        if not self._known.shown(name, digest):  # somebody else's transfer, or left of one
            try:
                await self._ask(reference, digest)
            except BaseException:
                held.release()
                raise
        return FoundBlob(Remote(held.pieces, size, prompt=True), "miss", held)

    async def _from_others(
        self, reference: Reference, digest: Digest, services: Services, shared: Remote, *, whole: bool
    ) -> FoundBlob:
        """Return a blob that other replicas have shared, and keep it here as if it came from upstream."""
        if not whole:
            return FoundBlob(Remote(unread, shared.size), "hit")
        held = self._join(reference, digest, shared.size, services, shared)
        await held.answered()
        return FoundBlob(Remote(held.pieces, shared.size, prompt=True), "hit", held)

    def _join(
        self, reference: Reference, digest: Digest, size: int, services: Services, shared: Remote | None = None
    ) -> HeldReader:
        """Join the one transfer of a blob, or begin it: from what is shared, if anything is, else from upstream."""
        shown = partial(self._known.saw, cache_name(reference), digest, size)
        source = self._upstream.blob(reference, digest, size, shown, lambda: not held.ready)
        keep: Callable[[SpoolReader], Awaitable[bool]] = partial(self._keep_shown, reference, digest)
        if shared is not None and self._cache.shared is not None:
            source, keep = SharedFirst(source, digest, shared, self._cache.shared).source, self._cache.keep
        join, consumer = services.spools.reader, f"front {reference.domain}"
        held = HeldReader(partial(join, source, consumer, client=True, keep=keep))
        return held

    async def _keep_shown(self, reference: Reference, digest: Digest, reader: SpoolReader) -> bool:
        """Keep a blob if upstream shows it here: the transfer may be that of a run, which has other credentials."""
        await reader.answered()
        if not self._known.shown(cache_name(reference), digest):
            await self._ask(reference, digest)
        return await self._cache.keep(reader)

    async def _ask(self, reference: Reference, digest: Digest) -> int:
        """Ask upstream whether this repository has a blob."""
        name = cache_name(reference)
        size = await self._flights.join((name, digest), partial(self._upstream.blob_size, reference, digest))
        self._known.saw(name, digest, size)
        return size

    async def _size(self, name: str, digest: Digest) -> int | None:
        """Look in the manifests in the cache that refer to a blob; None where they are gone."""
        state = await self._cache.repositories.state(name)
        for one, link in state.manifests.items() if state else ():
            if digest in link.refs and (stored := await self._cache.store.find(one)) is not None:
                try:
                    body = await read_stored(stored, LIMIT)
                    manifest = await asyncio.to_thread(Manifest.parse, body, link.media_type, one)
                except MirrordError:
                    continue
                self._known.named(name, manifest.blobs)
                return self._known.size(name, digest)
        return None


async def unread(_offset: int, _count: int) -> AsyncIterator[bytes]:
    """Be the body of an answer to HEAD."""
    raise BrokenError("a body that was not asked for")
    yield b""  # makes it an iterator
