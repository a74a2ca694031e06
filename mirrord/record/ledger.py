"""The ledger of one run: which names it moves at which target, and the outcomes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Sized
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import Final

from mirrord import failpoints
from mirrord.errors import MirrordError, StorageError
from mirrord.model.ledger import LedgerEntry, Settled, settled
from mirrord.model.memory import Memory
from mirrord.record.store import Store
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror, Services

_MANY: Final = 100  # names; they take some tenths of a millisecond
PATIENCE: Final = 20.0
"""Seconds for checking open moves at a target; without an answer the next run checks them."""


class RunLedger:
    """Implements `Ledger` for one run of one mirror; `places` are the addresses of its targets.

    With replicas `fenced` raises FencedError when another one runs the mirror: it is asked after each batch of moves
    was recorded, before it happens, and nothing happens that cannot be recorded.
    """

    def __init__(  # noqa: PLR0917 - all of them belong to each run
        self,
        store: Store,
        mirror: str,
        run: datetime,
        places: Mapping[str, str],
        clock: Callable[[], datetime],
        fenced: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._store, self._mirror, self._run, self._places, self._clock = store, mirror, run, places, clock
        self._fenced = fenced

    @asynccontextmanager
    async def moving(
        self, target: str, names: Mapping[str, tuple[str | None, str | None]]
    ) -> AsyncIterator[dict[str, Settled]]:
        """See `Ledger.moving`.

        Additions and moves happen even if they cannot be recorded: a mirror is correct without a record, and a name
        that is in no ledger is never deleted.

        Raises:
            StorageError: a deletion cannot be recorded.
            FencedError: another replica runs the mirror.
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
            if self._fenced or any(entry.after is None for entry in entries):
                raise
            entries = []
        if self._fenced:
            await self._fenced()
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
            with suppress(StorageError):  # it stays open, and is checked later
                await self._store.settle(ended)

    async def newest(self) -> Mapping[tuple[str, str], LedgerEntry]:
        """See `Ledger.newest`."""
        found = await self._store.newest_moves(self._mirror)
        return await asyncio.to_thread(
            lambda: {(one.target, one.name): one for one in found if one.place == self._places.get(one.target)}
        )

    async def memory(self, mirror: str) -> Memory:
        """See `Ledger.memory`."""
        return await self._store.memory(mirror)


async def _aside(make: Callable[[], list[LedgerEntry]], names: Sized) -> list[LedgerEntry]:
    """Return the result of `make`; for many names in a thread."""
    return await asyncio.to_thread(make) if len(names) > _MANY else make()


async def settle(mirror: Mirror, syncer: Syncer, services: Services, store: Store, only: str = "") -> None:
    """Settle moves that a crash or an error left open, at one target or all; what cannot be checked now stays open."""
    left = defaultdict[str, list[LedgerEntry]](list)
    for entry in await store.moves(mirror.name, unsettled=True):
        if only in ("", entry.target):
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
                return  # unknown for now
        await store.settle([replace(entry, outcome=outcome(entry, found)) for entry in entries])

    def outcome(entry: LedgerEntry, found: Mapping[str, str | None]) -> Settled:
        if entry.place != places.get(entry.target) or entry.name not in found:
            return Settled.OTHER
        return settled(entry.before, entry.after, found[entry.name])

    await asyncio.gather(*(look(name, entries) for name, entries in left.items()))
