"""`mirrord token add`: a new token."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mirrord.cli.console import note, say, say_json
from mirrord.cli.folders import state_folder
from mirrord.errors import UsageError
from mirrord.tokens import ASK, READ, TokenFile


def token_add(name: str, *, read: bool, ask: bool, state: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    scopes = [scope for scope, wanted in ((READ, read), (ASK, ask)) if wanted]
    if not scopes:
        raise UsageError("say what the token is for: --read, --ask, or both")
    token = TokenFile(state_folder(state)).add(name, datetime.now(UTC).replace(microsecond=0), scopes)
    if json:
        say_json({"name": name, "scopes": scopes, "token": token})
    else:
        say(token)
        note("only its hash is kept: this is shown once")
    return 0
