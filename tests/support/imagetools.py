"""skopeo and podman, as judges."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable

from mirrord.errors import UnreachableError
from mirrord.testing.running import Ran, run


async def skopeo_copy(source: str, target: str, *flags: str) -> Ran:
    """Copy all platforms with skopeo, without TLS and signatures; places as skopeo writes them (`docker://…`)."""
    tls = ("--src-tls-verify=false", "--dest-tls-verify=false")
    return await run("skopeo", "copy", "--all", "--insecure-policy", *tls, *flags, source, target)


@contextlib.asynccontextmanager
async def podman(**environ: str) -> AsyncIterator[Callable[..., Awaitable[Ran]]]:
    """Give a function that runs podman with the given arguments on storage of its own, which is removed afterwards.

    `environ` adds to its environment.

    Raises:
        UnreachableError: podman is not here, or cannot run here.
    """
    with tempfile.TemporaryDirectory(prefix="p", ignore_cleanup_errors=True) as folder:  # podman wants a short path
        flags = ["--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
        flags += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]

        async def call(*arguments: str) -> Ran:
            return await run("podman", *flags, *arguments, env=environ)

        try:
            probe = await call("info")
        except OSError as error:
            raise UnreachableError(f"podman cannot be run: {error}") from error
        if probe.status:
            raise UnreachableError(f"podman does not run here: {probe.output[-200:]}")
        yield call
