"""`mirrord token remove`: a token ends."""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.console import say, say_json
from mirrord.cli.folders import state_folder
from mirrord.tokens import TokenFile


def token_remove(name: str, *, state: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    TokenFile(state_folder(state)).remove(name)
    if json:
        say_json({"removed": name})
    else:
        say(f"{name}: removed; a running daemon refuses it within two seconds")
    return 0
