"""Executes a plan: batches in parallel, exactly one receipt for each active step."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Final

from mirrord.errors import MirrordError
from mirrord.model.plan import Plan, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.syncer.port import OnReceipt, Session

TURN: Final = 64  # items of a list after which the event loop gets a turn
_MANY: Final = 100  # steps; they take some tenths of a millisecond


async def execute(plan: Plan, session: Session, parallel: int, on_receipt: OnReceipt) -> None:
    """Hand each group of the plan to `session`, at most `parallel` at a time, in the plan's order.

    Of several sources the one with the fewest groups running goes first, so a slow one holds only its share.

    `on_receipt` is called once with each receipt, as soon as its step has ended. Cancelling this call cancels
    running steps and raises; earlier receipts remain valid.
    """
    groups = await asyncio.to_thread(lambda: plan.groups)  # of many thousands
    waiting = await asyncio.to_thread(_by_source, groups)
    running = Counter[str]()

    async def work() -> None:
        while waiting:
            source = min(waiting, key=lambda one: (running[one], waiting[one][0][0]))
            _, batch = waiting[source].popleft()
            if not waiting[source]:
                del waiting[source]
            running[source] += 1
            await _batch(session, batch, on_receipt)
            running[source] -= 1
            await asyncio.sleep(0)  # thousands of batches that do not wait must not block the loop

    async with asyncio.TaskGroup() as workers:
        for _ in range(min(parallel, len(groups))):
            workers.create_task(work())


def _by_source(groups: Sequence[Sequence[Step]]) -> dict[str, deque[tuple[int, Sequence[Step]]]]:
    """Return the groups of each source with their numbers in the plan."""
    found: dict[str, deque[tuple[int, Sequence[Step]]]] = {}
    for number, batch in enumerate(groups):
        found.setdefault(batch[0].source, deque()).append((number, batch))
    return found


async def _batch(session: Session, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
    # A batch may have thousands of steps, so each must be found by key.
    left = dict.fromkeys(batch) if len(batch) < _MANY else await asyncio.to_thread(dict.fromkeys, batch)

    def received(receipt: Receipt) -> None:
        del left[receipt.step]
        on_receipt(receipt)

    try:
        await session.execute(batch, received)
    except MirrordError as error:
        await tell((failed(step, error) for step in tuple(left)), received)


async def tell(receipts: Iterable[Receipt], on_receipt: OnReceipt) -> None:
    """Report many receipts without blocking the event loop: a listener may write a line for each."""
    for number, receipt in enumerate(receipts, 1):
        on_receipt(receipt)
        if not number % TURN:
            await asyncio.sleep(0)


def failed(step: Step, error: MirrordError) -> Receipt:
    """Turn a step's error into its receipt."""
    return Receipt(step, Outcome(error.outcome), str(error), error.code)
