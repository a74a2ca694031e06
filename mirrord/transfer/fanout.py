"""One item, many targets: independent of each other, and published together where configured."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self, TypeVar

from mirrord.errors import MirrordError
from mirrord.model.plan import Step
from mirrord.model.run import Receipt
from mirrord.syncer.port import OnReceipt
from mirrord.tasks import joined
from mirrord.transfer.execute import TURN, failed
from mirrord.wire.secret import bug

_Item = TypeVar("_Item")


class Gate:
    """Where targets wait for each other before they set their names (`publish: together`).

    It opens when every target of the item is complete or has failed, or `patience` seconds after the first one
    was complete. Then complete targets set their names, and slower ones as soon as they are complete.
    """

    def __init__(self, parties: int, patience: float) -> None:
        """Expect `parties` targets; a patience of 0 disables waiting (`publish: each`)."""
        self._missing = parties
        self._patience = patience
        self._open = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def ready(self) -> None:
        """Note that a target is complete, and wait until it may set its names."""
        if self._patience <= 0:
            return
        self._timer = self._timer or asyncio.get_running_loop().call_later(self._patience, self._open.set)
        self.leave()
        await self._open.wait()

    def leave(self) -> None:
        """Note that one target need not be waited for."""
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
    """One running step, as its target's deliverer sees it."""

    step: Step
    gate: Gate
    on_receipt: OnReceipt
    began: float = field(default_factory=time.monotonic)

    def tell(self, receipt: Receipt) -> None:
        """Report how it ended and how long it took."""
        self.on_receipt(replace(receipt, seconds=time.monotonic() - self.began))


Deliver = Callable[[Delivery], Awaitable[Receipt | None]]
"""Delivers one step. It returns the receipt, or None to report it later by `Delivery.tell`."""


async def fan_out(batch: Sequence[Step], deliver: Deliver, patience: float, on_receipt: OnReceipt) -> None:
    """Deliver one item to all targets of `batch` at once, and report each receipt; targets fail independently."""
    with Gate(len(batch), patience) as gate:
        async with asyncio.TaskGroup() as group:
            for step in batch:
                group.create_task(_one(Delivery(step, gate, on_receipt), deliver))


async def _one(delivery: Delivery, deliver: Deliver) -> None:
    try:
        receipt = await deliver(delivery)
    except Exception as error:  # noqa: BLE001 - a bug at one target fails that target only
        delivery.gate.leave()  # no other target waits for it; no effect behind the gate
        receipt = failed(delivery.step, deliberate(error))
    if receipt is not None:
        delivery.tell(receipt)


def deliberate(error: Exception) -> MirrordError:
    """Return an error as a MirrordError: any other exception is reported as a bug."""
    return error if isinstance(error, MirrordError) else MirrordError(bug(error))


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Run all at once; when one fails, cancel the others and raise its error.

    For numbers set by the operator. Lists from other hosts are for `Workers`.
    """
    async with joined() as group:
        for work in works:
            group.create_task(work)


class Workers:
    """A number of workers for nested work, such as the manifests in nested indexes.

    A caller does its own work with the help of free workers. Nothing waits for a worker, so nested work cannot
    deadlock.
    """

    def __init__(self, most: int) -> None:
        """Begin with the caller of `each` busy and the others free."""
        self._free = most - 1

    async def each(self, items: Iterable[_Item], do: Callable[[_Item], Awaitable[None]]) -> None:
        """Process all items in their order; when one fails, cancel the others and raise its error."""
        left = deque(items)
        async with joined() as group:
            await self._work(group, left, do)

    async def _work(self, group: asyncio.TaskGroup, left: deque[_Item], do: Callable[[_Item], Awaitable[None]]) -> None:
        while left:
            item = left.popleft()
            if left and self._free > 0:
                self._free -= 1
                group.create_task(self._work(group, left, do)).add_done_callback(self._done)
            await do(item)
            if not len(left) % TURN:
                await asyncio.sleep(0)  # many items that do not wait must not block the loop

    def _done(self, _: asyncio.Task[None]) -> None:
        self._free += 1
