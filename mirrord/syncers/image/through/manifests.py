"""Manifests by tag and by digest: from the cache while they are fresh, else from upstream, else what is there.

By digest nothing is asked that the cache has. By tag upstream is asked by HEAD once the tag is older than `fresh`, and
by GET of the digest only when it has moved. What other replicas have read or asked counts like what this one has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from mirrord.blobs.content_cache import ContentCache
from mirrord.blobs.repositories import ManifestRef, RepositoryState
from mirrord.blobs.store import Stored
from mirrord.errors import MirrordError, MissingError, StorageError, UnsupportedError
from mirrord.model.digest import Digest
from mirrord.names.naming import segment
from mirrord.syncers.image.through.failures import serves_old, why
from mirrord.syncers.image.through.flights import Flights
from mirrord.syncers.image.through.reading import IMPATIENT, PATIENT, UpstreamReader
from mirrord.syncers.image.through.remembered import (
    AGAIN,
    MISSING_LASTS,
    MOST_NAMES,
    KnownBlobs,
    KnownManifest,
    LastUsed,
)
from mirrord.wire.oci.descriptor import SCHEMA1, Descriptor
from mirrord.wire.oci.manifest import LIMIT, Manifest
from mirrord.wire.oci.reference import Reference

if TYPE_CHECKING:
    from mirrord.blobs.shared_cache import SeenTag


def cache_name(reference: Reference) -> str:
    """Return what the cache calls a repository: `registry.corp.example_5000/team/app`."""
    return f"{segment(reference.domain)}/{reference.path}"


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest that a client may have.

    Attributes:
        descriptor: its type, digest and size.
        body: its bytes; None where only HEAD was asked for and they are not here.
        outcome: as in `FrontAnswered`.
        refs: digests of what it refers to, as far as its bytes are here.
        warning: why upstream did not renew it, as `failures.why`; "" if it did, or need not.
        error: what happened when it was asked for this answer, or None.
    """

    descriptor: Descriptor
    body: Stored | bytes | None
    outcome: str
    refs: tuple[Digest, ...] = ()
    warning: str = ""
    error: MirrordError | None = None


