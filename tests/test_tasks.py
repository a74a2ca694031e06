"""Tasks that work ahead: in order, so many at once, and none is left."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from mirrord.errors import StorageError
from mirrord.tasks import ahead


async def read(number: int) -> int:
    """Fail for every third."""
    await asyncio.sleep(0)
    if number % 3 == 2:
        raise StorageError(f"no {number}")
    return number


async def test_each_comes_at_its_turn() -> None:
    """Results and errors come in the order of the items, whichever ends first."""
    found = list[int | str]()
    async with aclosing(ahead(range(7), read, 3)) as all_of_them:
        async for _, reading in all_of_them:
            try:
                found.append(await reading)
            except StorageError as error:
                found.append(str(error))
    assert found == [0, 1, "no 2", 3, 4, "no 5", 6]


@pytest.mark.parametrize("most", [1, 4])
async def test_so_many_at_once(most: int) -> None:
    """No more are under way, or wait to be used, than are asked for; who stops early leaves none."""
    begun, left, gates = list[int](), set[int](), [asyncio.Event() for _ in range(100)]

    async def wait(number: int) -> None:
        begun.append(number)
        try:
            await gates[number].wait()
        finally:
            await asyncio.sleep(0)
            left.add(number)

    async with aclosing(ahead(range(100), wait, most)) as all_of_them:
        async for number, waiting in all_of_them:
            for _ in range(5):
                await asyncio.sleep(0)
            assert begun == list(range(number + most))
            if number == 2:
                break
            gates[number].set()
            await waiting
    assert left == set(range(2 + most))
