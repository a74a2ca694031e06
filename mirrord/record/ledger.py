"""The ledger as one run writes it: which names it moves at which target, and what came of that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime

from mirrord import failpoints
from mirrord.errors import StorageError
from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.record.store import Store


class RunLedger:
    """Fulfils `Ledger` for one run of one mirror; `places` are the addresses of its targets."""

    def __init__(
        self, store: Store, mirror: str, run: datetime, places: Mapping[str, str], clock: Callable[[], datetime]
    ) -> None:
        self._store, self._mirror, self._run, self._places, self._clock = store, mirror, run, places, clock

    @asynccontextmanager
    async def moving(
        self, target: str, names: Mapping[str, tuple[str | None, str | None]]
    ) -> AsyncIterator[dict[str, Settled]]:
        """See `Ledger.moving`.

        What only adds or moves is done also when the disk does not let it be written down: a mirror needs no record to
        be right, and what is in no ledger is nothing that we would ever take away.

        Raises:
            StorageError: something is to be deleted, and that cannot be written down.
        """
        at, place = self._clock(), self._places[target]
        entries = [
            LedgerEntry(self._mirror, target, name, place, before, after, self._run, at)
            for name, (before, after) in names.items()
        ]
        try:
            await self._store.intend(entries)
        except StorageError:
            if any(entry.after is None for entry in entries):
                raise
            entries = []
        failpoints.hit("ledger.intended")
        outcomes: dict[str, Settled] = {}
        rest = Settled.OPEN
        try:
            yield outcomes
            rest = Settled.DONE
        finally:
            ended = [replace(entry, outcome=outcomes.get(entry.name, rest)) for entry in entries]
            with suppress(StorageError):  # it stays open then, and is looked at
                await self._store.settle([entry for entry in ended if entry.outcome is not Settled.OPEN])
