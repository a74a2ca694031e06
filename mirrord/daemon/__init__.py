"""Composition root: the one place that knows all rooms, builds everything, and hears signals.

The command line calls `serve` for the daemon, and `open_workshop` to do work by itself when no daemon holds the state.
"""

from mirrord.daemon.lock import StateLock
from mirrord.daemon.runner import Runner
from mirrord.daemon.serve import run, serve
from mirrord.daemon.services import build_services
from mirrord.daemon.snapshot import Snapshot
from mirrord.daemon.workshop import Workshop, open_workshop

__all__ = ["Runner", "Snapshot", "StateLock", "Workshop", "build_services", "open_workshop", "run", "serve"]
