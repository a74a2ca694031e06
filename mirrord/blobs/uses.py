"""When clients last asked for content of `local`: in memory, and now and then elsewhere.

A request costs one entry in a dictionary. On a disk the time of a manifest is written as the modification time of its
file, every ten minutes, with each collection and at the end; for a bucket see `s3_uses`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from mirrord.model.digest import Digest

UNSEEN: Final = 300.0
"""Seconds after which other replicas know of a use: a write may fail some times, and clocks may differ."""
MOST: Final = 100_000  # digests in memory; a use of any other one counts as made when the last of them was forgotten


class ContentUses:
    """What this process knows; times are seconds since 1970.

    Attributes:
        every: seconds between two writes.
        unseen: seconds for which a use may not be known here: one at another replica that has not told it yet.
    """

    every: float = 600.0
    unseen: float = 0.0

    def __init__(
        self,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - ages count through restarts
        most: int = MOST,
    ) -> None:
        """Know nothing yet."""
        self._clock, self._most = clock, most
        self._last = OrderedDict[Digest, float]()
        self._floor = 0.0

    def serve(self) -> None:
        """Clients come from now on, or came until a moment ago: nobody knows what they were reading."""
        self._floor = self._clock()

    @property
    def known_from(self) -> float:
        """Since when it is known of everything whether a client asked for it; 0 where none could ask."""
        return self._floor

    def note(self, digest: Digest, *, manifest: bool = False) -> None:  # noqa: ARG002 - of those who write it
        """A client asks for content; of manifests the time is written, too."""
        self._last[digest] = self._clock()
        self._last.move_to_end(digest)
        if len(self._last) > self._most:
            _, self._floor = self._last.popitem(last=False)

    def since(self, digest: Digest, at: float) -> bool:
        """Whether somebody asked for it since then, or may have."""
        return max(self._last.get(digest, 0.0), self._floor) >= at

    def last(self, digest: Digest) -> float:
        """Return when a manifest was last asked for, or came; 0 if nobody knows that. Blocks."""
        return self._last.get(digest, 0.0)

    async def write(self) -> None:
        """Write what is not written.

        Raises:
            StorageError: it cannot be written; it is kept for the next time.
        """

    async def gather(self, before: float = 0.0) -> None:
        """Learn what others know. What those who noted nothing since `before` have written is taken over.

        Raises:
            StorageError: it cannot be read, so nothing may count as unused.
        """

    async def aclose(self) -> None:
        """Write what is not written, if that is possible now."""


class DiskUses(ContentUses):
    """Those of a store on the disk, which one process uses."""

    def __init__(
        self,
        place: Callable[[Digest], Path],
        clock: Callable[[], float] = time.time,  # noqa: TID251 - ages count through restarts
        most: int = MOST,
    ) -> None:
        """Write to the files at `place`."""
        super().__init__(clock, most)
        self._place, self._unwritten = place, dict[Digest, float]()

    def note(self, digest: Digest, *, manifest: bool = False) -> None:
        """See `ContentUses.note`."""
        super().note(digest)
        if manifest:
            self._unwritten[digest] = self._last[digest]

    def last(self, digest: Digest) -> float:
        """See `ContentUses.last`."""
        with suppress(OSError):
            return max(super().last(digest), self._place(digest).stat().st_mtime)
        return super().last(digest)

    async def write(self) -> None:
        """See `ContentUses.write`."""
        some, self._unwritten = self._unwritten, {}

        def write() -> None:
            for digest, at in some.items():
                with suppress(OSError):  # a time that is not written makes nothing go that was used in this process
                    os.utime(self._place(digest), (at, at))

        if some:
            await asyncio.to_thread(write)

    async def gather(self, before: float = 0.0) -> None:  # noqa: ARG002 - nobody else knows anything
        """Write what is not written, for the next process."""
        await self.write()

    async def aclose(self) -> None:
        """See `ContentUses.aclose`."""
        await self.write()
