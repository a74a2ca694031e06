"""Composition root: the one place that knows all rooms, builds everything, and hears signals.

The command line calls `serve` for the daemon, and `open_workshop` (under a `StateLock`) to do work by itself when no
daemon holds the state. What is not asked for is not loaded: a command that needs only the lock starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirrord.daemon.lifetime import serve
    from mirrord.daemon.lock import StateLock
    from mirrord.daemon.loop import run
    from mirrord.daemon.runner import Runner
    from mirrord.daemon.services import build_services
    from mirrord.daemon.snapshot import Snapshot
    from mirrord.daemon.workshop import Workshop, open_workshop

__all__ = ["Runner", "Snapshot", "StateLock", "Workshop", "build_services", "open_workshop", "run", "serve"]

_HOMES = {
    "Runner": "runner",
    "Snapshot": "snapshot",
    "StateLock": "lock",
    "Workshop": "workshop",
    "build_services": "services",
    "open_workshop": "workshop",
    "run": "loop",
    "serve": "lifetime",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(name)
