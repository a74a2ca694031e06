"""A real daemon in a child process, with a syncer that is installed as others are."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mirrord.testing.running import started

PLUGIN = Path(__file__).parent / "plugin"
HURRIED = """
import sys
from pathlib import Path
from mirrord.daemon.loop import run
from mirrord.daemon.main import serve
sys.exit(run(serve(Path(sys.argv[3]), Path(sys.argv[5]), None, stop_timeout=1.0)))
"""  # the command line waits longer for runs at the end than a test wants to


class Daemon:
    """A child process; `notes` is what systemd would have heard, `lines` its log."""

    def __init__(self, state: Path, notify: socket.socket) -> None:
        self.state = state
        self.notes: list[str] = []
        self.lines: list[dict[str, Any]] = []
        self.port = 0
        self.process: asyncio.subprocess.Process
        self._notify = notify
        self._news = asyncio.Event()

    async def until(self, truth: Callable[[], object]) -> None:
        """Wait until something that the daemon says makes `truth` true."""
        async with asyncio.timeout(60):
            while not truth():
                await self._news.wait()
                self._news.clear()

    async def logged(self, event: str, count: int = 1) -> dict[str, Any]:
        """Wait for the `count`th log line of that name."""
        await self.until(lambda: len(self.named(event)) >= count)
        return self.named(event)[count - 1]

    def named(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    async def noted(self, text: str, count: int = 1) -> None:
        await self.until(lambda: sum(text in note for note in self.notes) >= count)

    async def get(self, path: str) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
            return int(head.split()[1]), body
        finally:
            writer.close()

    async def mirror(self, name: str) -> dict[str, Any]:
        document = json.loads((await self.get("/status"))[1])
        return next(entry for entry in document["mirrors"] if entry["name"] == name)

    def kill(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def end(self) -> int:
        return await asyncio.wait_for(self.process.wait(), 60)

    async def hear(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self.notes.append((await loop.sock_recv(self._notify, 4096)).decode())
            self._news.set()

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(json.loads(line))
            self._news.set()


class Place:
    """Folders of one test: configuration, sources, targets, state."""

    def __init__(self, root: Path) -> None:
        self.root, self.conf, self.state = root, root / "conf.d", root / "state"
        self.conf.mkdir()

    def source(self, name: str, *files: str) -> Path:
        folder = self.root / f"from-{name}"
        folder.mkdir(exist_ok=True)
        for file in files:
            (folder / file).write_text(file)
        return folder

    def configure(self, *names: str, extra: str = "") -> None:
        """Write a configuration with these mirrors, each with two targets of its own."""
        lines = ["settings: {listen: '127.0.0.1:0'}", "targets:"]
        for name in names:
            for side in "ab":
                folder = self.root / f"to-{name}-{side}"
                folder.mkdir(exist_ok=True)
                lines.append(f"  {name}-{side}: {{kind: fake, to: {folder}}}")
        lines.append("mirrors:")
        for name in names:
            source = self.source(name)
            lines.append(f"  - {{name: {name}, kind: fake, from: {source}, to: [{name}-a, {name}-b]{extra}}}")
        (self.conf / "a.yaml").write_text("\n".join(lines))

    @asynccontextmanager
    async def daemon(self, *, hurried: bool = False, **environ: str) -> AsyncIterator[Daemon]:
        """Start a daemon, wait until it is ready, and see to it that it is gone at the end."""
        async with self.starting(hurried=hurried, **environ) as daemon:
            daemon.port = int((await daemon.logged("daemon.ready"))["address"].rpartition(":")[2])
            await daemon.noted("READY=1")
            yield daemon

    @asynccontextmanager
    async def starting(self, *, hurried: bool = False, **environ: str) -> AsyncIterator[Daemon]:
        address = f"\0mirrord-test-{os.getpid()}-{id(self)}-{os.urandom(4).hex()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(address)
            notify.setblocking(False)
            daemon = Daemon(self.state, notify)
            more = {"PYTHONPATH": str(PLUGIN), "NOTIFY_SOCKET": "@" + address[1:], "HOME": str(self.root)}
            program = (sys.executable, *(("-c", HURRIED) if hurried else ("-m", "mirrord")))
            words = ("serve", "-c", self.conf, "--state", self.state)
            pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
            async with started(*program, *words, env=os.environ | more | environ, **pipes) as daemon.process:
                tasks = [asyncio.create_task(daemon.hear()), asyncio.create_task(daemon.read())]
                try:
                    yield daemon
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
