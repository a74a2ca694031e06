"""Running a plan: every active step gets one receipt, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from mirrord.errors import (
    DeniedError,
    GuardError,
    ImmutableError,
    MirrordError,
    MissingError,
    RefusedError,
    ServerError,
    ThrottledError,
    UnsupportedError,
    UntrustedError,
)
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.syncer.port import OnReceipt
from mirrord.transfer.execute import TURN, execute, failed

NOW = datetime(2024, 5, 17, 12, tzinfo=UTC)


def step(item: str, target: str = "t", action: Action = Action.COPY) -> Step:
    return Step(action, item, "sha256:x", target, (item,), "why", group=item)


def plan(*steps: Step) -> Plan:
    return Plan("m", "fake", NOW, steps)


class Session:
    """A syncer's session: works as it is told, and remembers what it was handed."""

    read = 0

    def __init__(self, act: Callable[[Sequence[Step]], None] = lambda _: None) -> None:
        self.batches: list[tuple[str, ...]] = []
        self.running = self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._act = act

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        self.batches.append(tuple(f"{one.item}@{one.target}" for one in batch))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
            self._act(batch)
            for one in batch:
                on_receipt(Receipt(one, Outcome.DONE))
        finally:
            self.running -= 1


async def test_batches_in_order() -> None:
    """Steps of one group go together, in the plan's order; steps without anything to do are left out."""
    session, told = Session(), list[Receipt]()
    kept = step("v0", action=Action.KEEP)
    await execute(plan(kept, step("v1", "a"), step("v2"), step("v1", "b")), session, 1, told.append)
    assert session.batches == [("v1@a", "v1@b"), ("v2@t",)]
    assert {(receipt.step.item, receipt.step.target) for receipt in told} == {("v1", "a"), ("v1", "b"), ("v2", "t")}


@pytest.mark.parametrize("parallel", [1, 3, 50])
async def test_at_most_so_many_at_once(parallel: int) -> None:
    """No more groups are under way than was said, and all get done."""
    session = Session()
    told: list[Receipt] = []
    await execute(plan(*(step(f"v{n}") for n in range(10))), session, parallel, told.append)
    assert len(told) == 10
    assert session.most == min(parallel, 10)


class HangingSession(Session):
    """Hangs with what is from `slow`; notes with each group of another source how many of those hang."""

    def __init__(self, others: int) -> None:
        super().__init__()
        self.hanging, self.seen, self.others = 0, list[int](), others

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        if batch[0].source == "slow":
            self.hanging += 1
            await self.gate.wait()
        else:
            self.seen.append(self.hanging)
            await asyncio.sleep(0)
            if len(self.seen) == self.others:
                self.gate.set()
        on_receipt(Receipt(batch[0], Outcome.DONE))


@pytest.mark.parametrize("slow", [1, 3])
async def test_a_slow_source_holds_only_its_share(slow: int) -> None:
    """While one of two sources hangs it has half of the workers, and all groups of the other one end."""
    session, told = HangingSession(others=20), list[Receipt]()
    session.gate.clear()
    sources = ["slow"] * slow + ["fast"]
    steps = (replace(step(f"v{n}-{place}"), source=source) for n in range(20) for place, source in enumerate(sources))
    async with asyncio.timeout(10):
        await execute(plan(*steps), session, 4, told.append)
    assert max(session.seen) == 2
    assert len(told) == 20 * (slow + 1)


async def test_nothing_to_do() -> None:
    """An empty plan needs no session at all."""
    told: list[Receipt] = []
    await execute(plan(), Session(), 4, told.append)
    assert told == []


async def test_a_batch_that_cannot_be_done() -> None:
    """An error of a whole batch becomes a receipt for each of its steps, and the other batches go on."""

    def act(batch: Sequence[Step]) -> None:
        if batch[0].item == "v1":
            raise MissingError("gone")

    receipts: list[Receipt] = []
    await execute(plan(step("v1", "a"), step("v1", "b"), step("v2")), Session(act), 1, receipts.append)
    assert [(one.step.item, one.outcome, one.code, one.detail) for one in receipts] == [
        ("v1", Outcome.REFUSED, "missing", "gone"),
        ("v1", Outcome.REFUSED, "missing", "gone"),
        ("v2", Outcome.DONE, "", ""),
    ]


async def test_cancelling_keeps_what_was_told() -> None:
    """Cancelling stops what runs and starts nothing more; receipts that were told stand."""
    session, told = Session(), list[Receipt]()
    running = asyncio.ensure_future(execute(plan(*(step(f"v{n}") for n in range(4))), session, 1, told.append))
    while not told:  # noqa: ASYNC110 - a list has no event
        await asyncio.sleep(0)
    session.gate.clear()
    while len(session.batches) < len(told) + 1:  # noqa: ASYNC110 - a list has no event
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert 1 <= len(told) < 4
    assert (session.running, len(session.batches)) == (0, len(told) + 1)


async def test_a_bug_is_not_hidden() -> None:
    """What no syncer may raise ends the run."""

    def act(batch: Sequence[Step]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        await execute(plan(step("v1")), Session(act), 1, lambda _: None)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ImmutableError("no", 400), Outcome.REFUSED),
        (GuardError("no"), Outcome.REFUSED),
        (UnsupportedError("no"), Outcome.REFUSED),
        (UntrustedError("no", "realm"), Outcome.REFUSED),
        (RefusedError("no", 422), Outcome.REFUSED),
        (DeniedError("no", 403), Outcome.REFUSED),
        (MissingError("no", 404), Outcome.REFUSED),
        (ThrottledError("no"), Outcome.FAILED),
        (ServerError("no"), Outcome.FAILED),
        (MirrordError("no"), Outcome.FAILED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_refused_or_failed(error: MirrordError, outcome: Outcome) -> None:
    """What a rule forbids, or the other side with a 4xx, is refused, everything else failed; text and code are kept."""
    receipt = failed(step("v1"), error)
    assert (receipt.outcome, receipt.code, receipt.detail) == (outcome, error.code, "no")


async def test_batches_without_anything_to_wait_for_leave_the_loop_to_others() -> None:
    """Between two batches others get their turn, also when a batch ends without waiting for anything."""

    class Swift(Session):
        async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
            self.batches.append((batch[0].item,))
            on_receipt(Receipt(batch[0], Outcome.DONE))

    session, seen = Swift(), list[int]()
    running = asyncio.ensure_future(execute(plan(*(step(f"v{n}") for n in range(50))), session, 1, lambda _: None))
    while not running.done():
        seen.append(len(session.batches))
        await asyncio.sleep(0)
    assert {1, 25, 49} <= set(seen)


async def test_receipts_of_a_large_batch_leave_the_loop_to_others() -> None:
    """When thousands of steps fail together, others get their turn between a few of their receipts."""

    def act(_: Sequence[Step]) -> None:
        raise MissingError("gone")

    told, seen, count = list[Receipt](), [0], TURN * 20 + 1
    steps = [Step(Action.COPY, f"v{n}", "sha256:x", "t", (f"v{n}",), "why", group="one") for n in range(count)]
    running = asyncio.ensure_future(execute(plan(*steps), Session(act), 1, told.append))
    while not running.done():
        await asyncio.sleep(0)
        seen.append(len(told))
    assert len(told) == count
    assert max(later - earlier for earlier, later in pairwise(seen)) <= TURN
