"""A ledger whose names are longer than those of the place that is written to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.model.memory import Memory
from mirrord.syncer.values import Ledger

Move = tuple[str | None, str | None]
"""A digest before and after."""


class RenamedLedger:
    """The ledger of a run, for moves of names at one of many places."""

    def __init__(self, ledger: Ledger, renamed: Callable[[str, Move], tuple[str, Move] | None]) -> None:
        """Write to `ledger`; `renamed` returns a name and its move there, None for what is left out."""
        self._ledger, self._renamed = ledger, renamed

    @asynccontextmanager
    async def moving(self, target: str, names: Mapping[str, Move]) -> AsyncIterator[dict[str, Settled]]:
        """See `Ledger.moving`."""
        moves = {name: one for name, move in names.items() if (one := self._renamed(name, move))}
        async with self._ledger.moving(target, dict(moves.values())) as outcomes:
            found: dict[str, Settled] = {}
            try:
                yield found
            finally:
                outcomes.update({moves[name][0]: outcome for name, outcome in found.items() if name in moves})

    async def newest(self) -> Mapping[tuple[str, str], LedgerEntry]:
        """See `Ledger.newest`: of all places, by the names there."""
        return await self._ledger.newest()

    async def memory(self, mirror: str) -> Memory:
        """See `Ledger.memory`."""
        return await self._ledger.memory(mirror)
