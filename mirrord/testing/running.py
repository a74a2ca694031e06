"""Running other programs to their end, bounded in time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mirrord.errors import StalledError, UnreachableError


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended; `output` holds both of its streams."""

    status: int
    output: str


async def run(*command: str | Path, seconds: float = 60.0, env: Mapping[str, str] | None = None) -> Ran:
    """Run `command` to its end; `env` adds to the environment.

    Raises:
        StalledError: it took longer than `seconds`, and was killed.
    """
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(env or {})},
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise StalledError(f"{command[0]} did not end within {seconds:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ran(process.returncode or 0, output.decode(errors="replace"))


async def skopeo_copy(source: str, target: str, *flags: str) -> Ran:
    """Copy all platforms with skopeo, without TLS and signatures; places as skopeo writes them (`docker://…`)."""
    tls = ("--src-tls-verify=false", "--dest-tls-verify=false")
    return await run("skopeo", "copy", "--all", "--insecure-policy", *tls, *flags, source, target)


@contextlib.asynccontextmanager
async def podman() -> AsyncIterator[Callable[..., Awaitable[Ran]]]:
    """Give a function that runs podman with the given arguments on storage of its own, which is removed afterwards.

    Raises:
        UnreachableError: podman is not here, or cannot run here.
    """
    with tempfile.TemporaryDirectory(prefix="p", ignore_cleanup_errors=True) as folder:  # podman wants a short path
        flags = ["--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
        flags += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]

        async def call(*arguments: str) -> Ran:
            return await run("podman", *flags, *arguments)

        try:
            probe = await call("info")
        except OSError as error:
            raise UnreachableError(f"podman cannot be run: {error}") from error
        if probe.status:
            raise UnreachableError(f"podman does not run here: {probe.output[-200:]}")
        yield call
