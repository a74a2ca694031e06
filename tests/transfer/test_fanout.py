"""One item, many targets: isolation, and flipping together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mirrord.errors import MissingError, ServerError
from mirrord.model.plan import Action, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.transfer.fanout import Delivery, Gate, fan_out, together

NAMES = ("a", "b", "c")
STEPS = [Step(Action.COPY, "v1", "sha256:x", name, ("v1",), "why") for name in NAMES]


class Targets:
    """Deliver to three targets, each with a gate of its own."""

    def __init__(self) -> None:
        self.whole = {name: asyncio.Event() for name in NAMES}
        self.flipped: list[str] = []
        self.news = asyncio.Event()

    async def deliver(self, delivery: Delivery) -> Receipt:
        name = delivery.step.target
        await self.whole[name].wait()
        await delivery.gate.ready()
        self.flipped.append(name)
        self.news.set()
        return Receipt(delivery.step, Outcome.DONE)


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_each() -> None:
    """Without patience every target flips as soon as it is whole."""
    targets = Targets()
    told: list[Receipt] = []
    running = asyncio.ensure_future(fan_out(STEPS, targets.deliver, 0.0, told.append))
    for name in "bca":
        targets.whole[name].set()
        await settle()
        assert targets.flipped[-1] == name
    await running
    assert [receipt.step.target for receipt in told] == ["b", "c", "a"]


async def test_together() -> None:
    """With patience nobody flips before the last one is whole."""
    targets = Targets()
    told: list[Receipt] = []
    running = asyncio.ensure_future(fan_out(STEPS, targets.deliver, 600.0, told.append))
    for name in "ab":
        targets.whole[name].set()
        await settle()
        assert targets.flipped == []
    targets.whole["c"].set()
    await running
    assert sorted(targets.flipped) == ["a", "b", "c"]


async def test_failures_hold_nobody_up() -> None:
    """A target that fails before it is whole is a receipt, and the others flip without it."""
    targets = Targets()

    async def deliver(delivery: Delivery) -> Receipt:
        if delivery.step.target == "c":
            await targets.whole["c"].wait()
            raise ServerError("boom")
        return await targets.deliver(delivery)

    told: list[Receipt] = []
    running = asyncio.ensure_future(fan_out(STEPS, deliver, 600.0, told.append))
    targets.whole["a"].set()
    targets.whole["b"].set()
    await settle()
    assert targets.flipped == []
    targets.whole["c"].set()
    await running
    assert {receipt.step.target: (receipt.outcome, receipt.code) for receipt in told} == {
        "a": (Outcome.DONE, ""),
        "b": (Outcome.DONE, ""),
        "c": (Outcome.FAILED, "server"),
    }


async def test_a_bug_at_one_target_is_its_own() -> None:
    """What nobody foresaw at one target is that target's failure; the others are delivered."""
    told: list[Receipt] = []

    async def deliver(delivery: Delivery) -> Receipt:
        if delivery.step.target == "a":
            raise KeyError("nobody foresaw this")
        await settle()
        return Receipt(delivery.step, Outcome.DONE)

    await fan_out(STEPS, deliver, 0.0, told.append)
    assert {receipt.step.target: receipt.outcome for receipt in told} == {
        "a": Outcome.FAILED,
        "b": Outcome.DONE,
        "c": Outcome.DONE,
    }


async def test_receipts_are_told_at_once() -> None:
    """A target that is done is told while another still works, so that a run cut short knows of it."""
    targets, told = Targets(), list[Receipt]()
    running = asyncio.ensure_future(fan_out(STEPS, targets.deliver, 0.0, told.append))
    targets.whole["b"].set()
    await settle()
    assert [receipt.step.target for receipt in told] == ["b"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_patience_ends() -> None:
    """When patience ends those that are whole flip, and a late one flips when it is whole, without waiting again."""
    targets = Targets()
    told: list[Receipt] = []
    running = asyncio.ensure_future(fan_out(STEPS, targets.deliver, 0.01, told.append))
    targets.whole["a"].set()
    await targets.news.wait()
    assert targets.flipped == ["a"]
    for name in "bc":
        targets.whole[name].set()
        await settle()
        assert targets.flipped[-1] == name
    await running


async def test_the_clock_stops() -> None:
    """Nothing is left ticking when all have flipped."""
    with Gate(1, 600.0) as gate:
        await gate.ready()
        timer = gate._timer
    assert timer is not None
    assert timer.cancelled()


async def test_all_at_once() -> None:
    """Work that is done together is under way together."""
    order: list[str] = []

    async def work(name: str) -> None:
        order.append(f"{name} begins")
        await asyncio.sleep(0)
        order.append(f"{name} ends")

    await together(work("a"), work("b"))
    assert order == ["a begins", "b begins", "a ends", "b ends"]
    await together()


@pytest.mark.parametrize("error", [MissingError("gone"), TimeoutError()])
async def test_the_first_failure_stops_the_rest(error: Exception) -> None:
    """One failure cancels what is done together, and comes out as it is, also from nested work."""
    stopped: list[str] = []

    async def fail() -> None:
        raise error

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append("hang")

    work: Callable[[], Awaitable[None]] = lambda: together(together(fail(), hang()), hang())  # noqa: E731 - short
    with pytest.raises(type(error)) as caught:
        await work()
    assert caught.value is error
    assert stopped == ["hang", "hang"]
