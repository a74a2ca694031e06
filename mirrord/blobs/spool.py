"""One blob on its way: a growing file with one writer and many tailing readers (`blobs/reader.py`).

The last chunk is withheld from every reader until size and digest are verified (where nobody knows them, until the
source has come to its end), so that a bad source can never complete an upload or a client's download.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mirrord.blobs.hashed_file import CHUNK
from mirrord.blobs.recent import RecentPieces
from mirrord.blobs.source import BlobSource
from mirrord.blobs.source_queue import SourceQueue
from mirrord.errors import MirrordError
from mirrord.model.digest import Digest

if TYPE_CHECKING:
    from mirrord.blobs.reader import SpoolReader

RECENT = 4 * CHUNK  # bytes kept in memory for readers that keep up: they need not read the file
BUFFER = 8 * CHUNK  # bytes that are in memory and nowhere else before a streamed source has to wait
WITHHELD = 1 << 16  # bytes kept back until the digest is verified


@dataclass(eq=False)
class Spool:
    """The state of one blob on its way; times are seconds of `loop.time()`.

    Attributes:
        source: what was asked for; whoever reads it may have another source for the same.
        path: the file.
        began: when the present source began.
        on_bytes: hears of each number of bytes that came.
        queue: who can bring it.
        digest: of it; where the source does not say, known at the end.
        size: of it; where the source does not say, known when a source answers that does, or at the end.
        answered: whether a source has answered.
        written: bytes that came.
        base: those of them that had come when the present source began.
        streamed: what comes now is handed on from memory and not written to the file: there was no room for it.
        verified: whether all of it came, and is right.
        ended: when that was.
        error: why nobody will bring it: our own disk, a bug, nobody who waits. What is wrong with a source is told to
            its own readers only.
        generation: how often all bytes were dropped.
        recent: what came last.
    """

    source: BlobSource
    path: Path
    began: float
    on_bytes: Callable[[int], None] = lambda _count: None
    queue: SourceQueue = field(default_factory=SourceQueue)
    digest: Digest | None = field(init=False)
    size: int | None = field(init=False)
    answered: bool = False
    written: int = 0
    base: int = 0
    streamed: bool = False
    verified: bool = False
    ended: float = math.inf
    error: MirrordError | None = None
    generation: int = 0
    readers: set[SpoolReader] = field(default_factory=set)
    recent: RecentPieces = field(default_factory=RecentPieces)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Know what the source says."""
        self.digest, self.size = self.source.digest, self.source.size

    @property
    def visible(self) -> int:
        """How many bytes readers may see."""
        if self.verified:
            return self.written
        if self.size is None:
            return max(0, self.written - WITHHELD)
        return max(0, min(self.written, self.size - min(WITHHELD, max(1, self.size // 2))))

    async def changed(self) -> None:
        """Wait for the next change of anything above."""
        await self._news.wait()

    def announce(self) -> None:
        """Wake everybody who waits for a change."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def remaining(self, now: float) -> float:
        """Return how many seconds the present source needs for the rest at its pace; infinite when it has none."""
        fresh, size = self.written - self.base, self.source.limit if self.size is None else self.size
        return (size - self.written) * (now - self.began) / fresh if fresh > 0 and size is not None else math.inf

    def begin(self) -> None:
        """Say that from now on another source brings the rest."""
        self.began, self.base = asyncio.get_running_loop().time(), self.written

    def grown(self, count: int) -> None:
        """Say that `count` more bytes are there."""
        self.written += count
        self.on_bytes(count)
        self.announce()

    def came(self, data: bytes) -> None:
        """Take what came; it stays in memory for readers that keep up, unless what is streamed has no other place."""
        self.recent.add(self.written, data)
        if not self.streamed:
            self.recent.forget(max(self._taken(), self.written + len(data) - RECENT))
        self.grown(len(data))

    def _taken(self) -> int:
        return min((reader.taken for reader in self.readers), default=self.written)

    def restart(self) -> None:
        """Say that all that was there was dropped."""
        self.written = self.base = 0
        self.size = self.source.size
        self.recent.clear()
        self.generation += 1
        self.announce()

    def stream(self) -> None:
        """Say that there is no room for what comes from now on."""
        self.streamed = True
        self.announce()

    async def drained(self) -> None:
        """Wait until the readers have taken so much of what is streamed that memory has room for more."""
        while self.streamed:
            taken = self._taken()
            self.recent.forget(taken)
            if self.written - taken < BUFFER:
                return
            await self.changed()
