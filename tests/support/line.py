"""A line of so many bytes a second to a server on loopback: what the network is in life. All connections share it.

    python -m tests.support.line HOST:PORT BYTES_A_SECOND

Prints its own HOST:PORT, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator

PIECE = 64 * 1024


class Line:
    """Carries connections to `host`; what goes through takes its time, each way on its own."""

    def __init__(self, host: str, rate: float) -> None:
        """Let `rate` bytes a second through, each way."""
        self._host, _, port = host.rpartition(":")
        self._port, self._rate = int(port), rate
        self._free = {"up": 0.0, "down": 0.0}

    async def carry(self, down: asyncio.StreamReader, up: asyncio.StreamWriter) -> None:
        """Carry one connection until both sides have ended it."""
        there, to_there = await asyncio.open_connection(self._host, self._port)
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pass(down, to_there, "up"), self._pass(there, up, "down"))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        try:
            while piece := await reader.read(PIECE):
                await self._turn(len(piece), way)
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()

    async def _turn(self, count: int, way: str) -> None:
        """Wait until the line has carried what was there before."""
        now = asyncio.get_running_loop().time()
        self._free[way] = max(now, self._free[way]) + count / self._rate
        await asyncio.sleep(self._free[way] - now)


@contextlib.asynccontextmanager
async def line(host: str, rate: float) -> AsyncIterator[str]:
    """Run a line in a process of its own, at the same address; yields where it begins."""
    argv = [sys.executable, "-m", "tests.support.line", host, str(rate)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220 - once
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield (await asyncio.to_thread(process.stdout.readline)).strip()
        finally:
            process.stdin.close()


async def main() -> None:
    """Listen until standard input ends."""
    host, rate = sys.argv[1:]
    server = await asyncio.start_server(Line(host, float(rate)).carry, host.rpartition(":")[0], 0)
    sys.stdout.write("{}:{}\n".format(*server.sockets[0].getsockname()))
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
