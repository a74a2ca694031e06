"""Sets names at local targets for many images at once: each time costs a flush, and in a layout the whole index."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from mirrord.model.run import Receipt
from mirrord.syncer.values import Ledger
from mirrord.syncers.image.transfer.destinations import Collecting
from mirrord.syncers.image.transfer.publishing import Names, Whole, publish
from mirrord.transfer.execute import TURN, failed
from mirrord.transfer.fanout import Delivery, deliberate

SOON: Final = 1.0  # seconds for which a complete image may wait for its names
SHARE: Final = 8  # for one of so many that have theirs another one may wait: so many times all names are written


class _Waiting(NamedTuple):
    image: Whole
    receipt: Callable[[Names], Receipt]
    delivery: Delivery


class WaitingImages:
    """Images that wait for their names at one target; a normal end of the run calls `settle` once more."""

    def __init__(self, destination: Collecting, ledger: Ledger) -> None:
        """Begin empty."""
        self._destination, self._ledger = destination, ledger
        self._waiting: list[_Waiting] = []
        self._named = 0
        self._turn = asyncio.Lock()
        self._clock: asyncio.Task[None] | None = None

    async def add(self, image: Whole, receipt: Callable[[Names], Receipt], delivery: Delivery) -> None:
        """Add an image; its receipt is reported when it has its names."""
        async with self._turn:
            names = set(image.step.names)
            if any(not names.isdisjoint(one.image.step.names) for one in self._waiting):
                await self._settle()  # what a name stands for is asked before it is set
            self._waiting.append(_Waiting(image, receipt, delivery))
            if len(self._waiting) * SHARE > self._named:
                await self._settle()
        if self._waiting and self._clock is None:
            self._clock = asyncio.create_task(self._regularly())

    async def settle(self) -> None:
        """Set the names of all waiting images."""
        async with self._turn:
            await self._settle()

    async def aclose(self) -> None:
        """Stop; images without names get none."""
        if self._clock is not None:
            self._clock.cancel()
            await asyncio.gather(self._clock, return_exceptions=True)

    async def _regularly(self) -> None:
        while True:
            await asyncio.sleep(SOON)
            await self.settle()

    async def _settle(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and not await self._set(waiting):
            for one in waiting:  # each one fails alone
                await self._set([one])

    async def _set(self, waiting: Sequence[_Waiting]) -> bool:
        """Return False if that failed and may succeed for some of them."""
        try:
            decided = await publish(self._destination, [one.image for one in waiting], self._ledger)
        except Exception as error:  # noqa: BLE001 - a bug at one target fails that target only
            if len(waiting) == 1:
                waiting[0].delivery.tell(failed(waiting[0].image.step, deliberate(error)))
            return len(waiting) == 1
        self._named += len(waiting)
        for number, (one, names) in enumerate(zip(waiting, decided, strict=True), 1):
            one.delivery.tell(one.receipt(names))
            if not number % TURN:
                await asyncio.sleep(0)  # whoever listens must not keep the loop from others
        return True
