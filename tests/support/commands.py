"""The program as a child process, as a user would start it: own home, own temporary folder, no docker configuration."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mirrord.commands import Command
from mirrord.config.load import load_folder
from mirrord.daemon.dispatcher import Dispatcher
from mirrord.daemon.lock import StateLock
from mirrord.daemon.runtime import Runtime, open_runtime
from mirrord.errors import BrokenError, StalledError
from mirrord.events import Events
from mirrord.syncer.port import load_syncers
from mirrord.testing.running import started
from tests.support.forking import forkable, run_fork

PATIENCE = 60.0  # seconds
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)


@dataclass(slots=True, eq=False)
class Served:
    """A daemon that is ready.

    Attributes:
        process: the child.
        address: `host:port` of its public side.
        lines: its log so far.
    """

    process: asyncio.subprocess.Process
    address: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def logged(self, event: str, count: int = 1) -> dict[str, Any]:
        """Wait for the `count`th log line of that name."""
        async with asyncio.timeout(PATIENCE):
            while len(found := [line for line in self.lines if line["event"] == event]) < count:
                await self._news.wait()
                self._news.clear()
        return found[count - 1]

    async def listen(self) -> None:
        """Read the log to its end."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(json.loads(line))
            self._news.set()


class Desk:
    """A folder to work in; `environ` is all that children get besides the search path."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        for place in (folder / "home", self.temporary):
            place.mkdir(exist_ok=True)
        self.environ: dict[str, str] = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder / "home"),
            "TMPDIR": str(self.temporary),
            "LANG": "C.UTF-8",
            **environ,
        }

    def configure(self, text: str, name: str = "a.yaml") -> Path:
        """Write a file into `conf.d`; returns it."""
        file = self.folder / "conf.d" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    async def run(self, *arguments: str | Path, **environ: str) -> Said:
        """Run one command to its end.

        Raises:
            StalledError: it took longer than `PATIENCE`, and was killed.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._ended(list(map(str, arguments)), self._with(environ))
        except TimeoutError as error:
            raise StalledError(f"mirrord {' '.join(map(str, arguments))} did not end in {PATIENCE:g} s") from error

    async def _ended(self, words: list[str], environ: Mapping[str, str]) -> Said:
        if forkable(environ):
            status, out, err = await run_fork(words, self.folder, environ)
        else:
            async with self.started(*words, **environ) as process:
                out, err = await process.communicate()
                status = process.returncode or 0
        return Said(status, out.decode(), err.decode())

    @asynccontextmanager
    async def started(
        self, *arguments: str | Path, module: str = "mirrord", **environ: str
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start a command, of what stands for the program in `module`; it is killed when the context ends."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = (sys.executable, "-m", module, *arguments)
        async with started(*command, **streams, cwd=self.folder, env=self._with(environ)) as process:
            yield process

    @asynccontextmanager
    async def serving(self, *arguments: str | Path, module: str = "mirrord", **environ: str) -> AsyncIterator[Served]:
        """Start the daemon and wait until it is ready.

        Raises:
            BrokenError: it ended instead; says what it said.
        """
        async with self.started("serve", *arguments, module=module, **environ) as process:
            served = Served(process, "")
            ear = asyncio.create_task(served.listen())
            ready = asyncio.create_task(served.logged("daemon.ready"))
            try:
                await asyncio.wait([ear, ready], return_when=asyncio.FIRST_COMPLETED)
                if not ready.done():
                    assert process.stderr is not None
                    raise BrokenError(f"the daemon ended at once: {(await process.stderr.read()).decode()}")
                served.address = str((await ready)["address"])
                yield served
            finally:
                if process.returncode is None:
                    process.kill()
                ready.cancel()
                await asyncio.gather(ear, ready, return_exceptions=True)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Runtime]:
        """Open `conf.d` and the state as a command does, in this process: it takes a tenth of the time of a child."""
        syncers, state = load_syncers(), self.folder / "state"
        configuration = await asyncio.to_thread(load_folder, self.folder / "conf.d", syncers, {})
        with StateLock(state):
            async with open_runtime(configuration, syncers, state, Events()) as runtime:
                yield runtime

    async def carry_out(self, command: Command[_Answer]) -> _Answer:
        """Do what a command does, in this process."""
        async with self.opened() as runtime:
            return await Dispatcher(runtime).carry_out(command)

    def _with(self, environ: Mapping[str, str]) -> dict[str, str]:
        return {**self.environ, **environ}