class FrontManifests:
    """Finds manifests, and keeps what it reads."""

    def __init__(
        self,
        cache: ContentCache,
        upstream: UpstreamReader,
        blobs: KnownBlobs,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """Use a cache, and note in `blobs` which manifests refer to what; `wall` is the time of day."""
        self._cache, self._upstream, self._blobs, self._clock, self._wall = cache, upstream, blobs, clock, wall
        self._known = LastUsed[tuple[str, str], KnownManifest](MOST_NAMES)  # by repository, and tag or digest
        self._flights = Flights[FoundManifest]()

    async def aclose(self) -> None:
        """End all requests."""
        await self._flights.aclose()

    async def find(self, reference: Reference, ref: str, *, fresh: float, whole: bool) -> FoundManifest:
        """Return a manifest.

        Args:
            reference: the repository at its upstream.
            ref: tag or digest.
            fresh: seconds for which a tag is not asked again.
            whole: whether its bytes are needed.

        Raises:
            MirrordError: upstream has none, or does not give it, and nothing that may be served is here.
        """
        known = await self.known(reference, ref)
        found = await self._fresh(reference, ref, known, fresh, whole=whole)
        if found is not None:
            return found
        now = self._clock()
        if now < known.missing_until:
            raise MissingError(f"{reference.name}: {ref} does not exist", 404)
        old = await self.kept(reference, known.digest) if known.digest else None
        if old is not None and now < known.again:
            return replace(old, outcome="stale", warning="did not answer")
        try:
            ask = partial(self._ask, reference, ref, fresh, whole=whole)
            return await self._flights.join((cache_name(reference), ref, whole), ask)
        except MirrordError as error:
            return await self._instead(reference, ref, error)

    async def known(self, reference: Reference, ref: str) -> KnownManifest:
        """Return what is known of a tag or digest; what a tag pointed to before a restart is in the cache."""
        name = cache_name(reference)
        known = self._known.get((name, ref)) or KnownManifest()
        if known.digest is None:
            digest = Digest(ref) if ":" in ref else await self._cache.repositories.tag(name, ref)
            known = replace(known, digest=digest)
        return known

    async def kept(self, reference: Reference, digest: Digest) -> FoundManifest | None:
        """Return a manifest that was seen in this repository and is in the cache, or None."""
        link = await self._cache.repositories.manifest(cache_name(reference), digest)
        stored = await self._cache.find(digest) if link else None
        if link is None or stored is None:
            return None
        return FoundManifest(Descriptor(link.media_type, digest, stored.size), stored, "hit", link.refs)

    async def _told(self, reference: Reference, ref: str, fresh: float) -> KnownManifest:
        """Return what is known of a tag or digest, by any replica where this one would have to ask upstream."""
        name, known = cache_name(reference), await self.known(reference, ref)
        if self._cache.shared is None or ":" in ref or self._clock() < known.checked + fresh:
            return known
        if (seen := await self._cache.shared.tag(name, ref)) is not None:
            checked = self._clock() - max(0.0, self._wall() - seen.at)
            if checked > known.checked and not await self._has_newer(name, ref, seen):
                known = replace(known, digest=seen.digest, checked=checked, descriptor=None)
                self._known.put((name, ref), known)
        return known

    async def _has_newer(self, name: str, tag: str, seen: SeenTag) -> bool:
        """Whether the disk has what a tag pointed to later, which could not be shared before a restart."""
        state = await self._cache.repositories.state(name) or RepositoryState()
        return state.tags.get(tag, seen.digest) != seen.digest and state.tagged.get(tag, 0.0) >= seen.at

    async def _old(self, reference: Reference, ref: str, digest: Digest) -> FoundManifest | None:
        """Return a manifest as `kept` does, or one that another replica has shared, which is kept then."""
        if (kept := await self.kept(reference, digest)) is not None or self._cache.shared is None:
            return kept
        name = cache_name(reference)
        if (shared := await self._cache.shared.manifest(name, digest, LIMIT)) is None:
            return None
        link, body = shared
        self._upstream.check(digest, *([Digest(link.subject)] if link.subject else ()))
        with suppress(StorageError):
            if await self._cache.store.has_room(len(body)):
                await self._cache.store.put(digest, body)
                await self._cache.link_here(name, {digest: link}, {} if ":" in ref else {ref: digest})
        return FoundManifest(Descriptor(link.media_type, digest, len(body)), body, "hit", link.refs)

    async def _fresh(
        self, reference: Reference, ref: str, known: KnownManifest, fresh: float, *, whole: bool
    ) -> FoundManifest | None:
        """Return what may be served without a request upstream."""
        by_digest = ":" in ref
        if known.digest is None or not (by_digest or self._clock() < known.checked + fresh):
            return None
        found = await self.kept(reference, known.digest)
        if found is None and not whole and known.descriptor is not None and self._clock() < known.checked + fresh:
            return FoundManifest(known.descriptor, None, "hit")
        return found

    async def _ask(self, reference: Reference, ref: str, fresh: float, *, whole: bool) -> FoundManifest:
        """Ask upstream: by HEAD where the bytes may be here or are not needed, else by GET."""
        known = await self._told(reference, ref, fresh)
        if (found := await self._fresh(reference, ref, known, fresh, whole=whole)) is not None:
            return found  # another request has ended since this one looked, or another replica has asked
        old = await self._old(reference, ref, known.digest) if known.digest else None
        if old is not None and (":" in ref or self._clock() < known.checked + fresh):
            return old
        return await self._renewed(reference, ref, known, old, fresh, whole=whole)

    async def _renewed(
        self,
        reference: Reference,
        ref: str,
        known: KnownManifest,
        old: FoundManifest | None,
        fresh: float,
        *,
        whole: bool,
    ) -> FoundManifest:
        name = cache_name(reference)
        seconds = PATIENT if old is None else IMPATIENT
        if whole and old is None:
            if ":" in ref or known.digest is None or self._clock() >= known.checked + fresh:
                reading = self._get(reference, ref, ref, self._clock(), seconds)
            else:  # a HEAD has shown it
                reading = self._get_moved(reference, ref, known.digest, known.checked, seconds)
            return await reading
        head = await self._upstream.head_manifest(reference, ref, seconds)
        if head.media_type in SCHEMA1:
            raise UnsupportedError(f"{reference.name}: {ref}: Docker schema 1, which clients have stopped to take")
        if old is not None and head.digest == old.descriptor.digest:
            self._known.put((name, ref), KnownManifest(head.digest, self._clock(), old.descriptor))
            await self._cache.tell(name, {}, {} if ":" in ref else {ref: head.digest})
            return replace(old, outcome="revalidated")
        if (other := await self._old(reference, ref, head.digest)) is not None:
            with suppress(StorageError):  # the client gets it all the same, as in `_get`
                await self._cache.link(name, {}, {} if ":" in ref else {ref: head.digest})
            self._known.put((name, ref), KnownManifest(head.digest, self._clock(), other.descriptor))
            return replace(other, outcome="revalidated")
        if whole:
            return await self._get_moved(reference, ref, head.digest, self._clock(), seconds)
        self._known.put((name, ref), KnownManifest(head.digest, self._clock(), head))
        return FoundManifest(head, None, "miss")

    async def _get_moved(
        self, reference: Reference, ref: str, digest: Digest, checked: float, seconds: float
    ) -> FoundManifest:
        """Read what a tag pointed to when it was checked."""
        try:
            return await self._get(reference, ref, digest, checked, seconds)
        except MissingError:  # moved again, or not known yet to each machine behind the name: the tag is there
            return await self._get(reference, ref, ref, self._clock(), seconds)

    async def _get(self, reference: Reference, ref: str, wanted: str, checked: float, seconds: float) -> FoundManifest:
        """Read a manifest, and keep it if there is room."""
        name = cache_name(reference)
        manifest = await self._upstream.get_manifest(reference, wanted, seconds)
        self._blobs.named(name, manifest.blobs)
        self._known.put((name, ref), KnownManifest(manifest.digest, checked, manifest.descriptor))
        refs = tuple(one.digest for one in (*manifest.children, *manifest.blobs))
        found = FoundManifest(manifest.descriptor, manifest.body, "miss", refs)
        try:
            if await self._cache.store.has_room(len(manifest.body)):
                await self._keep(name, ref, manifest, refs)
        except StorageError:  # the client gets it all the same; the cache reports what is wrong with it
            return found
        return found

    async def _keep(self, name: str, ref: str, manifest: Manifest, refs: tuple[Digest, ...]) -> None:
        await self._cache.store.put(manifest.digest, manifest.body)
        subject = manifest.subject.digest if manifest.subject else ""
        link = ManifestRef(manifest.media_type, len(manifest.body), refs, subject)
        await self._cache.link(name, {manifest.digest: link}, {} if ":" in ref else {ref: manifest.digest})

    async def _instead(self, reference: Reference, ref: str, error: MirrordError) -> FoundManifest:
        """Return what is here after an error, or raise that."""
        name, known = cache_name(reference), await self.known(reference, ref)
        if isinstance(error, MissingError):
            until = self._clock() + MISSING_LASTS
            self._known.put((name, ref), replace(known, checked=-math.inf, missing_until=until))
            raise error
        if not serves_old(error):
            raise error
        there = await self._cache.repositories.tag(name, ref) if ":" not in ref else None
        for digest in (known.digest, there):
            old = await self._old(reference, ref, digest) if digest else None
            if old is not None:
                self._known.put((name, ref), replace(known, digest=digest, again=self._clock() + AGAIN))
                return replace(old, outcome="stale", warning=why(error), error=error)
        raise error
