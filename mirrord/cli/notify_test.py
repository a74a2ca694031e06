"""`mirrord notify test`: a message to one receiver, and what its service answered."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mirrord.cli.ask import ask
from mirrord.cli.console import say, say_json
from mirrord.commands import TryReceiver
from mirrord.printable import plain


def notify_test(name: str, *, config: Path | None, state: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    delivered = ask(TryReceiver(name), config, state, quiet=True)
    if json:
        say_json(asdict(delivered))
    else:
        say(plain(f"{delivered.receiver} ({delivered.kind} at {delivered.host}) took the message: {delivered.answer}"))
    return 0
