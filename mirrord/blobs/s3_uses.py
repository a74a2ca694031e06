"""When clients last asked for content that is in a bucket, of all replicas: one document of each, `uses/<replica>`.

    {"forgotten":0,"manifests":{"sha256:…":1764288000},"read":{"sha256:…":1764288000}}

`manifests` has when each was last asked for, `read` what else was asked for during the last hour, in seconds since
1970. So who collects knows what clients of the others were reading, but for the last minutes (`UNSEEN`).

Replicas come and go, and what their clients used counts for as long as a rule may ask for it, also for one that is
written later. So documents of those that noted nothing for long become part of one, `uses/gone`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from itertools import takewhile
from typing import Final

from mirrord.blobs.objects import Objects
from mirrord.blobs.repository_log import DAMAGE
from mirrord.blobs.uses import MOST, UNSEEN, ContentUses
from mirrord.errors import ConflictError, StorageError
from mirrord.model.digest import Digest
from mirrord.model.objects import StoredDocument

EVERY: Final = 60.0
"""Seconds between two writes of a replica, at least."""
RECENT: Final = 3600.0 + UNSEEN
"""Seconds for which others are told of what was read that is no manifest."""
CLOSING: Final = 5.0
"""Seconds that the last write may take: a replica that ends does not wait for a bucket that is away."""
_FOLDER: Final = "uses/"
_GONE: Final = f"{_FOLDER}gone"  # of replicas that noted nothing for long; no replica is called that
_TYPE: Final = "application/json"


class SharedUses(ContentUses):
    """Those of all replicas."""

    every, unseen = EVERY, UNSEEN

    def __init__(
        self,
        objects: Objects,
        name: str,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - ages count through restarts
        most: int = MOST,
    ) -> None:
        """Write the document of the replica `name`, which no other process has."""
        super().__init__(clock, most)
        self._objects, self._key = objects, f"{_FOLDER}{name}"
        self._manifests = OrderedDict[Digest, float]()
        self._elsewhere: Mapping[Digest, float] = {}  # manifests of others, and of an earlier process of this one
        self._heard: Mapping[Digest, float] = {}  # what else others told lately
        self._forgotten = 0.0  # a manifest of which nothing is known may have been used until then
        self._known: dict[str, tuple[str, float]] = {}  # entity tags of documents that were read, and their last use
        self._unwritten, self._turn = False, asyncio.Lock()

    def note(self, digest: Digest, *, manifest: bool = False) -> None:
        """See `ContentUses.note`."""
        super().note(digest)
        self._unwritten = True
        if manifest:
            self._manifests[digest] = self._last[digest]
            self._manifests.move_to_end(digest)
            if len(self._manifests) > self._most:
                self._forgotten = max(self._forgotten, self._manifests.popitem(last=False)[1])

    def since(self, digest: Digest, at: float) -> bool:
        """See `ContentUses.since`."""
        return super().since(digest, at) or self._told(digest) >= at

    def last(self, digest: Digest) -> float:
        """See `ContentUses.last`; it is not known when a manifest came."""
        here = max(super().last(digest), self._manifests.get(digest, 0.0))
        return max(here, self._told(digest), self._forgotten)

    async def write(self) -> None:
        """Send the document, if something was noted since the last time."""
        async with self._turn:
            if self._unwritten:
                await self._read_own()
                self._unwritten = False
                try:
                    some = dict(self._manifests), self._lately(), self._forgotten
                    data = await asyncio.to_thread(_written, *some)
                    await self._objects.write(self._key, data, _TYPE)
                except BaseException:
                    self._unwritten = True
                    raise

    async def gather(self, before: float = 0.0) -> None:
        """List the documents, and read those that are new; those of which all is `before` that become part of one."""
        async with self._turn:
            await self._read_own()
            idle = list[str]()
            async for page in self._objects.listed(_FOLDER):
                for key, one in page.items():
                    if key == self._key:
                        continue
                    if self._known.get(key, ("", 0.0))[0] != one.etag:
                        await self._read(key)
                    if key != _GONE and self._known[key][1] < before:
                        idle.append(key)
            if idle:
                await self._take_over(idle)

    async def _take_over(self, keys: Collection[str]) -> None:
        """Make these documents part of that of replicas that are gone, then delete those that are still the same."""
        known: Mapping[Digest, float] = {}
        forgotten, etags = 0.0, dict[str, str]()
        for key in (_GONE, *keys):
            found = await self._objects.read(key)
            etags[key] = found.etag if found else ""
            if found:
                until, manifests, _ = await self._understood(key, found)
                known, forgotten = await asyncio.to_thread(_newest, known, manifests), max(forgotten, until)
        known, cut = await asyncio.to_thread(_the_last, known, self._most)
        data = await asyncio.to_thread(_written, known, (), max(forgotten, cut))
        try:
            await self._objects.write(_GONE, data, _TYPE, etags[_GONE])
        except ConflictError:  # another replica does the same
            return
        for key in keys:  # who comes back after so long writes all that it knows
            if (one := await self._objects.head(key)) is not None and one.etag == etags[key]:
                await self._objects.delete([key])
            del self._known[key]

    async def aclose(self) -> None:
        """Send the document, unless that takes long."""
        with suppress(StorageError, TimeoutError):
            async with asyncio.timeout(CLOSING):
                await self.write()

    async def _read_own(self) -> None:
        """Read once what an earlier process of this replica wrote; it is written again with what comes."""
        if self._key not in self._known:
            for digest, at in sorted((await self._read(self._key)).items(), key=lambda one: one[1], reverse=True):
                if len(self._manifests) >= self._most:
                    self._forgotten = max(self._forgotten, at)
                elif digest not in self._manifests:
                    self._manifests[digest] = at
                    self._manifests.move_to_end(digest, last=False)

    async def _read(self, key: str) -> Mapping[Digest, int]:
        """Read a document, and return the times of its manifests."""
        if (found := await self._objects.read(key)) is None:
            self._known[key] = "", 0.0
            return {}
        forgotten, manifests, read = await self._understood(key, found)
        self._elsewhere = await asyncio.to_thread(_newest, self._elsewhere, manifests)
        # A collection asks for the hour before it began, and may take one itself.
        self._heard = await asyncio.to_thread(_newest, self._heard, read, after=self._clock() - 2 * RECENT)
        self._forgotten = max(self._forgotten, forgotten)
        self._known[key] = found.etag, max([forgotten, *manifests.values(), *read.values()])
        return manifests

    async def _understood(
        self, key: str, found: StoredDocument
    ) -> tuple[int, Mapping[Digest, int], Mapping[Digest, int]]:
        try:
            return await asyncio.to_thread(_parsed, found)
        except DAMAGE as error:
            raise StorageError(f"{self._objects}/{key} is damaged; remove it") from error

    def _told(self, digest: Digest) -> float:
        return max(self._elsewhere.get(digest, 0.0), self._heard.get(digest, 0.0))

    def _lately(self) -> list[tuple[Digest, float]]:
        now = self._clock()
        return list(takewhile(lambda one: one[1] > now - RECENT, reversed(self._last.items())))


def _written(manifests: Mapping[Digest, float], lately: Iterable[tuple[Digest, float]], forgotten: float) -> bytes:
    read = {digest: int(at) for digest, at in lately if at > manifests.get(digest, 0.0)}
    times = {digest: int(at) for digest, at in manifests.items()}
    return json.dumps({"forgotten": int(forgotten), "manifests": times, "read": read}).encode()


def _parsed(found: StoredDocument) -> tuple[int, Mapping[Digest, int], Mapping[Digest, int]]:
    said = found.value()
    manifests, read = ({Digest.parse(one): int(at) for one, at in said[key].items()} for key in ("manifests", "read"))
    return int(said["forgotten"]), manifests, read


def _newest(*known: Mapping[Digest, float], after: float = 0.0) -> Mapping[Digest, float]:
    found = dict[Digest, float]()
    for times in known:
        for digest, at in times.items():
            if at > after:
                found[digest] = max(at, found.get(digest, 0.0))
    return found


def _the_last(known: Mapping[Digest, float], most: int) -> tuple[Mapping[Digest, float], float]:
    """Return so many that were used last, and when the last of the others was."""
    by_time = sorted(known.items(), key=lambda one: one[1], reverse=True)
    return dict(by_time[:most]), max((at for _, at in by_time[most:]), default=0.0)
