"""Many streams at once leave turns of the event loop to others: what is written in one turn is bounded."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mirrord.serve.turns import MOST, TurnBudget
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import Services
from tests.support.frontserver import listening

PIECE = bytes(256 << 10)
CLIENTS = 3 * MOST // len(PIECE)
NOBODY: Any = None


class Waiting:
    """Streams one piece to each client, to all when the last one waits for it."""

    prefixes = ("/waiting/",)

    def __init__(self) -> None:
        self.waiting, self.came = 0, asyncio.Event()

    async def respond(self, asked: Request, services: Services) -> Response:
        return Response(200, {"Content-Type": "x/y"}, self.pieces)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        self.waiting += 1
        if self.waiting == CLIENTS:
            self.came.set()
        await self.came.wait()
        yield PIECE


class Turns:
    """Counts turns of the event loop."""

    def __init__(self) -> None:
        self.now = 0
        self._next()

    def _next(self) -> None:
        self.now += 1
        self._handle = asyncio.get_running_loop().call_soon(self._next)

    def stop(self) -> None:
        self._handle.cancel()


async def test_what_one_turn_writes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """All clients are woken by the same bytes, and get them in several turns, in which others are served."""
    turns, written, real = Turns(), Counter[int](), web.StreamResponse.write

    async def counted(answer: web.StreamResponse, data: bytes) -> None:
        written[turns.now] += len(data)
        await real(answer, data)

    monkeypatch.setattr(web.StreamResponse, "write", counted)
    connector = aiohttp.TCPConnector(limit=0)
    async with listening(NOBODY, Waiting()) as (host, port), aiohttp.ClientSession(connector=connector) as session:

        async def got() -> int:
            async with session.get(f"http://{host}:{port}/waiting/x") as answer:
                return len(await answer.read())

        assert await asyncio.gather(*(got() for _ in range(CLIENTS))) == [len(PIECE)] * CLIENTS
    turns.stop()
    assert sum(written.values()) == CLIENTS * len(PIECE)
    assert max(written.values()) <= 2 * MOST  # a count of ours may hold the end of a turn and the begin of the next


async def test_first_come_first_served() -> None:
    """Each turn has the next ones in line; whoever left takes nothing, and more than a turn's bytes come, too."""
    turns, budget, done = Turns(), TurnBudget(10), dict[str, int]()

    async def takes(name: str, count: int) -> None:
        await budget.take(count)
        done[name] = turns.now

    first = [asyncio.create_task(takes(name, 5)) for name in "abcdef"]
    await asyncio.sleep(0)
    first[3].cancel()
    await asyncio.gather(*first, takes("large", 100), takes("last", 1), return_exceptions=True)
    turns.stop()
    assert list(done) == ["a", "b", "c", "e", "f", "large", "last"]
    assert done["a"] == done["b"] < done["c"] == done["e"] < done["f"] == done["large"] < done["last"]
