"""What another replica, or a person, writes into the file of `settings.denied` counts at each replica that reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from mirrord.daemon.runtime import Runtime
from mirrord.errors import MirrordError

EVERY: Final = 5.0
"""Seconds between two looks."""


async def follow_denied(runtime: Runtime, apply: Callable[[], Awaitable[None]], warn: Callable[[str], None]) -> None:
    """Look whether the file has changed, again and again; never returns.

    Args:
        runtime: has the configuration in use.
        apply: uses what the file says now.
        warn: gets what is wrong with it, once for each change; what was denied before stays denied.
    """
    seen: object = None
    while True:
        path = runtime.snapshot.configuration.settings.denied
        found = await asyncio.to_thread(_stamp, Path(path)) if path else None
        if found not in (None, seen):
            seen = found
            try:
                await apply()
            except MirrordError as error:
                warn(f"what is denied stays as it was: {error}")
        await asyncio.sleep(EVERY)


def _stamp(path: Path) -> object:
    """Return what changes with each new version of a file; None where it cannot be read, as while it is replaced."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
