"""Keeps those who remove content of a bucket apart from those who link it, on several machines.

Who removes writes down what it is about to remove, then reads what is linked, and removes the rest. Who links content
does so, and then looks whether anybody has removed something since it saw that content. A store shows every write to
all who read afterwards, so one of the two sees the other: the remover sees the link and leaves the content, or the
linker sees the removal and looks again whether the content is there.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from mirrord.blobs.objects import Objects
from mirrord.blobs.repository_log import DAMAGE
from mirrord.blobs.s3_documents import threaded
from mirrord.errors import ConflictError, StorageError
from mirrord.model.digest import Digest
from mirrord.model.objects import StoredDocument
from mirrord.tasks import finished

KEY: Final = "removals"
TAKES: Final = 60
"""Seconds after its last sign of life at which a removal that did not end counts as that of a process that is gone."""
WAITS: Final = 90.0
"""Seconds for which a writer waits for a removal: longer than for one whose process is gone."""
SETTLES: Final = 10.0
"""Seconds for which requests that are under way are waited for before they are given up: they would be repeated, and
remove what others link by then. With half of `TAKES`, and clocks that differ by 15 seconds, that is before others take
the removal for given up."""
AT_ONCE: Final = 32
"""Requests that removers and readers of all documents have under way."""
_PAUSE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Removal:
    """The newest one.

    Attributes:
        etag: changes with each beginning and each end.
        going: what is being removed; nothing when it has ended.
        until: when it counts as given up, in seconds since 1970.
        said: by whoever wrote it, different each time.
    """

    etag: str = ""
    going: frozenset[str] = frozenset()
    until: float = 0.0
    said: str = ""


class Removals:
    """The removals of all replicas."""

    def __init__(
        self,
        objects: Objects,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - compared across machines
    ) -> None:
        """Write them down in `objects`; `clock` is that of the wall."""
        self._objects, self._clock = objects, clock
        self._known = Removal()

    async def newest(self) -> Removal:
        """Ask for the newest, which is sent only when it is new."""
        known = self._known
        found = await self._objects.read(KEY, known.etag)
        if found is None:
            self._known = Removal()
        elif found.etag != known.etag:
            try:
                self._known = await threaded(found.size, _said, found)
            except DAMAGE as error:
                raise StorageError(f"{self._objects}/{KEY}: {error}") from error
        return self._known

    async def ended(self, digests: Collection[Digest]) -> None:
        """Wait until nobody removes one of these.

        Raises:
            StorageError: it takes too long.
        """
        for _ in range(int(WAITS / _PAUSE)):
            awaited = self._known.going.intersection(digests)
            if not awaited or self._known.until < self._clock():
                return
            await asyncio.sleep(_PAUSE)
            await self.newest()
        raise StorageError(f"{self._objects}: another replica removes {min(awaited)}; the next run copies it again")

    @asynccontextmanager
    async def turn(self, digests: Collection[Digest]) -> AsyncIterator[None]:
        """Write down that these are about to be removed, until the context ends; read what is linked within it.

        Raises:
            ConflictError: another replica is removing something, for longer than we wait.
            StorageError: it took so long that others may soon take it for given up; what is left stays.
        """
        (begun, at), ended = await self._begin(digests), asyncio.Event()
        patience = asyncio.timeout_at(at + TAKES / 2)
        keeping = asyncio.create_task(self._keep(digests, begun, ended, patience))

        async def end() -> None:
            ended.set()
            await self._write((), await keeping)

        try:
            async with patience:
                yield
        except BaseException as error:
            with suppress(StorageError, ConflictError):  # a cancellation goes on, and what failed before says more
                await finished(end(), SETTLES)
            if isinstance(error, TimeoutError) and patience.expired():
                late = f"{self._objects}: removing takes too long; the next collection removes it"
                raise StorageError(late) from error
            raise
        await finished(end(), SETTLES)

    async def _begin(self, digests: Collection[Digest]) -> tuple[str, float]:
        """Say that these go as soon as nobody else removes anything; return its entity tag, and when that was."""
        for _ in range(int(WAITS / _PAUSE)):
            newest, at = await self.newest(), asyncio.get_running_loop().time()
            if not newest.going or newest.until < self._clock():
                with suppress(ConflictError):  # another replica was faster
                    return await self._write(digests, newest.etag), at
            await asyncio.sleep(_PAUSE)
        raise ConflictError(f"{self._objects}: another replica removes content now; try again later")

    async def _keep(
        self, digests: Collection[Digest], etag: str, ended: asyncio.Event, patience: asyncio.Timeout
    ) -> str:
        """Say again and again that it goes on, until it has ended; what cannot be said lets it run out of patience."""
        clock = asyncio.get_running_loop().time
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TAKES / 4):
                    await ended.wait()
            if ended.is_set():
                return etag
            at = clock()  # what is written says `TAKES` seconds from now, however long it takes to write it
            try:
                etag = await self._write(digests, etag)
            except (StorageError, ConflictError):
                return etag
            with suppress(RuntimeError):  # it ended meanwhile
                patience.reschedule(at + TAKES / 2)

    async def _write(self, digests: Collection[Digest], over: str) -> str:
        until, turn = self._clock() + TAKES if digests else 0, secrets.token_hex(8)
        data = json.dumps({"turn": turn, "going": sorted(digests), "until": until}).encode()
        try:
            return await self._objects.write(KEY, data, "application/json", over)
        except ConflictError:
            newest = await self.newest()
            if newest.said != turn:
                raise
            return newest.etag  # it is ours: the answer was lost, and the request repeated


def _said(found: StoredDocument) -> Removal:
    said = found.value()
    return Removal(found.etag, frozenset(said["going"]), float(said["until"]), str(said["turn"]))
