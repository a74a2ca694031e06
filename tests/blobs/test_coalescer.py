"""Small pieces are handed on together, and none is lost or late."""

from __future__ import annotations

import asyncio

import pytest

from mirrord.blobs.coalescer import Coalescer
from mirrord.errors import BrokenError

NEVER = 3600.0


async def test_pieces_are_joined_up_to_the_size() -> None:
    """What is handed on has the size or more, a large piece goes as it is, and the rest comes at the end."""
    taken: list[bytes] = []
    large = b"0123456789"
    async with Coalescer(taken.append, 4, NEVER) as gathered:
        for piece in (b"a", b"bc", b"def", large, b"g"):
            gathered.add(piece)
        assert taken == [b"abcdef", large]
        assert taken[1] is large
    assert taken == [b"abcdef", large, b"g"]


async def test_a_source_that_pauses_does_not_hold_back_what_came() -> None:
    """A piece is handed on when its time is over, though no other follows."""
    taken = asyncio.Queue[bytes]()
    async with Coalescer(taken.put_nowait, 100, 0.0) as gathered:
        gathered.add(b"a")
        assert taken.empty()
        assert await asyncio.wait_for(taken.get(), 10) == b"a"
        gathered.add(b"b")
        assert await asyncio.wait_for(taken.get(), 10) == b"b"
    assert taken.empty()


async def test_what_came_before_a_break_is_kept() -> None:
    """A connection that breaks takes nothing away: the source is asked only for what did not come."""
    taken: list[bytes] = []

    async def broken() -> None:
        async with Coalescer(taken.append, 100, NEVER) as gathered:
            gathered.add(b"a")
            raise BrokenError("gone")

    with pytest.raises(BrokenError):
        await broken()
    assert taken == [b"a"]


@pytest.mark.parametrize("how", ["next", "end"])
async def test_an_error_of_the_timer_comes_out(how: str) -> None:
    """A full disk that the timer met is told to whoever comes next, and not swallowed."""
    met = asyncio.Event()

    def take(_: bytes) -> None:
        met.set()
        raise OSError(28, "No space left on device")

    async def full() -> None:
        async with Coalescer(take, 100, 0.0) as gathered:
            gathered.add(b"a")
            await asyncio.wait_for(met.wait(), 10)
            if how == "next":
                gathered.add(b"b")
                pytest.fail("went on")

    with pytest.raises(OSError, match="No space"):
        await full()


async def test_being_cancelled_is_not_turned_into_something_else() -> None:
    """What the rest would raise does not take the place of a cancellation: the reader would begin anew."""
    began = asyncio.Event()

    def take(_: bytes) -> None:
        raise BrokenError("wrong bytes")

    async def waiting() -> None:
        async with Coalescer(take, 100, NEVER) as gathered:
            gathered.add(b"a")
            began.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(waiting())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
