"""Every queue of ours when many who wait in it are cancelled at once: no place is lost, nobody is forgotten, no bug."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source import BlobSource
from mirrord.events import Events
from mirrord.keyedlock import KeyedLock
from mirrord.model.digest import Digest
from mirrord.serve.slots import Slots
from mirrord.syncers.git.front.state import WALKS, BlobFiles, GitFront
from mirrord.syncers.helm.transfer.session import Ticket
from mirrord.syncers.image.transfer.tree import Once
from mirrord.transfer.fanout import Gate, together
from mirrord.wire.git.command import Git
from mirrord.wire.http.limiter import HostLimiter
from mirrord.wire.http.pace import RequestClass

Enter = Callable[[], AbstractAsyncContextManager[object]]
CROWD = 60


async def turns(count: int) -> None:
    """Let the loop turn so often."""
    for _ in range(count):
        await asyncio.sleep(0)


def lanes(lane: RequestClass, _: Path) -> tuple[Enter, int]:
    made = HostLimiter(3)
    return lambda: made.slot(lane), {RequestClass.SMALL: 3, RequestClass.DOWN: 2, RequestClass.UP: 1}[lane]


def rooms(folder: Path) -> tuple[Enter, int]:
    """Blobs that each need half of the spool: two at a time."""
    pool, numbers = SpoolPool(folder, 2000, Events(), grace=0.004), iter(range(10_000))

    @contextlib.asynccontextmanager
    async def enter() -> AsyncIterator[None]:
        data = f"{next(numbers):01000}".encode()

        @contextlib.asynccontextmanager
        async def opened(offset: int) -> AsyncIterator[tuple[None, AsyncIterator[bytes]]]:
            async def chunks() -> AsyncIterator[bytes]:
                await asyncio.sleep(0)
                yield data[offset:]

            yield None, chunks()

        async with pool.reader(BlobSource(Digest.of(data), len(data), opened), "t") as reader:
            await reader.whole()
            yield

    return enter, 2


def keyed(_: Path) -> tuple[Enter, int]:
    locks = KeyedLock()
    return lambda: locks.hold("one"), 1


def shared(_: Path) -> tuple[Enter, int]:
    """A lock that is held by everybody at once."""
    locks = KeyedLock()
    return lambda: locks.share("one"), CROWD


def clients(_: Path) -> tuple[Enter, int]:
    """Slots of a server, asked for by a few clients."""
    made, numbers = Slots(3, each=2, waiting=CROWD, patience=60.0), iter(range(10_000))
    return lambda: made.slot(str(next(numbers) % 5)), 3


def walks(_: Path) -> tuple[Enter, int]:
    desk = GitFront(cast("Git", None), cast("BlobFiles", None))
    return desk.walk, WALKS


QUEUES: dict[str, Callable[[Path], tuple[Enter, int]]] = {
    **{f"lane {lane}": partial(lanes, lane) for lane in RequestClass},
    "room in the spool": rooms,
    "keyed lock": keyed,
    "shared lock": shared,
    "place at a server": clients,
    "walk over a history": walks,
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("queue", QUEUES)
async def test_places_survive_mass_cancellation(tmp_path: Path, queue: str, seed: int) -> None:
    """Whoever is cancelled, waiting, just admitted or inside, is cancelled and no more; then all places are free."""
    dice = random.Random(seed)
    enter, places = QUEUES[queue](tmp_path)
    inside = most = 0

    async def visit() -> None:
        nonlocal inside, most
        async with enter():
            inside += 1
            most = max(most, inside)
            try:
                await turns(dice.randrange(4))
            finally:
                inside -= 1

    async with asyncio.timeout(60):
        crowd = [asyncio.create_task(visit()) for _ in range(CROWD)]
        for _ in range(6):
            await turns(dice.randrange(6))
            for task in dice.sample(crowd, CROWD // 6):
                task.cancel()
        for task in crowd if dice.random() < 0.5 else crowd[::-1]:
            task.cancel()
        ends = await asyncio.gather(*crowd, return_exceptions=True)
        assert {type(end) for end in ends} <= {type(None), asyncio.CancelledError}
        assert most <= places
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(places):
                await stack.enter_async_context(enter())


async def test_a_deadline_over_many_requests_is_no_bug() -> None:
    """A group in line at one host that fails or runs out of time raises that, and not what the line made of it."""
    queue, gate = HostLimiter(2), asyncio.Event()

    async def ask() -> None:
        async with queue.slot(RequestClass.SMALL):
            await gate.wait()

    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await together(*(ask() for _ in range(CROWD)))
        async with queue.slot(RequestClass.SMALL), queue.slot(RequestClass.SMALL):
            pass


async def settle(tasks: list[asyncio.Task[Any]], dice: random.Random) -> list[Any]:
    """Cancel about half of the tasks in one breath, at moments drawn by lot, and return how all ended."""
    for _ in range(3):
        await turns(dice.randrange(3))
        for task in dice.sample(tasks, len(tasks) // 5):
            task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("seed", range(5))
async def test_those_who_were_sent_away_come_back(tmp_path: Path, seed: int) -> None:
    """Of targets that wait aside many are cancelled: the others have their turn, and nobody is waited for who left."""
    dice, pool, served = random.Random(seed), SpoolPool(tmp_path, 1000, Events()), 0

    async def target(name: str) -> None:
        nonlocal served
        with pool.uploading(name, "m/"):
            await turns(dice.randrange(5))
            async with pool.defer(name, "m/"):
                await turns(dice.randrange(3))
                served += 1

    async with asyncio.timeout(60):
        ends = await settle([asyncio.create_task(target(f"t{n}")) for n in range(CROWD)], dice)
        assert served >= sum(end is None for end in ends) > 0
        async with pool.defer("last", "m/"):
            pass


@pytest.mark.parametrize("seed", range(5))
async def test_a_line_goes_on_behind_those_who_left_it(seed: int) -> None:
    """In a line of turns whoever is cancelled lets the next one come, in the old order."""
    dice, came, before = random.Random(seed), list[int](), None
    line: list[Ticket] = []
    for _ in range(CROWD):
        before = Ticket(before)
        line.append(before)

    async def visit(number: int) -> None:
        try:
            await line[number].come()
            await turns(dice.randrange(2))
            came.append(number)
        finally:
            line[number].leave()

    async with asyncio.timeout(60):
        tasks = [asyncio.create_task(visit(number)) for number in range(CROWD)]
        await asyncio.sleep(0)
        ends = await settle(tasks, dice)
        assert came == [number for number, end in enumerate(ends) if end is None]
        await Ticket(line[-1]).come()


@pytest.mark.parametrize("seed", range(5))
async def test_shared_work_is_not_lost_with_those_who_waited(seed: int) -> None:
    """When all who wait for one piece of work are cancelled it still ends once, for whoever asks next."""
    dice, once, gate, begun = random.Random(seed), Once(), asyncio.Event(), 0

    async def work() -> str:
        nonlocal begun
        begun += 1
        await gate.wait()
        return "done"

    async with asyncio.timeout(60):
        tasks = [asyncio.create_task(once.do("key", work())) for _ in range(CROWD)]
        await asyncio.sleep(0)
        for task in dice.sample(tasks, CROWD):
            task.cancel()
        assert {type(end) for end in await asyncio.gather(*tasks, return_exceptions=True)} == {asyncio.CancelledError}
        gate.set()
        assert await once.do("key", work()) == "done"
        assert begun == 1
        await once.aclose()


@pytest.mark.parametrize("seed", range(5))
async def test_a_shelf_serves_those_who_stayed(tmp_path: Path, seed: int) -> None:
    """Readers of files on the shelf are cancelled while these are put there: the others get theirs."""
    dice, shelf = random.Random(seed), BlobFiles(tmp_path / "shelf")

    async def read(number: int) -> bytes:
        async def content() -> bytes:
            await turns(dice.randrange(3))
            return b"%d" % (number % 7)

        return (await shelf.file(f"{number % 7}", content)).read_bytes()

    async with asyncio.timeout(60):
        ends = await settle([asyncio.create_task(read(number)) for number in range(CROWD)], dice)
        wrong = [
            end for n, end in enumerate(ends) if not isinstance(end, asyncio.CancelledError) and end != b"%d" % (n % 7)
        ]
        assert not wrong
        assert await asyncio.gather(*map(read, range(7))) == [b"%d" % number for number in range(7)]


async def test_a_gate_waits_for_nobody_who_was_cancelled() -> None:
    """Targets that wait to flip together are cancelled; the last one to be whole flips without them."""
    async with asyncio.timeout(60):
        with Gate(CROWD + 1, 3600.0) as gate:
            waiting = [asyncio.create_task(gate.ready()) for _ in range(CROWD)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            ends = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ends)  # nobody went through before
            await gate.ready()
