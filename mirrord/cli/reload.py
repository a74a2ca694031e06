"""`mirrord reload`: let the daemon read its configuration again."""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.ask import ask
from mirrord.cli.console import say, say_json
from mirrord.commands import Reload


def reload(*, state: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    ask(Reload(), None, state, quiet=True)
    if json:
        say_json({"reloaded": True})
    else:
        say("the configuration is in force")
    return 0
