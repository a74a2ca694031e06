"""`mirrord token revoke`: a token ends."""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.console import say, say_json
from mirrord.cli.folders import state_folder
from mirrord.tokens import TokenFile


def token_revoke(name: str, *, state: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    TokenFile(state_folder(state)).revoke(name)
    if json:
        say_json({"revoked": name})
    else:
        say(f"{name}: revoked; a running daemon refuses it within two seconds")
    return 0
