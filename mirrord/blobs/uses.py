"""When clients last asked for content of `local`: in memory, and now and then on the disk.

A request costs one entry in a dictionary. The time of a manifest is written as the modification time of its file, every
ten minutes, with each collection and at the end.
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

MOST: Final = 100_000  # digests in memory; a use of any other one counts as made when the last of them was forgotten


class ContentUses:
    """Times are seconds since 1970."""

    def __init__(
        self,
        place: Callable[[Digest], Path],
        clock: Callable[[], float] = time.time,  # noqa: TID251 - ages count through restarts
        most: int = MOST,
    ) -> None:
        """Write to the files at `place`."""
        self._place, self._clock, self._most = place, clock, most
        self._last = OrderedDict[Digest, float]()
        self._unwritten = dict[Digest, float]()
        self._floor = 0.0

    def serve(self) -> None:
        """Clients come from now on, or came until a moment ago: nobody knows what they were reading."""
        self._floor = self._clock()

    @property
    def known_from(self) -> float:
        """Since when it is known of everything whether a client asked for it; 0 where none could ask."""
        return self._floor

    def note(self, digest: Digest, *, manifest: bool = False) -> None:
        """A client asks for content; of manifests the time is written, too."""
        self._last[digest] = now = self._clock()
        self._last.move_to_end(digest)
        if manifest:
            self._unwritten[digest] = now
        if len(self._last) > self._most:
            _, self._floor = self._last.popitem(last=False)

    def since(self, digest: Digest, at: float) -> bool:
        """Whether somebody asked for it since then, or may have."""
        return max(self._last.get(digest, 0.0), self._floor) >= at

    def last(self, digest: Digest) -> float:
        """Return when a manifest was last asked for, or came. Blocks."""
        last = self._last.get(digest, 0.0)
        with suppress(OSError):
            return max(last, self._place(digest).stat().st_mtime)
        return last

    async def write(self) -> None:
        """Write what is not written."""
        some, self._unwritten = self._unwritten, {}

        def write() -> None:
            for digest, at in some.items():
                with suppress(OSError):  # a time that is not written makes nothing go that was used in this process
                    os.utime(self._place(digest), (at, at))

        if some:
            await asyncio.to_thread(write)
