"""`mirrord serve`: the daemon."""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.folders import config_folder, state_folder
from mirrord.daemon.loop import run
from mirrord.daemon.main import serve as serve_daemon


def serve(*, config: Path | None, state: Path | None, listen: str | None) -> int:
    """Run the daemon and return its exit code."""
    return run(serve_daemon(config_folder(config), state_folder(state), listen))
