"""Logs of what is where over HTTP: bounded, and never half a log that looks like a whole one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mirrord.errors import StorageError
from mirrord.events import AnswerBroken, Event, Events
from mirrord.serve.sync_log import SyncLogs


class SlowView:
    """As much of a view as logs need: waits before its second piece, and can be made to fail."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = asyncio.Semaphore(0)
        self.fails_at, self.closed = 99, 0
        self.events = Events()

    async def sync_log(self, _: Sequence[str]) -> AsyncGenerator[bytes, None]:
        try:
            for number in range(3):
                if number == self.fails_at:
                    raise StorageError("no disk")
                yield f"line {number}\n".encode()
                self.begun.release()
                await self.go.wait()
        finally:
            self.closed += 1

    def services(self) -> Any:
        return SimpleNamespace(events=self.events)


@asynccontextmanager
async def served(slow: SlowView) -> AsyncIterator[aiohttp.ClientSession]:
    view: Any = slow
    app = web.Application()
    for path, handler in SyncLogs(view, patience=0.05).pages().items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server: Any = site._server
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as session:
        yield session
    await runner.cleanup()


async def test_a_client_gets_two_logs_at_a_time() -> None:
    """A third one is refused with the time after which to try again; when one has ended the next is sent."""
    slow = SlowView()
    async with served(slow) as session:
        first, second = await session.get("/log.txt"), await session.get("/log.txt")
        async with session.get("/log.txt") as third:
            assert (third.status, third.headers["Retry-After"]) == (503, "10")
        slow.go.set()
        assert {await answer.text() for answer in (first, second)} == {"line 0\nline 1\nline 2\n"}
        async with session.get("/log.txt") as fourth:
            assert fourth.status == 200
    assert slow.closed == 3


async def test_a_record_that_cannot_be_read() -> None:
    """Before the first line that is an answer of its own; later the connection ends, and an event says why."""
    slow = SlowView()
    heard: list[Event] = []
    slow.events.listen(heard.append)
    slow.go.set()
    async with served(slow) as session:
        slow.fails_at = 0
        async with session.get("/log.txt") as answer:
            assert (answer.status, await answer.text()) == (503, "the record cannot be read\n")
        assert heard == []
        slow.fails_at = 2
        with pytest.raises(aiohttp.ClientPayloadError):
            async with session.get("/log.txt") as answer:
                await answer.read()
    assert heard == [AnswerBroken("/log.txt", "no disk")]


async def test_a_client_that_leaves_ends_its_log() -> None:
    """Nothing is read for a client that has gone, and its place is free."""
    slow = SlowView()
    async with served(slow) as session:
        answer = await session.get("/log.txt")
        await slow.begun.acquire()
        answer.close()
        slow.go.set()
        async with session.get("/log.txt") as other:
            assert await other.text() == "line 0\nline 1\nline 2\n"
    assert slow.closed == 2
