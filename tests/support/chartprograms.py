"""Real programs of the chart world, where they are installed: helm, and ChartMuseum on a free loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp

from mirrord.errors import UnreachableError
from mirrord.testing.ports import free_port
from mirrord.testing.running import Ran, run
from mirrord.testing.servers import available

HELMS = ("helm3", "helm4", "helm")

Helm = Callable[..., Awaitable[Ran]]
"""Runs helm with the given arguments, to its end."""


def helms() -> tuple[str, ...]:
    """Return the names under which helm can be run here, `helm` itself only when there is no other."""
    found = tuple(name for name in HELMS if shutil.which(name))
    return found if found == ("helm",) else tuple(name for name in found if name != "helm")


@contextlib.asynccontextmanager
async def helm(binary: str = "helm") -> AsyncIterator[Helm]:
    """Give a function that runs helm in a home of its own, which is removed afterwards.

    Raises:
        UnreachableError: it is not here.
    """
    missing = available(binary)
    if missing:
        raise UnreachableError(missing)
    with tempfile.TemporaryDirectory(prefix="helm-") as home:
        places = {f"HELM_{kind}_HOME": f"{home}/{kind.lower()}" for kind in ("CACHE", "CONFIG", "DATA")}
        env = {"HOME": home, "XDG_RUNTIME_DIR": home, "DOCKER_CONFIG": f"{home}/docker", "TZ": "UTC", **places}

        async def call(*arguments: str | Path) -> Ran:
            return await run(binary, *arguments, env=env)

        yield call


class ChartMuseum:
    """The real `chartmuseum` with a temporary folder as storage; use `open_chartmuseum`.

    Attributes:
        url: of the server and its one repository.
        storage: where it keeps its files.
    """

    def __init__(self, url: str, storage: Path) -> None:
        self.url = url
        self.storage = storage


@contextlib.asynccontextmanager
async def open_chartmuseum(user: tuple[str, str] | None = None, *options: str) -> AsyncIterator[ChartMuseum]:
    """Run ChartMuseum until the context ends; `user` (name and password) switches Basic authentication on.

    Raises:
        UnreachableError: it is not installed, or does not start.
    """
    missing = available("chartmuseum")
    if missing:
        raise UnreachableError(missing)
    with tempfile.TemporaryDirectory(prefix="chartmuseum-", ignore_cleanup_errors=True) as folder:
        log, port = Path(folder) / "log", free_port()
        server = ChartMuseum(f"http://127.0.0.1:{port}", Path(folder) / "storage")
        server.storage.mkdir()
        env = {"PATH": os.environ.get("PATH", ""), "HOME": folder}
        if user is not None:  # never by argument
            env |= {"BASIC_AUTH_USER": user[0], "BASIC_AUTH_PASS": user[1]}
        flags = ["--storage=local", f"--storage-local-rootdir={server.storage}", "--disable-statefiles", *options]
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *("chartmuseum", "--listen-host=127.0.0.1", f"--port={port}", *flags),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
            )
        try:
            context = next((flag.partition("=")[2] for flag in options if flag.startswith("--context-path=")), "")
            await _ready(f"{server.url}{context}", process, log)
            yield server
        finally:
            await _stop(process)


async def _ready(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    ended = asyncio.ensure_future(process.wait())
    try:
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            while not ended.done():
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{url}/health") as answer:
                        if answer.status == 200:
                            return
                await asyncio.wait([ended], timeout=0.02)
    except TimeoutError as error:
        raise UnreachableError(f"chartmuseum does not answer: {_end(log)}") from error
    finally:
        ended.cancel()
    raise UnreachableError(f"chartmuseum ended: {_end(log)}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(5):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-500:]
