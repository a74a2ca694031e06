"""Runs a plan: batches in parallel, one receipt for each active step, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from mirrord.errors import MirrordError
from mirrord.model import Outcome, Plan, Receipt, Step
from mirrord.syncer import Session


async def execute(plan: Plan, session: Session, parallel: int, tell: Callable[[Receipt], None]) -> tuple[Receipt, ...]:
    """Hand each group of the plan to `session`, at most `parallel` at a time, in the plan's order.

    `tell` hears of each receipt as soon as its batch has ended. Cancelling this call cancels
    what runs and raises; receipts told until then stand.
    """
    receipts: list[Receipt] = []
    batches = iter(plan.groups)

    async def work() -> None:
        for batch in batches:
            for receipt in await _batch(session, batch):
                receipts.append(receipt)
                tell(receipt)

    async with asyncio.TaskGroup() as workers:
        for _ in range(min(parallel, len(plan.groups))):
            workers.create_task(work())
    return tuple(receipts)


async def _batch(session: Session, batch: Sequence[Step]) -> Sequence[Receipt]:
    try:
        return await session.execute(batch)
    except MirrordError as error:
        return tuple(failed(step, error) for step in batch)


def failed(step: Step, error: MirrordError) -> Receipt:
    """Turn what befell a step into its receipt."""
    refused = error.code in {"immutable", "guard", "unsupported", "untrusted"}
    return Receipt(step, Outcome.REFUSED if refused else Outcome.FAILED, str(error), error.code)
