"""Workers: as many as were said, however much there is to do and however deep it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest

from mirrord.errors import ContentError, MirrordError
from mirrord.transfer.execute import TURN
from mirrord.transfer.fanout import Workers


class Counted:
    """Counts how many pieces of work are under way."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.begun: list[object] = []
        self.ended: list[object] = []

    async def do(self, item: object) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun.append(item)
        for _ in range(3):
            await asyncio.sleep(0)
        self.now -= 1
        self.ended.append(item)


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(500):
        await asyncio.sleep(0)


@pytest.mark.parametrize("most", [1, 3, 16])
async def test_all_is_done_by_so_many(most: int) -> None:
    """Every piece once, begun in its order, and never more of them at once."""
    counted = Counted()
    await Workers(most).each(range(100), counted.do)
    assert counted.begun == list(range(100))
    assert sorted(map(str, counted.ended)) == sorted(map(str, range(100)))
    assert counted.most == most


async def test_there_is_no_task_for_each() -> None:
    """A list of a hundred thousand makes as many tasks as there are workers."""
    tasks: set[int] = set()

    async def do(_: int) -> None:
        tasks.add(len(asyncio.all_tasks()))
        if len(tasks) < 5:
            await asyncio.sleep(0)

    await Workers(4).each(range(100_000), do)
    assert max(tasks) <= 5


Tree = Sequence["int | Tree"]


@pytest.mark.parametrize("most", [1, 2, 5])
async def test_work_that_has_work_inside(most: int) -> None:
    """Parts of parts are done by the same few workers; that they wait for one another never stops them."""
    counted, workers = Counted(), Workers(most)

    async def do(item: int | Tree) -> None:
        if isinstance(item, int):
            await counted.do(item)
        else:
            await workers.each(item, do)

    tree: Tree = [[[[depth * 100 + leaf for leaf in range(7)] for depth in range(5)], 999], [[[[[1000]]]]], 1001]
    await do(tree)
    assert len(counted.ended) == 38
    assert counted.most == most


async def test_who_is_free_again_helps() -> None:
    """A long piece holds up one worker only: those of other work that has ended take what is left."""
    counted, workers, hold = Counted(), Workers(3), asyncio.Event()

    async def do(item: int) -> None:
        if item == 0:
            await hold.wait()
        await counted.do(item)

    async def short(_: int) -> None:
        await asyncio.sleep(0)

    both = asyncio.gather(workers.each(range(50), do), workers.each(range(10), short))
    await settle()
    assert len(counted.ended) == 49
    hold.set()
    await both
    assert counted.ended[-1] == 0
    assert counted.most >= 2


async def test_a_failure_stops_the_others() -> None:
    """What the first one raised comes out as it was, what had begun is cancelled, and the rest is never begun."""
    begun: list[int] = []
    cancelled: list[int] = []
    workers = Workers(4)

    async def do(item: int) -> None:
        begun.append(item)
        if item == 3:
            raise ContentError("third")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    with pytest.raises(MirrordError, match="third"):
        await workers.each(range(100), do)
    assert begun == [0, 1, 2, 3]
    assert sorted(cancelled) == [0, 1, 2]
    counted = Counted()
    await workers.each(range(8), counted.do)  # and all are free again
    assert counted.most == 4


async def test_cancelled_from_outside() -> None:
    """Whoever stops waiting stops all of it."""
    begun: list[int] = []

    async def do(item: int) -> None:
        begun.append(item)
        await asyncio.Event().wait()

    task = asyncio.create_task(Workers(4).each(range(100), do))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(begun) == 4


async def test_much_that_waits_for_nothing_leaves_the_loop_to_others() -> None:
    """While thousands of items are done that have nothing to wait for, others get their turn every few of them."""
    done, seen = list[int](), list[int]()

    async def do(item: int) -> None:
        done.append(item)

    running = asyncio.ensure_future(Workers(4).each(range(1000), do))
    while not running.done():
        seen.append(len(done))
        await asyncio.sleep(0)
    assert max(after - before for before, after in pairwise(seen)) <= 4 * TURN
    assert len(done) == 1000
