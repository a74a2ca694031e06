"""`mirrord token list`: the names of tokens."""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.console import say, say_json, table
from mirrord.cli.folders import state_folder
from mirrord.tokens import TokenFile


def token_list(*, state: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    file = TokenFile(state_folder(state))
    tokens = file.read()
    if json:
        say_json(
            {
                "tokens": [
                    {"name": one.name, "scopes": list(one.scopes), "created": one.created.isoformat()} for one in tokens
                ]
            }
        )
    elif tokens:
        rows = [(one.name, ", ".join(one.scopes), f"{one.created:%Y-%m-%d %H:%M} UTC") for one in tokens]
        table(("NAME", "SCOPES", "CREATED"), rows)
    else:
        say(f"no tokens in {file.path.parent}")
    return 0
