"""Limits how many bytes are written in one turn of the event loop, so that many streams delay no other request.

When bytes arrive, all clients that wait for them are woken at once. A request needs several turns of the loop, and
each of them would take as long as all these writes together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

MOST: Final = 16 << 20
"""Bytes that are written in one turn, in a few milliseconds: enough for twenty clients that get all at once."""


class TurnBudget:
    """Grants writes first come, first served: so many bytes in each turn, and at least one write."""

    def __init__(self, most: int = MOST) -> None:
        """Grant about `most` bytes in each turn."""
        self._most = self._left = most
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._due = False

    async def take(self, count: int) -> None:
        """Wait for the turn in which `count` bytes may be written."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._next)
        if self._left > 0 and not self._waiting:
            self._left -= count
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((granted, count))
        await granted

    def _next(self) -> None:
        """Grant to those in line what the next turn may write."""
        self._left = self._most
        while self._waiting and self._left > 0:
            granted, count = self._waiting.popleft()
            if not granted.done():  # its client may have left
                granted.set_result(None)
                self._left -= count
        self._due = self._left < self._most or bool(self._waiting)
        if self._due:
            asyncio.get_running_loop().call_soon(self._next)
