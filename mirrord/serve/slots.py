"""Fair slots: the client with the fewest gets the next one, and no client gets all.

No client fills the queue either: the one with the most waiters loses one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Final

_CHOSEN: Final = 64  # bits of an IPv6 address that a client chooses as it likes


class FullError(Exception):
    """No slot became free in time, or the queue is full."""


class Slot:
    """A slot in use; `leave` returns it before the context ends."""

    def __init__(self, slots: Slots, client: str) -> None:
        self._slots: Slots | None = slots
        self._client = client

    def leave(self) -> None:
        """Return it; a second call has no effect."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.free(self._client)


@dataclass(slots=True)
class Slots:
    """A number of slots, with a limit per client."""

    most: int
    each: int  # slots per client
    waiting: int = 512  # queue length; beyond it the newcomer is rejected, or a waiter of the client with most
    patience: float = 120.0  # seconds to wait
    _taken: Counter[str] = field(default_factory=Counter)
    _line: dict[asyncio.Future[None], str] = field(default_factory=dict)

    @asynccontextmanager
    async def slot(self, client: str) -> AsyncIterator[Slot]:
        """Get a slot; FullError if none became free in time, or too many wait."""
        await self._take(client)
        slot = Slot(self, client)
        try:
            yield slot
        finally:
            slot.leave()

    def free(self, client: str) -> None:
        """Pass a client's slot to the first waiter of the client with the fewest."""
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]  # addresses of clients are not kept
        self._serve()

    @property
    def taken(self) -> int:
        """The number of slots in use."""
        return self._taken.total()

    async def _take(self, client: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(self._line) >= self.waiting and not self._give_way(client):
            raise FullError
        self._line[turn] = client
        self._serve()
        try:
            async with asyncio.timeout(self.patience):
                await turn
        except BaseException as error:
            if not turn.done() or turn.cancelled() or turn.exception():  # it may have left the queue already
                self._line.pop(turn, None)
            else:
                self.free(client)  # it was granted to a cancelled waiter
            if isinstance(error, TimeoutError):
                raise FullError from error
            raise

    def _give_way(self, client: str) -> bool:
        """Reject the last waiter of the client with the most waiters, if those are more than `client` would have."""
        line = Counter(self._line.values())
        most = max(line, key=line.__getitem__, default=client)
        if line[most] <= line[client] + 1:
            return False
        last = next(turn for turn in reversed(self._line) if self._line[turn] == most)
        del self._line[last]
        if not last.done():
            last.set_exception(FullError())
        return True

    def _serve(self) -> None:
        while self._line and self.taken < self.most:
            turn = min(self._line, key=lambda one: self._taken[self._line[one]])
            client = self._line[turn]
            if turn.done():  # cancelled, and not resumed yet
                del self._line[turn]
                continue
            if self._taken[client] >= self.each:
                return
            del self._line[turn]
            self._taken[client] += 1
            turn.set_result(None)


def client_of(address: str) -> str:
    """Return the key of a client: its IPv4 address, or the network of its IPv6 address."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or IPv6Address(int(found) >> _CHOSEN << _CHOSEN))
    return str(found)
