"""The ledger as one run writes it: which names it moves at which target, and what came of that."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Sized
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import Final

from mirrord import failpoints
from mirrord.errors import MirrordError, StorageError
from mirrord.model.ledger import LedgerEntry, Settled, settled
from mirrord.record.store import Store
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror, Services

_MANY: Final = 100  # names, which take some tenths of a millisecond
PATIENCE: Final = 20.0
"""Seconds for a look at a target that left something open; who does not answer is asked at the next run."""


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
        if not names:
            yield {}
            return
        at, place = self._clock(), self._places[target]
        entries = await _aside(
            lambda: [
                LedgerEntry(self._mirror, target, name, place, before, after, self._run, at)
                for name, (before, after) in names.items()
            ],
            names,
        )
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
            ends = ((entry, outcomes.get(entry.name, rest)) for entry in entries)
            ended = await _aside(
                lambda: [replace(one, outcome=end) for one, end in ends if end is not Settled.OPEN], names
            )
            with suppress(StorageError):  # it stays open then, and is looked at
                await self._store.settle(ended)


async def _aside(make: Callable[[], list[LedgerEntry]], names: Sized) -> list[LedgerEntry]:
    """Return what `make` makes; of many thousand names beside the event loop."""
    return await asyncio.to_thread(make) if len(names) > _MANY else make()


async def settle(mirror: Mirror, syncer: Syncer, services: Services, store: Store) -> None:
    """Look what came of moves that a crash or an error left open; what cannot be seen now stays open."""
    left = defaultdict[str, list[LedgerEntry]](list)
    for entry in await store.moves(mirror.name, unsettled=True):
        left[entry.target].append(entry)
    targets = {target.name: target for target in mirror.targets}
    places = syncer.places(mirror)[1]

    async def look(name: str, entries: Sequence[LedgerEntry]) -> None:
        names = {entry.name for entry in entries if entry.place == places.get(name)}
        found: Mapping[str, str | None] = {}
        if names and syncer.held is not None:
            try:
                async with asyncio.timeout(PATIENCE):
                    found = await syncer.held(mirror, targets[name], services, names)
            except (MirrordError, TimeoutError):
                return  # nobody can say now
        await store.settle([replace(entry, outcome=outcome(entry, found)) for entry in entries])

    def outcome(entry: LedgerEntry, found: Mapping[str, str | None]) -> Settled:
        if entry.place != places.get(entry.target) or entry.name not in found:
            return Settled.OTHER
        return settled(entry.before, entry.after, found[entry.name])

    await asyncio.gather(*(look(name, entries) for name, entries in left.items()))
