"""`mirrord serve`: the daemon."""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.folders import concluded, config_folder, state_folder
from mirrord.daemon.loop import run
from mirrord.daemon.main import serve as serve_daemon


def serve(*, config: Path | None, state: Path | None, listen: str | None) -> int:
    """Run the daemon and return its exit code."""
    folder = config_folder(config)
    with concluded(folder, "not started"):
        return run(serve_daemon(folder, state_folder(state, config), listen))
