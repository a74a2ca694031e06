"""A way to a server on loopback that can be closed, or hang: what proxies between machines do."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class Gate:
    """Carries connections to a port of 127.0.0.1; an async context manager.

    Attributes:
        port: its own.
        carried: connections so far.
        silent: whether nothing is carried, and no connection ends.
        last: what is the last that a client says: it still gets there, and the connection ends without an answer; once.
    """

    def __init__(self, to: int) -> None:
        self.port, self._to = 0, to
        self.carried = 0
        self.silent = False
        self.last = b""
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.Event] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all connections."""
        self._server.close()
        for ended in self._ends:
            ended.set()
        await asyncio.gather(*self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.carried += 1
        there, out = await asyncio.open_connection("127.0.0.1", self._to)
        ended, muted = asyncio.Event(), asyncio.Event()
        self._ends.add(ended)
        tasks = [asyncio.ensure_future(self._pass(*pair, ended, muted)) for pair in ((reader, out), (there, writer))]
        try:
            await ended.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._ends.discard(ended)
            for end in (out, writer):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ended: asyncio.Event, muted: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.silent or muted.is_set():
                    continue
                if last := self.last and self.last in data:
                    self.last = b""
                    muted.set()  # the other way
                writer.write(data)
                await writer.drain()
                if last:
                    await asyncio.sleep(0.2)  # the other end carries it out
                    break
        ended.set()
