"""Slots for so many at once, given out fairly: who has fewest gets the next one, and nobody gets them all.

Neither does anybody fill the line: who has most in it gives way.
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
    """There is no slot, and there was none for as long as one may wait."""


class Slot:
    """A slot that somebody has; `leave` gives it back before the context ends."""

    def __init__(self, slots: Slots, client: str) -> None:
        self._slots: Slots | None = slots
        self._client = client

    def leave(self) -> None:
        """Give it back; a second time nothing happens."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.free(self._client)


@dataclass(slots=True)
class Slots:
    """So many slots, of which so many for each client."""

    most: int
    each: int  # how many of them one client may have
    waiting: int = 512  # may wait for one; then whoever comes next is sent away, or who has most in the line
    patience: float = 120.0  # seconds for which they wait
    _taken: Counter[str] = field(default_factory=Counter)
    _line: dict[asyncio.Future[None], str] = field(default_factory=dict)

    @asynccontextmanager
    async def slot(self, client: str) -> AsyncIterator[Slot]:
        """Have a slot; FullError when none became free in time, or too many wait."""
        await self._take(client)
        slot = Slot(self, client)
        try:
            yield slot
        finally:
            slot.leave()

    def free(self, client: str) -> None:
        """Give a slot of a client's to whoever waits, has fewest, and came first."""
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]  # strangers' addresses are not remembered
        self._serve()

    @property
    def taken(self) -> int:
        """How many are taken."""
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
            if not turn.done() or turn.cancelled() or turn.exception():  # it may be out of the line already
                self._line.pop(turn, None)
            else:
                self.free(client)  # it was given, and there is nobody to have it
            if isinstance(error, TimeoutError):
                raise FullError from error
            raise

    def _give_way(self, client: str) -> bool:
        """Send away who came last of the client with most in the line, if those are more than `client` would have."""
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
            if turn.done():  # called off, and has not heard of it
                del self._line[turn]
                continue
            if self._taken[client] >= self.each:
                return
            del self._line[turn]
            self._taken[client] += 1
            turn.set_result(None)


def client_of(address: str) -> str:
    """Return what tells one client from another: its IPv4 address, or the network of its IPv6 address."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or IPv6Address(int(found) >> _CHOSEN << _CHOSEN))
    return str(found)
