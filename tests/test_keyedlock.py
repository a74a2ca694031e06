"""Locks by key: one holder at a time, in order, whoever is cancelled; and nothing is kept of keys of the past."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from mirrord.keyedlock import KeyedLock


async def test_one_at_a_time_for_each_key() -> None:
    """Holders of one key come one after the other, in the order in which they asked; other keys do not wait."""
    locks, order = KeyedLock(), list[str]()

    async def hold(key: str, name: str) -> None:
        async with locks.hold(key):
            order.append(f"+{name}")
            await asyncio.sleep(0)
            order.append(f"-{name}")

    await asyncio.gather(hold("a", "1"), hold("a", "2"), hold("b", "3"), hold("a", "4"))
    assert [word for word in order if "3" not in word] == ["+1", "-1", "+2", "-2", "+4", "-4"]
    assert order.index("+3") < order.index("-1")


async def test_whoever_is_cancelled_stands_in_nobodys_way() -> None:
    """A holder or a waiter that is cancelled, or fails, passes the turn on, and a key is free when all have left."""
    locks, held, after = KeyedLock(), asyncio.Event(), list[int]()

    async def hold(number: int, *, fail: bool = False) -> None:
        async with locks.hold("a"):
            after.append(number)
            held.set()
            if fail:
                raise KeyError
            await asyncio.Event().wait()

    holder, waiter, other, failing, last = (asyncio.create_task(hold(number, fail=number == 3)) for number in range(5))
    await held.wait()
    assert "a" in locks
    waiter.cancel()
    holder.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await holder
    await asyncio.sleep(0)
    other.cancel()
    with pytest.raises(KeyError):
        await failing
    await asyncio.sleep(0)
    assert (after, "a" in locks) == ([0, 2, 3, 4], True)
    last.cancel()
    await asyncio.wait((waiter, other, last))
    assert ("a" in locks, len(locks)) == (False, 0)


async def test_a_waiter_that_is_given_the_turn_and_cancelled_at_once() -> None:
    """The turn is not lost between two of them."""
    locks, done = KeyedLock(), list[int]()

    async def hold(number: int) -> None:
        async with locks.hold("a"):
            await asyncio.sleep(0)
            done.append(number)

    first, second, third = (asyncio.create_task(hold(number)) for number in range(3))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait((first, second, third), timeout=5)
    assert (done, len(locks)) == ([0, 2], 0)


async def test_memory_is_freed() -> None:
    """Ten thousand keys leave nothing behind."""
    locks = KeyedLock()

    async def hold(number: int) -> int:
        async with locks.hold(number % 5000):
            return len(locks)

    assert max(await asyncio.gather(*map(hold, range(10_000)))) <= 5000
    assert len(locks) == 0


async def test_who_shares_a_lock() -> None:
    """Shares are held together; who holds it alone comes after those before it, and before those behind it."""
    locks, order, go = KeyedLock(), list[str](), asyncio.Event()

    async def share(name: str) -> None:
        async with locks.share("a"):
            order.append(f"+{name}")
            await go.wait()
            order.append(f"-{name}")

    async def hold() -> None:
        async with locks.hold("a"):
            order.append("alone")

    async with asyncio.TaskGroup() as tasks:
        for work in (share("1"), share("2"), hold(), share("3")):
            tasks.create_task(work)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (order, "a" in locks) == (["+1", "+2"], True)
        go.set()
    assert order == ["+1", "+2", "-1", "-2", "alone", "+3", "-3"]
    assert len(locks) == 0


async def test_who_is_cancelled_gives_a_share_back() -> None:
    """Whether it holds the share, waits for it, or waits for those of others."""
    locks, done = KeyedLock(), list[str]()

    async def share() -> None:
        async with locks.share("a"):
            await asyncio.Event().wait()

    async def hold(name: str) -> None:
        async with locks.hold("a"):
            done.append(name)

    first, alone, behind, last = map(asyncio.create_task, (share(), hold("alone"), share(), hold("last")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    alone.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    behind.cancel()
    await asyncio.sleep(0)
    assert done == []
    first.cancel()
    await asyncio.wait((first, alone, behind, last), timeout=5)
    assert (done, len(locks)) == (["last"], 0)
