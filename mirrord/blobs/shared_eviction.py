"""Evicts what replicas share of a cache: one of them, whichever comes first, lists all and removes what is too much."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from mirrord.blobs.eviction import EvictionOrder, HeldContent
from mirrord.blobs.objects import Objects
from mirrord.blobs.repositories import RepositoryState, reached
from mirrord.blobs.repository_log import DAMAGE
from mirrord.blobs.s3 import S3Store
from mirrord.blobs.s3_documents import threaded
from mirrord.blobs.s3_repositories import S3Repositories
from mirrord.blobs.s3_uses import SharedUses
from mirrord.errors import ConflictError
from mirrord.model.digest import Digest
from mirrord.model.objects import SharedStanding, StoredDocument

EVERY: Final = 1800.0
"""Seconds between two evictions by whichever replica."""
TURN: Final = "evicted"
"""Key of the object that says when the last one began, in seconds since 1970, and what it has left."""
_COUNTS: Final = ("counted", "size", "entries", "evictions", "evicted")


@dataclass(frozen=True, slots=True)
class _Turn:
    """The last eviction by whichever replica, and the entity tag of the object that says so."""

    began: int
    left: SharedStanding
    etag: str


class SharedEviction:
    """Keeps the content of a `SharedCache` within its size. Nobody is kept from reading or sharing what goes.

    Attributes:
        left: what the last eviction of whichever replica has left.
    """

    def __init__(
        self,
        objects: Objects,
        store: S3Store,
        repositories: S3Repositories,
        uses: SharedUses,
        clock: Callable[[], float],
    ) -> None:
        """Evict what is in `objects`, and links to it; `clock` is that of the wall."""
        self._objects, self._store, self._repositories = objects, store, repositories
        self._uses, self._clock = uses, clock
        self.left = SharedStanding()

    async def look(self) -> None:
        """Learn what was left. Raises as `evict`."""
        await self._last()

    async def evict(self, size: float, unused: float, pins: Callable[[str], bool] | None) -> None:
        """Remove what is too much or too old, unless some replica has done so within `EVERY` seconds.

        Args:
            size: bytes of all content.
            unused: seconds after which content goes that no client of any replica asked for.
            pins: says of which repositories (by name) nothing goes that a tag reaches.

        Raises:
            StorageError: the bucket failed, or a pinned repository cannot be read.
        """
        if (turn := await self._taken()) is None:
            return
        now = self._clock()
        await self._uses.gather(now - unused)
        held = {digest: one async for page in self._listed() for digest, one in page.items()}
        names = await self._repositories.names()
        pinned = set[Digest]()
        for name in filter(pins, names) if pins else ():
            pinned |= reached(await self._repositories.read(name) or RepositoryState())
        if going := await asyncio.to_thread(_going, held, pinned, now, size, unused):
            await self._store.remove_all(going)
            for name in names:
                await self._tidy(name, going)
        lost = sum(held.pop(digest).size for digest in going)
        left = SharedStanding(
            int(now),
            sum(one.size for one in held.values()),
            len(held),
            turn.left.evictions + len(going),
            turn.left.evicted + lost,
        )
        with suppress(ConflictError):  # it took so long that another replica has begun anew
            await self._say(turn.began, left, turn.etag)
            self.left = left

    async def _taken(self) -> _Turn | None:
        """Take the turn to evict, if it is due and no other replica is faster."""
        last, now = await self._last(), int(self._clock())
        if now - EVERY < last.began <= now + EVERY:
            return None
        with suppress(ConflictError):
            return replace(last, began=now, etag=await self._say(now, last.left, last.etag))
        return None

    async def _last(self) -> _Turn:
        """Read of the last one; what cannot be understood is written anew."""
        found = await self._objects.read(TURN) or StoredDocument("")
        try:
            said = await threaded(found.size, found.value)
            counted, size, entries, evictions, evicted = (int(said[name]) for name in _COUNTS)
            last = _Turn(int(said["began"]), SharedStanding(counted, size, entries, evictions, evicted), found.etag)
        except DAMAGE:
            last = _Turn(0, SharedStanding(), found.etag)
        self.left = last.left
        return last

    async def _say(self, began: int, left: SharedStanding, over: str) -> str:
        said = {"began": began, **{name: getattr(left, name) for name in _COUNTS}}
        return await self._objects.write(TURN, json.dumps(said).encode(), "application/json", over=over)

    async def _listed(self) -> AsyncIterator[Mapping[Digest, HeldContent]]:
        """List all content with its last use."""
        async for page in self._objects.listed("blobs/"):
            found = {S3Store.digest(key): one for key, one in page.items()}
            yield {
                digest: HeldContent(one.size, max(one.modified, self._uses.last(digest)))
                for digest, one in found.items()
                if digest is not None
            }

    async def _tidy(self, name: str, gone: set[Digest]) -> None:
        """Remove the links of a repository to manifests that are gone, and tags that name them."""
        state = await self._repositories.read(name)
        if state is None or (state.manifests and gone.isdisjoint(state.manifests)):
            return
        manifests = {digest: link for digest, link in state.manifests.items() if digest not in gone}
        tags = {tag: digest for tag, digest in state.tags.items() if digest in manifests}
        try:
            if manifests:
                await self._repositories.publish(name, manifests, tags, exactly=True, expect=state.revision)
            else:
                await self._repositories.remove(name, expect=state.revision)
        except ConflictError:  # somebody published meanwhile: the next eviction tidies it
            return


def _going(
    held: Mapping[Digest, HeldContent], pinned: Collection[Digest], now: float, size: float, unused: float
) -> set[Digest]:
    """Return what is too much or too old."""
    order, going = EvictionOrder(sorted(held.items(), key=lambda entry: entry[1].used)), set[Digest]()
    order.limit, order.unused, order.pinned = size, unused, pinned.__contains__
    while (digest := order.next(now, 0)) is not None:
        order.pop(digest)
        going.add(digest)
    return going
