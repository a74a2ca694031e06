"""One blob in transfer: a growing file with one writer and many tailing readers (`blobs/reader.py`).

The last chunk is withheld from every reader until size and digest are verified (if they are unknown, until the source
ends), so that a bad source can never complete an upload or a client's download.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mirrord.blobs.hashed_file import CHUNK
from mirrord.blobs.recent import ReaderMemory, RecentPieces
from mirrord.blobs.source import BlobSource
from mirrord.blobs.source_queue import SourceQueue
from mirrord.errors import MirrordError
from mirrord.model.digest import Digest

if TYPE_CHECKING:
    from mirrord.blobs.reader import SpoolReader

RECENT = 4 * CHUNK  # bytes kept in memory, so that readers that keep up do not read the file
BUFFER = 4 * CHUNK  # bytes of a streamed source in memory before it has to wait; hundreds of clients may be slow
WITHHELD = 1 << 16  # bytes kept back until the digest is verified


@dataclass(eq=False)
class Spool:
    """The state of one blob in transfer; times are seconds of `loop.time()`.

    Attributes:
        source: the first request; readers may have other sources of the same blob.
        path: the file.
        began: when the present source began.
        on_bytes: called with the number of bytes of each read.
        queue: its sources.
        digest: of it; known at the end if the source does not report it.
        size: of it; known when a source reports it, or at the end.
        answered: whether a source has answered.
        written: bytes so far.
        base: those of them from before the present source.
        streamed: further bytes are passed on from memory and not written to the file, for lack of space.
        verified: whether it is complete and verified.
        ended: when that was.
        error: why the transfer ended: our disk, a bug, no readers. Errors of a source go to its own readers only.
        generation: how often all bytes were dropped.
        recent: the last bytes.
        memory: that its readers share with those of other blobs.
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
    memory: ReaderMemory = field(default_factory=ReaderMemory)
    _news: asyncio.Event | None = None  # only while somebody waits: thousands of complete blobs have none

    def __post_init__(self) -> None:
        """Take digest and size from the source."""
        self.digest, self.size = self.source.digest, self.source.size

    @property
    def visible(self) -> int:
        """How many bytes are visible to readers."""
        if self.verified:
            return self.written
        if self.size is None:
            return max(0, self.written - WITHHELD)
        return max(0, min(self.written, self.size - min(WITHHELD, max(1, self.size // 2))))

    @property
    def mostly(self) -> bool:
        """Whether more than half is there, so that finishing costs less than reading it again."""
        return self.verified or (self.size is not None and 2 * self.written > self.size)

    async def changed(self) -> None:
        """Wait for the next change."""
        self._news = self._news or asyncio.Event()
        await self._news.wait()

    def announce(self) -> None:
        """Wake all that wait for a change."""
        news, self._news = self._news, None
        if news:
            news.set()

    def remaining(self, now: float) -> float:
        """Return how many seconds the present source needs for the rest at its pace; infinite without one."""
        fresh, size = self.written - self.base, self.source.limit if self.size is None else self.size
        return (size - self.written) * (now - self.began) / fresh if fresh > 0 and size is not None else math.inf

    def complete(self) -> None:
        """Note that all is there and verified; readers that kept up need no more than what was withheld."""
        self.verified, self.ended = True, asyncio.get_running_loop().time()
        if not self.streamed:
            self.recent.cut(self.written - WITHHELD)

    def begin(self) -> None:
        """Note that another source delivers the rest."""
        self.began, self.base = asyncio.get_running_loop().time(), self.written

    def grown(self, count: int) -> None:
        """Add `count` bytes."""
        self.written += count
        self.on_bytes(count)
        self.announce()

    def came(self, data: bytes) -> None:
        """Keep received bytes in memory for readers that keep up; streamed ones until all have read them."""
        self.recent.add(self.written, data)
        if not self.streamed:
            self.recent.forget(max(self._taken(), self.written + len(data) - RECENT))
        self.grown(len(data))

    def _taken(self) -> int:
        return min((reader.taken for reader in self.readers), default=self.written)

    def restart(self) -> None:
        """Note that all bytes were dropped."""
        self.written = self.base = 0
        self.size = self.source.size
        self.forget()
        self.generation += 1
        self.announce()

    def forget(self) -> None:
        """Drop the bytes that are in memory."""
        self.recent.clear()
        self.memory.forget(self)

    def stream(self) -> None:
        """Note that there is no space for further bytes."""
        self.streamed = True
        self.announce()

    async def drained(self, most: int = BUFFER) -> None:
        """Wait until the readers have taken all but `most` of the streamed bytes; free the memory of what they took.

        While many blobs are read, `most` is less.
        """
        while self.streamed:
            taken = self._taken()
            self.recent.forget(taken)
            if self.written - taken < min(most, self.memory.part):
                return
            await self.changed()
