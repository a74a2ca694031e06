"""Names of the `local` targets on a disk: one log per repository (`repository_log`), without a database."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from mirrord.blobs.leases import Lease, Leases
from mirrord.blobs.logged_repository import DOCUMENT, FILE, LoggedRepository, damage
from mirrord.blobs.reachable import going
from mirrord.blobs.repositories import ABSENT, DROPPED, Addition, ManifestRef, RepositoryState
from mirrord.blobs.repository_log import Lines, Links
from mirrord.blobs.reserve import eased
from mirrord.blobs.store import BlobStore
from mirrord.errors import ConflictError
from mirrord.files import nothing
from mirrord.model.digest import Digest

LOOKS: Final = 8  # single lookups in a log before all of it is read
REMEMBERED: Final = 64 << 20  # bytes of logs; they take several times as much memory
MISSED: Final = 4096  # repositories known to be absent; clients may ask for any name
_T = TypeVar("_T")


class DiskRepositories:
    """The embedded default; implements `Repositories`. One process owns the folder (the state lock).

    Attributes:
        leases: on the content that the repositories link, or will.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - ages count through restarts
        ease: Callable[[], object] = nothing,
    ) -> None:
        """Keep the logs below `folder`, which is created with the first name.

        Args:
            folder: of the logs.
            clock: that of the wall.
            ease: makes room on a full disk: content that was read is dropped where it cannot be named.
        """
        self._folder, self._clock, self._ease = folder, clock, ease
        self.leases = Leases()
        self._known: WeakValueDictionary[str, LoggedRepository] = WeakValueDictionary()
        self._recent: OrderedDict[str, LoggedRepository] = OrderedDict()
        self._missed: OrderedDict[str, LoggedRepository] = OrderedDict()

    async def exists(self, repository: str) -> bool:
        """Look for its log."""
        return bool(await self._ask(repository, lambda _: True))

    async def tag(self, repository: str, name: str) -> Digest | None:
        """Look for one tag."""
        return await self._ask(repository, lambda log: log.tag(name))

    async def manifest(self, repository: str, digest: Digest) -> ManifestRef | None:
        """Look for one manifest."""
        return await self._ask(repository, lambda log: log.manifest(digest))

    async def links(self, repository: str, digest: Digest) -> bool:
        """Look whether something is linked."""
        return bool(await self._ask(repository, lambda log: log.links(digest)))

    async def state(self, repository: str) -> RepositoryState | None:
        """Read all of a log."""
        kept = self._repository(repository)
        if (log := kept.log) is not None and (state := log.state) is not None:
            return state
        async with kept.turn:
            state = await asyncio.to_thread(kept.state)
        self._remember(repository, kept)
        return state

    async def names(self) -> Sequence[str]:
        """Look for files."""
        return await asyncio.to_thread(self._names)

    async def linked(self) -> frozenset[Digest]:
        """Read all logs."""

        def read() -> frozenset[Digest]:
            found = set[Digest]()
            for name in self._names():
                if (log := LoggedRepository(self._folder / name, self._clock).read(whole=True)) is not None:
                    found |= log.links().content
            return frozenset(found)

        return await asyncio.to_thread(read)

    async def publish(
        self,
        repository: str,
        manifests: Mapping[Digest, ManifestRef],
        tags: Mapping[str, Digest],
        *,
        exactly: bool = False,
        expect: str | None = None,
    ) -> str:
        """Append a line; rewrite a log that is new, replaced or twice as long as when it was written."""
        kept = self._repository(repository)
        self.leases.need([*tags.values(), *manifests, *(ref for link in manifests.values() for ref in link.refs)])
        async with kept.turn:  # a cancelled caller leaves its thread running: it has a lock of its own
            write = partial(kept.publish, manifests, tags, exactly=exactly, expect=expect)
            revision = await asyncio.to_thread(eased, write, self._ease)
        self._remember(repository, kept)
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
        """Write the log anew; see `Repositories.drop`."""
        instead = instead or Addition()
        self.leases.need(instead.manifests)
        return await asyncio.shield(self._drop(repository, tags, manifests, about or {}, expect, instead=instead))

    async def _drop(
        self,
        repository: str,
        tags: Mapping[str, Digest],
        manifests: Collection[Digest],
        about: Mapping[str, Digest],
        expect: str | None,
        *,
        instead: Addition,
    ) -> tuple[frozenset[str], frozenset[Digest]]:
        kept = self._repository(repository)
        async with kept.turn:
            state = await asyncio.to_thread(kept.state)
            if expect not in (None, state.revision if state else ABSENT):
                raise ConflictError(f"{repository}: changed by another writer meanwhile")
            if state is None:
                return frozenset(), frozenset()
            with self.leases.removing(state.manifests) as free:
                gone, lost = await asyncio.to_thread(
                    going, repository, state, tags, manifests, about, free=free, instead=instead
                )
                if gone or lost:
                    await asyncio.to_thread(kept.drop, gone, lost, state.revision, DROPPED, instead)
        return gone, lost

    async def date(self, repository: str) -> None:
        """Let tags whose age is unknown count from now."""
        kept = self._repository(repository)
        async with kept.turn:
            state = await asyncio.to_thread(kept.state)
            if state and state.tagged.keys() != state.tags.keys():
                await asyncio.to_thread(kept.drop, (), (), state.revision, DROPPED)

    async def read(self, repository: str) -> RepositoryState | None:
        """Return what `state` does, for one look at each of many repositories: it is not remembered."""
        known = self._known.get(repository)
        return await asyncio.to_thread((known or LoggedRepository(self._folder / repository, self._clock)).state)

    @asynccontextmanager
    async def removing(self, digests: Collection[Digest]) -> AsyncIterator[frozenset[Digest]]:  # noqa: ARG002 - of one process
        """Yield nothing: leases of this process are enough, and nobody else links."""
        yield frozenset()

    async def remove_unlinked(self, store: BlobStore, digests: Collection[Digest], lease: Lease) -> None:
        """Read all logs, then remove one by one."""
        async with self.leases.collecting():
            unlinked = set(digests) - await self.linked()
            await asyncio.shield(self._remove(store, unlinked, lease))

    async def _remove(self, store: BlobStore, digests: Collection[Digest], lease: Lease) -> None:
        with self.leases.removing(digests, lease) as free:
            for digest in free:
                await store.remove(digest)

    def lease(self) -> Lease:
        """Return a lease of ours."""
        return self.leases.lease()

    async def remove(self, repository: str, *, expect: str) -> None:
        """Remove a repository that nobody needs any more, if it is at the revision `expect`; raises as `publish`."""
        kept = self._repository(repository)
        async with kept.turn:
            await asyncio.to_thread(kept.remove, expect)
        self._recent.pop(repository, None)

    def sweep(self) -> None:
        """Remove leftovers of a crash; call it before the first use."""
        for file in (FILE, DOCUMENT):
            for stray in self._folder.rglob(f".{file}.*.tmp"):
                stray.unlink(missing_ok=True)
        for log in self._folder.rglob(FILE):
            log.with_name(DOCUMENT).unlink(missing_ok=True)

    async def _ask(self, repository: str, question: Callable[[Links | Lines], _T]) -> _T | None:
        """Query a log; after several queries all of it is read."""
        kept = self._repository(repository)
        log = kept.log
        if kept.absent:
            return None
        if log is None or (isinstance(log.view, Lines) and log.looks >= LOOKS):
            async with kept.turn:
                log = await asyncio.to_thread(kept.read, whole=log is not None)
            self._remember(repository, kept)
        if log is None:
            return None
        log.looks += 1
        view = log.view
        if isinstance(view, Links):
            return question(view)
        with damage(log.file):
            return await asyncio.to_thread(question, view)

    def _repository(self, repository: str) -> LoggedRepository:
        known = self._known.get(repository)
        return known or self._known.setdefault(repository, LoggedRepository(self._folder / repository, self._clock))

    def _remember(self, repository: str, kept: LoggedRepository) -> None:
        group, other = (self._missed, self._recent) if kept.log is None else (self._recent, self._missed)
        group[repository] = kept
        group.move_to_end(repository)
        other.pop(repository, None)
        while len(self._missed) > MISSED:
            self._missed.popitem(last=False)
        while len(self._recent) > 1 and sum(one.log.length for one in self._recent.values() if one.log) > REMEMBERED:
            self._recent.popitem(last=False)

    def _names(self) -> list[str]:
        files = (file for name in (FILE, DOCUMENT) for file in self._folder.rglob(name))
        return sorted({file.parent.relative_to(self._folder).as_posix() for file in files})
