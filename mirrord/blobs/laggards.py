"""Which readers are detached when others need their space."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from mirrord.blobs.idle import CacheEntry
from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.source_queue import Patience
from mirrord.blobs.spool import Spool


class Laggards:
    """Finds slow readers that hold space others wait for; times are seconds of `loop.time()`."""

    def __init__(self, grace: float, patience: Patience) -> None:
        """Give readers `grace` seconds to show their pace, and sources `patience`."""
        self._grace, self._patience = grace, patience
        self._looked = -math.inf

    def send_away(self, entries: Iterable[CacheEntry], waiting: Collection[Collection[str]], now: float) -> None:
        """Detach readers of complete blobs that need far longer than the fastest reader did.

        If none has finished, detach those that need longer than the time since the blob was complete: a slow target
        that alone lacks a blob must not delay all others.

        Detach also all readers of a blob whose source will take hours at its pace, since it may claim the whole
        budget. Clients stay. Pace changes slowly, so one check serves all that wait.

        Args:
            entries: blobs with readers.
            waiting: consumers that space is needed for; a consumer that alone waits stays.
            now: the time.
        """
        if now < self._looked + self._grace / 8:
            return
        self._looked = now
        for entry in entries:
            for reader in tuple(entry.holders) if entry.charged else ():
                late = self._late(entry, reader, now) if entry.spool.verified else self._hopeless(entry.spool, now)
                if late and not reader.client and any(reader.consumer not in consumers for consumers in waiting):
                    reader.detach()

    def _late(self, entry: CacheEntry, reader: SpoolReader, now: float) -> bool:
        had = now - max(entry.spool.ended, reader.began)
        patience = max(self._grace, entry.fastest if entry.fastest < math.inf else had)
        return had > self._grace and reader.remaining(now) > patience

    def _hopeless(self, spool: Spool, now: float) -> bool:
        return now - spool.began > self._patience.first and spool.remaining(now) > self._patience.longest
