"""One item, many targets: each on its own, and flipping together where that is wanted."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self, TypeVar

from mirrord.errors import MirrordError
from mirrord.model.plan import Step
from mirrord.model.run import Receipt
from mirrord.syncer.port import OnReceipt
from mirrord.transfer.execute import TURN, failed
from mirrord.wire.secret import bug

_Item = TypeVar("_Item")


class Gate:
    """Where targets wait for one another before they flip (`publish: together`).

    It opens when every target of the item is whole or has failed, or `patience` seconds after
    the first one was whole: then those that are ready flip, and slower ones when they are.
    """

    def __init__(self, parties: int, patience: float) -> None:
        """Expect `parties` targets. No patience, no waiting (`publish: each`)."""
        self._missing = parties
        self._patience = patience
        self._open = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def ready(self) -> None:
        """Say that a target is whole, and wait until it may flip."""
        if self._patience <= 0:
            return
        self._timer = self._timer or asyncio.get_running_loop().call_later(self._patience, self._open.set)
        self.leave()
        await self._open.wait()

    def leave(self) -> None:
        """Say that nobody has to wait for one more target."""
        self._missing -= 1
        if self._missing <= 0:
            self._open.set()

    def __enter__(self) -> Self:
        """Enter; leaving stops the clock."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Stop the clock."""
        if self._timer:
            self._timer.cancel()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One step under way, as its target's deliverer sees it."""

    step: Step
    gate: Gate
    on_receipt: OnReceipt
    began: float = field(default_factory=time.monotonic)

    def tell(self, receipt: Receipt) -> None:
        """Tell how it ended, and how long it took."""
        self.on_receipt(replace(receipt, seconds=time.monotonic() - self.began))


Deliver = Callable[[Delivery], Awaitable[Receipt | None]]
"""Delivers one step. Who returns None tells the receipt later, by `Delivery.tell`."""


async def fan_out(batch: Sequence[Step], deliver: Deliver, patience: float, on_receipt: OnReceipt) -> None:
    """Deliver one item to all targets of `batch` at once, and tell each receipt; a target that fails hurts no other."""
    with Gate(len(batch), patience) as gate:
        async with asyncio.TaskGroup() as group:
            for step in batch:
                group.create_task(_one(Delivery(step, gate, on_receipt), deliver))


async def _one(delivery: Delivery, deliver: Deliver) -> None:
    try:
        receipt = await deliver(delivery)
    except Exception as error:  # noqa: BLE001 - a bug that one target brings out is that target's failure
        delivery.gate.leave()  # before the gate nobody waits for it any more; after it this changes nothing
        receipt = failed(delivery.step, deliberate(error))
    if receipt is not None:
        delivery.tell(receipt)


def deliberate(error: Exception) -> MirrordError:
    """Return an error as one of ours: what nobody raises on purpose is a bug, and told as one."""
    return error if isinstance(error, MirrordError) else MirrordError(bug(error))


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Do all at once; when one fails stop the others and raise what it raised.

    For as many as the operator wrote down. What a stranger's list is long in is for `Workers`.
    """
    async with _joined() as group:
        for work in works:
            group.create_task(work)


class Workers:
    """A number of workers for work that may have more work inside, as the parts of parts of an index.

    Who has something to do does it himself and takes those who are free to help. Nobody waits for a worker, so that no
    two can wait for one another, however deep the work is.
    """

    def __init__(self, most: int) -> None:
        """Begin with one, who calls `each`; the others are free."""
        self._free = most - 1

    async def each(self, items: Iterable[_Item], do: Callable[[_Item], Awaitable[None]]) -> None:
        """Do something with all items, in their order; when one fails stop the others and raise what it raised."""
        left = deque(items)
        async with _joined() as group:
            await self._work(group, left, do)

    async def _work(self, group: asyncio.TaskGroup, left: deque[_Item], do: Callable[[_Item], Awaitable[None]]) -> None:
        while left:
            item = left.popleft()
            if left and self._free > 0:
                self._free -= 1
                group.create_task(self._work(group, left, do)).add_done_callback(self._done)
            await do(item)
            if not len(left) % TURN:
                await asyncio.sleep(0)  # many that have nothing to wait for must not keep the loop from others

    def _done(self, _: asyncio.Task[None]) -> None:
        self._free += 1


@asynccontextmanager
async def _joined() -> AsyncIterator[asyncio.TaskGroup]:
    """Open a group of tasks that raises what the first one raised, and no group of errors."""
    first: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except* (MirrordError, TimeoutError) as errors:
        first = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
    if first is not None:  # not raised in `except*`: Python 3.11.2, which is Debian 12's, would wrap it in a group
        raise first from None
