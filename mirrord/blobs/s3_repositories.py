"""Names of the `local` targets in an object store: one document per repository, replaced by compare and swap.

Several replicas write. Each change is made on what was read, and is written only over that; a writer that was too late
reads again and makes its change anew. So readers see all of a publication or nothing, and no update is lost.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from mirrord.blobs import collector
from mirrord.blobs.leases import Lease, Leases
from mirrord.blobs.objects import Objects
from mirrord.blobs.reachable import going
from mirrord.blobs.removals import AT_ONCE, Removals
from mirrord.blobs.repositories import DROPPED, Addition, ManifestRef, RepositoryState
from mirrord.blobs.repository_log import Links
from mirrord.blobs.s3_documents import RepositoryDocument, RepositoryDocuments, threaded
from mirrord.blobs.store import BlobStore
from mirrord.errors import ConflictError, StorageError
from mirrord.model.digest import Digest


class S3Repositories:
    """The repositories of several replicas; implements `Repositories`.

    Attributes:
        leases: of this process, on the content that the repositories link, or will.
    """

    def __init__(
        self,
        objects: Objects,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - ages count through restarts
        ticks: Callable[[], float] = time.monotonic,
        confirm: Callable[[Collection[Digest]], Awaitable[None]] | None = None,
        *,
        again: float = math.inf,
        damaged: Callable[[str], None] | None = None,
    ) -> None:
        """Keep the documents in `objects`.

        Args:
            objects: of the bucket.
            clock: of the wall.
            ticks: say how old what was read is.
            confirm: looks whether content that has just been linked is there; raises StorageError if not.
            again: seconds after which a tag that is published with the same digest counts as set anew; not by who
                publishes `exactly`, and has seen no tag.
            damaged: see `RepositoryDocuments`.
        """
        self._confirm, self._removals, self._again = confirm, Removals(objects, clock), again
        self._clock, self._documents = clock, RepositoryDocuments(objects, clock, ticks, damaged)
        self.leases = Leases()

    async def exists(self, repository: str) -> bool:
        """Look for its document."""
        return (await self._documents.get(repository)).links is not None

    async def tag(self, repository: str, name: str) -> Digest | None:
        """Look for one tag."""
        links = (await self._documents.get(repository)).links
        return links.tag(name) if links else None

    async def manifest(self, repository: str, digest: Digest) -> ManifestRef | None:
        """Look for one manifest."""
        links = (await self._documents.get(repository)).links
        return links.manifest(digest) if links else None

    async def links(self, repository: str, digest: Digest) -> bool:
        """Look whether something is linked."""
        links = (await self._documents.get(repository)).links
        return bool(links and links.links(digest))

    async def state(self, repository: str) -> RepositoryState | None:
        """Return what is in the document."""
        return (await self._documents.get(repository)).state

    async def read(self, repository: str) -> RepositoryState | None:
        """Return what is in the newest document."""
        return (await self._documents.fetch(repository)).state

    async def names(self) -> Sequence[str]:
        """List the documents."""
        return await self._documents.names()

    async def linked(self) -> frozenset[Digest]:
        """Read the newest of all documents."""
        return await self._linked()

    async def _linked(self, among: frozenset[Digest] | None = None) -> frozenset[Digest]:
        """Read all documents, some at once; return what they link, or only what of that is `among` these."""
        found, names = set[Digest](), await self.names()

        async def read(name: str) -> None:
            if (links := (await self._documents.fetch(name)).links) is not None:
                found.update(links.content if among is None else links.content & among)

        for start in range(0, len(names), AT_ONCE):
            await _gathered(*map(read, names[start : start + AT_ONCE]))
        return frozenset(found)

    async def publish(
        self,
        repository: str,
        manifests: Mapping[Digest, ManifestRef],
        tags: Mapping[str, Digest],
        *,
        exactly: bool = False,
        expect: str | None = None,
    ) -> str:
        """Write the document anew, if anything of it is new."""
        self.leases.need([*tags.values(), *manifests, *(ref for link in manifests.values() for ref in link.refs)])

        fresh = set[Digest]()

        async def change(document: RepositoryDocument, _: ExitStack) -> Links | None:
            nonlocal fresh
            _expected(repository, document, expect)
            old, at = document.links or Links(), int(self._clock())
            due = [name for name in tags if not exactly and old.tagged.get(name, at) <= at - self._again]
            links = await threaded(document.length, _published, old, manifests, tags, at, due, exactly=exactly)
            fresh = links.content - old.content if links else set()
            return links

        revision = (await self._documents.change(repository, change)).revision
        if fresh and self._confirm:
            await self._confirm(fresh)
        return revision

    async def drop(
        self,
        repository: str,
        tags: Mapping[str, Digest],
        manifests: Collection[Digest] = (),
        *,
        about: Mapping[str, Digest] | None = None,
        expect: str | None = None,
        instead: Addition | None = None,
    ) -> tuple[frozenset[str], frozenset[Digest]]:
        """Write the document anew; see `Repositories.drop`."""
        addition, others = instead or Addition(), about or {}
        self.leases.need(addition.manifests)
        gone, lost = frozenset[str](), frozenset[Digest]()

        async def change(document: RepositoryDocument, held: ExitStack) -> Links | None:
            nonlocal gone, lost
            gone, lost = frozenset(), frozenset()
            _expected(repository, document, expect)
            state, links = document.state, document.links
            if state is None or links is None:
                return None
            free = held.enter_context(self.leases.removing(state.manifests))
            gone, lost = await asyncio.to_thread(
                going, repository, state, tags, manifests, others, free=free, instead=addition
            )
            return links.without(gone, lost, int(self._clock()), DROPPED, addition) if gone or lost else None

        await asyncio.shield(self._documents.change(repository, change))
        if addition.manifests and self._confirm:
            await self._confirm(addition.manifests)
        return gone, lost

    async def remove(self, repository: str, *, expect: str) -> None:
        """Remove a repository, whatever is in it; for a cache: what is published at the same moment may be lost.

        Raises:
            ConflictError: it is not at the revision `expect`.
            StorageError: the bucket failed.
        """
        await self.publish(repository, {}, {}, exactly=True, expect=expect)
        await self._documents.delete(repository)

    async def date(self, repository: str) -> None:
        """Do nothing: every name has had a time from the beginning."""

    @asynccontextmanager
    async def removing(self, digests: Collection[Digest]) -> AsyncIterator[frozenset[Digest]]:
        """Let a caller remove those of these that are not in what is yielded: some repository links them.

        Raises:
            ConflictError: another replica is removing something.
        """
        async with self._removals.turn(digests):
            yield await self._linked(frozenset(digests))

    async def remove_unlinked(self, store: BlobStore, digests: Collection[Digest], lease: Lease) -> None:
        """Read all documents, then remove some at once; a cancellation comes between those."""
        wanted = sorted(digests)
        for first in range(0, len(wanted), collector.AT_ONCE):
            some = frozenset(wanted[first : first + collector.AT_ONCE])
            async with self.leases.collecting(), self.removing(some) as linked:
                with self.leases.removing(some - linked, lease) as free:
                    left = sorted(free)
                    for start in range(0, len(left), AT_ONCE):
                        await _gathered(*map(store.remove, left[start : start + AT_ONCE]))

    def lease(self) -> Lease:
        """Return a lease of ours."""
        return self.leases.lease()


async def _gathered(*works: Coroutine[Any, Any, None]) -> None:
    for error in filter(None, await asyncio.gather(*works, return_exceptions=True)):
        raise error


def _expected(repository: str, document: RepositoryDocument, revision: str | None) -> None:
    if revision not in (None, document.revision):
        raise ConflictError(f"{repository}: changed by another writer meanwhile")


def _published(
    old: Links,
    manifests: Mapping[Digest, ManifestRef],
    tags: Mapping[str, Digest],
    at: int,
    due: Collection[str],
    *,
    exactly: bool,
) -> Links | None:
    """Return what a document becomes by a publication, None for the same; tags that are `due` are set anew.

    Raises:
        StorageError: a tag names what another writer has dropped.
    """
    if exactly and (tags, manifests) == (old.tags, old.manifests):
        return None
    for digest in tags.values():
        if digest not in manifests and digest not in old.manifests:
            raise StorageError(f"{digest} was dropped before its tag was set; the next run copies it again")
    new = {name: digest for name, digest in tags.items() if old.tags.get(name) != digest or name in due}
    links = {digest: link for digest, link in manifests.items() if old.manifests.get(digest) != link}
    if exactly:
        return old.only(tags.keys(), manifests.keys(), at).add(new, links, at)
    return old.only(old.tags, old.manifests, at).add(new, links, at) if new or links else None
