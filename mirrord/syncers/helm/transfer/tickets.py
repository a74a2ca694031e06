"""Standing in line at a target that must be given charts in a certain order."""

from __future__ import annotations

import asyncio


class Ticket:
    """One place in a line. It comes when everybody before has left, also those who left early.

    Attributes:
        left: done when this one, and everybody before, has left.
    """

    def __init__(self, before: Ticket | None) -> None:
        """Stand behind `before`; None is the front, and also where there is no line at all."""
        self._before = before.left if before else None
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def come(self) -> None:
        """Wait until it is our turn."""
        if self._before:
            await asyncio.wait([self._before])

    def leave(self) -> None:
        """Let the next one come, once those before us have left; again does nothing."""
        if self._before is None or self._before.done():
            self._pass()
        else:
            self._before.add_done_callback(lambda _: self._pass())

    def _pass(self) -> None:
        if not self.left.done():
            self.left.set_result(None)
