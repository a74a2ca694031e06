"""The part of a front's cache that replicas share, in a bucket: content, and the names that it was seen under.

It is behind the cache on the disk of each replica: what is not on the disk is looked for here, and what comes onto the
disk is written here. It promises nothing. Whatever is lost here, or cannot be read, is read from upstream, so that
content may be removed while somebody links it, and nobody waits for a bucket that is away, see `blobs/resting.py`.
Writes are made in the background. A document that is damaged counts as empty, until the next pull writes it anew.

Tags have the time at which upstream showed them last, so that other replicas need not ask upstream again. The first
replica whose turn it is evicts for all; each writes to `uses/<replica>` what its clients asked for.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Final

from mirrord.blobs.objects import Objects
from mirrord.blobs.purge import Going, purge
from mirrord.blobs.repositories import ManifestRef, RepositoryState
from mirrord.blobs.resting import RestingBucket
from mirrord.blobs.s3 import S3Store
from mirrord.blobs.s3_repositories import S3Repositories
from mirrord.blobs.s3_uses import SharedUses
from mirrord.blobs.shared_eviction import SharedEviction
from mirrord.blobs.store import Remote
from mirrord.errors import StorageError
from mirrord.keyedlock import KeyedLock
from mirrord.model.digest import Digest
from mirrord.model.objects import SharedStanding

RENEWED: Final = 60.0
"""Seconds between two writes that say that a tag still names the same."""
TEND: Final = 600.0
"""Seconds between two turns of `SharedCache.tend_on`: last uses are written, and somebody may evict."""
ABSENT: Final = 5.0
"""Seconds for which content that is not here is not looked for again: many clients want it while one read brings it."""
AGAIN: Final = 60.0
"""Seconds after which a blob that was read from here is read from here again."""
WAITING: Final = 1000
"""Writes that may wait; what comes then is not shared."""
_WRITES: Final = 4  # at once; a small one is in memory
_MOST: Final = 10_000  # digests that are remembered


@dataclass(frozen=True, slots=True)
class SeenTag:
    """What some replica saw.

    Attributes:
        digest: what the tag pointed to.
        at: when upstream said so, in seconds since 1970.
    """

    digest: Digest
    at: float


class SharedCache:
    """The objects below a prefix that belongs to the cache of one kind.

    Attributes:
        bucket: they are in; what can be done without may be asked so of the same bucket.
    """

    def __init__(
        self,
        objects: Objects,
        name: str,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - replicas and restarts share these times
        ticks: Callable[[], float] = monotonic,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Share what is in `objects`, as the replica `name`.

        Args:
            objects: of the bucket; with little patience.
            name: which no other process has.
            clock: of the wall.
            ticks: say how long ago something was.
            tell: gets what is damaged or failed, but for a bucket that is away.
        """
        self.bucket = RestingBucket(ticks, tell)
        self._objects, self._clock, self._ticks = objects, clock, ticks
        self._store = S3Store(objects, clock=clock, ticks=ticks)
        self._repositories = S3Repositories(objects, clock, ticks, again=RENEWED, damaged=self.bucket.failed)
        self._uses = SharedUses(objects, name, clock)
        self._eviction = SharedEviction(objects, self._store, self._repositories, self._uses, clock)
        self._untended, self._closed = "", False
        self._limits: tuple[float, float, Callable[[str], bool] | None] | None = None
        self._absent = OrderedDict[Digest, float]()  # and when, as the next ones
        self._opened, self._wrong = OrderedDict[Digest, float](), OrderedDict[Digest, float]()
        self._looking, self._writing, self._turns = KeyedLock(), KeyedLock(), asyncio.Semaphore(_WRITES)
        self._work: set[asyncio.Task[None]] = set()

    def limits(self, size: float, unused: float, pinned: Callable[[str], bool] | None) -> None:
        """Set what may be kept, as `ContentCache.limits`; it counts from the next eviction on."""
        self._limits = size, unused, pinned

    async def find(self, digest: Digest) -> Remote | None:
        """Return content that is here, None also where nobody knows."""
        async with self._looking.hold(digest):
            if self._ticks() < self._absent.get(digest, -math.inf) + ABSENT:
                return None
            found = await self.bucket.asked(lambda: self._store.find(digest))
            if found is not None:
                self.note(digest)
                return found
            self._remember(self._absent, digest)
            return None

    async def links(self, name: str, digest: Digest) -> bool:
        """Return whether a manifest that was seen under a name is, or refers to, this content."""
        return bool(await self.bucket.asked(lambda: self._repositories.links(name, digest)))

    async def tag(self, name: str, tag: str) -> SeenTag | None:
        """Return what a tag of a repository pointed to when somebody looked last."""
        state = await self.bucket.asked(lambda: self._repositories.state(name)) or RepositoryState()
        return SeenTag(state.tags[tag], state.tagged[tag]) if tag in state.tagged else None

    async def manifest(self, name: str, digest: Digest, most: int) -> tuple[ManifestRef, bytes] | None:
        """Return a manifest that was seen under a name, of so many bytes at most."""
        link = await self.bucket.asked(lambda: self._repositories.manifest(name, digest))
        read = partial(self._objects.read, S3Store.key(digest), most=most)
        found = await self.bucket.asked(read) if link else None
        if link is None or found is None:
            return None
        if found.content is None or await asyncio.to_thread(Digest.of, found.content, digest.algorithm) != digest:
            self.drop(digest)
            return None
        self.note(digest)
        return link, found.content

    def note(self, digest: Digest) -> None:
        """A client asks for this, here or on a disk."""
        self._uses.note(digest, manifest=True)

    def may_open(self, digest: Digest) -> bool:
        """Whether a blob may be read from here, which is not done again for `AGAIN` seconds: it may be broken."""
        before = max(when.get(digest, -math.inf) for when in (self._opened, self._wrong))
        if self.bucket.rests or self._ticks() < before + AGAIN:
            return False
        self._remember(self._opened, digest)
        return True

    def wrong(self, digest: Digest) -> None:
        """Drop content if it was read from here: those who read it got wrong bytes."""
        if digest in self._opened:
            self.drop(digest)

    def drop(self, digest: Digest) -> None:
        """Remove wrong content soon; what is shared afterwards stays, although many say that this is wrong."""
        if self._ticks() >= self._wrong.get(digest, -math.inf) + AGAIN:
            self._remember(self._wrong, digest)
            self._begin(lambda: self._remove(digest))

    def share(self, digest: Digest, place: Callable[[Digest], Path]) -> None:
        """Write content soon, which is in the file at its `place`."""
        self._begin(lambda: self._share(digest, place(digest)))

    def saw(
        self,
        name: str,
        manifests: Mapping[Digest, ManifestRef],
        tags: Mapping[str, Digest],
        place: Callable[[Digest], Path],
    ) -> None:
        """Write soon that manifests, which are at their `place`, were seen under a name now, and tags of them."""

        async def write() -> None:
            for digest in manifests:
                await self._share(digest, place(digest))
            await self._repositories.publish(name, manifests, tags)

        self._begin(write)

    async def settled(self) -> None:
        """Wait until all is written, or could not be."""
        while self._work:
            await asyncio.gather(*self._work, return_exceptions=True)

    async def purge(self, going: Going) -> int:
        """See `blobs.purge.purge`."""
        return await purge(self._repositories, self._store, going)

    async def aclose(self) -> None:
        """Stop writing; what was not shared yet, others read from upstream."""
        self._closed = True
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        if not self.bucket.rests:
            await self._uses.aclose()

    def standing(self) -> SharedStanding:
        """Return what was here when somebody counted last, and what is wrong now."""
        return replace(self._eviction.left, error=self.bucket.trouble or self._untended)

    async def look(self) -> None:
        """Learn what was counted before this process began."""
        await self.bucket.asked(self._eviction.look)

    async def tend_on(self) -> None:
        """Tend now and then; never returns."""
        while True:
            await asyncio.sleep(TEND)
            await self.bucket.asked(self.tend, hurried=False)

    async def tend(self) -> None:
        """Tell others what was used here, and evict what is too much or too old, if nobody has lately.

        Raises:
            StorageError: the bucket failed.
        """
        try:
            await self._uses.write()
            await (self._eviction.evict(*self._limits) if self._limits else self._eviction.look())
        except StorageError as error:
            self._untended = str(error)
            raise
        self._untended = ""

    def _remember(self, when: OrderedDict[Digest, float], digest: Digest) -> None:
        when[digest] = self._ticks()
        when.move_to_end(digest)
        if len(when) > _MOST:
            when.popitem(last=False)

    async def _share(self, digest: Digest, file: Path) -> None:
        async with self._writing.hold(digest):
            try:
                await self._store.adopt(digest, file)
            except StorageError:
                if await asyncio.to_thread(file.exists):  # else it was evicted meanwhile
                    raise

    async def _remove(self, digest: Digest) -> None:
        async with self._writing.hold(digest):
            await self._store.remove(digest)

    def _begin(self, write: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Write in the background, unless the bucket rests or is slow."""
        if not (self._closed or self.bucket.rests) and len(self._work) < WAITING:
            task = asyncio.create_task(self._written(write))
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    async def _written(self, write: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with self._turns:
            await self.bucket.asked(write, hurried=False)
