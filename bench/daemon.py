"""A daemon to ask: `mirrord serve` in a process of its own; the one of `bench.watched` also tells what it costs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path


@contextlib.asynccontextmanager
async def running_daemon(conf: Path, state: Path, tree: Path | None = None) -> AsyncIterator[tuple[int, int]]:
    """Give the process id of a daemon and its port on 127.0.0.1; it runs the code of `tree`, or of this checkout."""
    argv = [sys.executable, "-m", "mirrord", "serve", "-c", str(conf), "--state", str(state)]
    environ = {**os.environ, "MIRRORD_LISTEN": "127.0.0.1:0"}
    pipe = asyncio.subprocess.PIPE
    daemon = await asyncio.create_subprocess_exec(*argv, stdout=pipe, cwd=tree, env=environ)
    assert daemon.stdout is not None
    try:
        ready = b""
        while b"daemon.ready" not in ready:
            ready = await daemon.stdout.readline()
            assert ready, "the daemon ended"
        found = re.search(rb"127\.0\.0\.1:(\d+)", ready)
        assert found is not None
        reading = asyncio.create_task(daemon.stdout.read())  # a log that nobody reads would stop it
        yield daemon.pid, int(found[1])
        daemon.terminate()
        await reading
        await daemon.wait()
    finally:
        if daemon.returncode is None:
            daemon.kill()
        await daemon.wait()
