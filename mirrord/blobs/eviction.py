"""Which content goes first: least recently used, within a size and an age, except what is pinned. Pure."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from mirrord.model.digest import Digest

JUST: Final = 3.0
"""Seconds in which content that was found is not evicted, so that whoever found it can open it."""


@dataclass(slots=True)
class HeldContent:
    """An entry: its bytes, and when it was last used and found, in seconds of some clock."""

    size: int
    used: float
    found: float = -math.inf


class EvictionOrder:
    """Entries by digest, least recently used first; all operations take constant time.

    Attributes:
        size: bytes of all entries.
        limit: bytes that they may have.
        unused: seconds after which an entry that is not used goes.
        pinned: says which entries never go; call `unpin` when its answers change.
    """

    def __init__(self, entries: Iterable[tuple[Digest, HeldContent]] = ()) -> None:
        """Begin with entries in order."""
        self._entries = OrderedDict(entries)
        self._stuck: dict[Digest, HeldContent] = {}  # found to be pinned when they were to go
        self._stuck_size = 0
        self.size = sum(held.size for held in self._entries.values())
        self.limit, self.unused = math.inf, math.inf
        self.pinned: Callable[[Digest], bool] = lambda _digest: False

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries) + len(self._stuck)

    def __contains__(self, digest: Digest) -> bool:
        """Whether there is such an entry."""
        return digest in self._entries or digest in self._stuck

    @property
    def evictable(self) -> int:
        """Return the bytes of entries that are not known to be pinned."""
        return self.size - self._stuck_size

    def takes(self, size: int) -> bool:
        """Whether an entry of `size` bytes is within the limit, once others have gone."""
        return size <= self.limit - self._stuck_size

    def get(self, digest: Digest) -> HeldContent | None:
        """Return an entry."""
        return self._entries.get(digest) or self._stuck.get(digest)

    def add(self, digest: Digest, held: HeldContent) -> None:
        """Add an entry, the most recently used."""
        self._entries[digest] = held
        self.size += held.size

    def use(self, digest: Digest, now: float) -> HeldContent | None:
        """Note a use of an entry, and return it."""
        held = self.get(digest)
        if held is not None:
            held.used = now
            if digest in self._entries:
                self._entries.move_to_end(digest)
        return held

    def pop(self, digest: Digest) -> HeldContent | None:
        """Remove an entry, and return it."""
        held = self._entries.pop(digest, None)
        if held is None and (held := self._stuck.pop(digest, None)) is not None:
            self._stuck_size -= held.size
        self.size -= held.size if held else 0
        return held

    def next(self, now: float, lack: int) -> Digest | None:
        """Return the entry that goes next, if one has to go, also for `lack` bytes of the disk."""
        while self._entries:
            digest, held = next(iter(self._entries.items()))
            if self.size <= self.limit and held.used >= now - self.unused and lack <= 0:
                return None
            if self.pinned(digest):
                self._stuck[digest] = self._entries.pop(digest)
                self._stuck_size += held.size
                continue
            return None if held.found > now - JUST else digest
        return None

    def waits(self) -> bool:
        """Whether entries have to go that were just found."""
        return self.size > self.limit and bool(self._entries)

    def unpin(self) -> None:
        """Ask `pinned` again about all entries."""
        for digest, held in self._stuck.items():
            self._entries[digest] = held
            self._entries.move_to_end(digest, last=False)
        self._stuck.clear()
        self._stuck_size = 0
