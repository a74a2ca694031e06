"""Who is sent away when others need the room."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from mirrord.blobs.idle import CacheEntry
from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.source_queue import Patience
from mirrord.blobs.spool import Spool


class Laggards:
    """Readers that hold room others wait for, and will not be through soon; times are seconds of `loop.time()`."""

    def __init__(self, grace: float, patience: Patience) -> None:
        """Let everybody have the `grace` to show its pace, and sources the `patience`."""
        self._grace, self._patience = grace, patience
        self._looked = -math.inf

    def send_away(self, entries: Iterable[CacheEntry], waiting: Collection[Collection[str]], now: float) -> None:
        """Send away readers of whole blobs who need far longer than the first of their blob did.

        Where none is through yet, those who need longer still than they had since the blob was whole: a slow
        target that alone lacks a blob must not hold up all others.

        So are all readers of a blob whose source will take hours at its pace: it may promise to be as large as the
        whole budget. Clients stay. Pace changes slowly: one look serves all who wait.

        Args:
            entries: blobs that are read.
            waiting: consumers on whose behalf room is waited for; a consumer that alone waits stays.
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
