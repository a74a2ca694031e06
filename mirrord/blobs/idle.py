"""Blobs of a spool, and the order in which idle ones are dropped."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.source import BlobSource
from mirrord.blobs.spool import Spool

_AGAIN: Final = 100  # hard-linked entries that are checked again in one call


@dataclass(eq=False)
class CacheEntry:
    """One blob.

    Attributes:
        spool: its state.
        key: readers with the same key share it.
        charged: bytes of the budget; none for a file that is read in place.
        holders: readers that need it.
        task: fills it; None for a file of an earlier process.
        fastest: seconds that the fastest reader took.
        keeper: reader that stores it; also after that.
        kept: whether a store has its file, too.
        rested: its sequence number when it became idle.
    """

    spool: Spool
    key: object
    charged: int = 0
    holders: set[SpoolReader] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    fastest: float = math.inf
    keeper: SpoolReader | None = None
    kept: bool = False
    rested: int = 0

    @property
    def stored(self) -> int:
        """Bytes that are on the disk."""
        return self.charged if self.task is None else min(self.charged, self.spool.written)

    @property
    def begun(self) -> int:
        """Bytes on the disk that a transfer which resumes it need not write."""
        with contextlib.suppress(OSError):
            return self.spool.path.stat().st_size if self.spool.source.digest else 0
        return 0

    def open_to(self, source: BlobSource) -> bool:
        """Whether a reader of `source` may join."""
        spool = self.spool
        if self.task is None or spool.error or spool.streamed:
            return False
        return spool.verified or not source.same_origin or spool.queue.origins <= {source.origin}

    @property
    def idle(self) -> bool:
        """Whether it is neither read nor filled."""
        return not self.holders and (self.task is None or self.task.done())

    @property
    def alone(self) -> bool:
        """Whether its file has no other hard link (in the store), so that dropping it frees disk space."""
        try:
            return self.spool.path.stat().st_nlink < 2
        except OSError:
            return True


class IdleEntries:
    """Idle entries, least recently used first; all operations take constant time.

    Entries with another hard link are kept apart: dropping them frees budget but no disk space.

    Attributes:
        charged: bytes of the budget of all of them.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._unknown: OrderedDict[CacheEntry, None] = OrderedDict()
        self._linked: OrderedDict[CacheEntry, None] = OrderedDict()
        self._count = 0
        self.charged = 0

    def __contains__(self, entry: CacheEntry) -> bool:
        """Whether an entry is one of them."""
        return entry in self._unknown or entry in self._linked

    def add(self, entry: CacheEntry) -> None:
        """Add a new one, as the most recently used."""
        self._count += 1
        entry.rested = self._count
        self._unknown[entry] = None
        self.charged += entry.charged

    def discard(self, entry: CacheEntry) -> None:
        """Remove one, if it is among them."""
        if entry in self:
            self._unknown.pop(entry, None)
            self._linked.pop(entry, None)
            self.charged -= entry.charged

    def oldest(self, keep: CacheEntry | None) -> CacheEntry | None:
        """Return the least recently used one, other than `keep`."""
        heads = [head for one in (self._unknown, self._linked) if (head := _first(one, keep)) is not None]
        return min(heads, key=lambda entry: entry.rested, default=None)

    def removable(self, keep: CacheEntry | None) -> CacheEntry | None:
        """Return the least recently used one that frees disk space, other than `keep`."""
        while (entry := _first(self._unknown, keep)) is not None and not self._alone(entry):
            pass
        return entry

    def stored(self, enough: Callable[[int], bool]) -> int:
        """Return how many bytes of the disk dropping them frees; stops counting at `enough`."""
        for _ in range(0 if enough(0) else min(_AGAIN, len(self._linked))):  # the store may have removed its link
            entry, _ = self._linked.popitem(last=False)
            (self._unknown if entry.alone else self._linked)[entry] = None
        found = 0
        for entry in tuple(self._unknown) if not enough(0) else ():
            if enough(found):
                break
            found += entry.stored if self._alone(entry) else 0
        return found

    def _alone(self, entry: CacheEntry) -> bool:
        if alone := entry.alone:
            return alone
        del self._unknown[entry]
        self._linked[entry] = None
        return False


def _first(entries: OrderedDict[CacheEntry, None], keep: CacheEntry | None) -> CacheEntry | None:
    return next((entry for entry in entries if entry is not keep), None)
