"""Running other programs to their end, bounded in time, and leaving nothing of them behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mirrord.errors import StalledError

_READ: Final = 5.0  # seconds for what a killed program wrote; what left its session may hold its output open


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended; `output` holds both of its streams."""

    status: int
    output: str


@contextlib.asynccontextmanager
async def started(*command: str | Path, **options: Any) -> AsyncIterator[Process]:
    """Start a program in a session of its own; when the context ends, it is gone with all that it started.

    Its pipes are gone too: asyncio closes a pipe when it was read to its end, and a process counts as ended when all
    its pipes are closed. Whoever is cancelled, however often, waits for that: between the start of a program and the
    moment in which its caller knows of it, and while it is being ended.

    Args:
        command: program and arguments.
        options: as `asyncio.create_subprocess_exec` takes them.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(*map(str, command), **{"start_new_session": True, **options})
    )
    try:
        yield await asyncio.shield(starting)
    finally:
        await _seen_to_its_end(_ended(starting))


async def _seen_to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` to its end, also when its caller is cancelled meanwhile; then the caller hears of that afterwards."""
    doing = asyncio.ensure_future(work)
    cancelled = False
    while not doing.done():
        try:
            await asyncio.wait({doing})
        except asyncio.CancelledError:
            cancelled = True
    doing.result()
    if cancelled:
        raise asyncio.CancelledError


async def _ended(starting: asyncio.Future[Process]) -> None:
    try:
        process = await starting
    except OSError:  # it was never started, and whoever asked for it knows
        return
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_READ):
            for stream in (process.stdout, process.stderr):
                while stream is not None and await stream.read(1 << 18):
                    pass
    except TimeoutError:
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other way to close them
    await process.wait()


async def run(*command: str | Path, seconds: float = 60.0, env: Mapping[str, str] | None = None) -> Ran:
    """Run `command` to its end; `env` adds to the environment.

    Raises:
        StalledError: it took longer than `seconds`, and was killed.
    """
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    async with started(*command, **options, env={**os.environ, **(env or {})}) as process:
        try:
            async with asyncio.timeout(seconds):
                output, _ = await process.communicate()
        except TimeoutError as error:
            raise StalledError(f"{command[0]} did not end within {seconds:g} s") from error
    return Ran(process.returncode or 0, output.decode(errors="replace"))
