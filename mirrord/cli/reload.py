"""`mirrord reload`: let the daemon read its configuration again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mirrord.cli.ask import ask
from mirrord.cli.console import say, say_json
from mirrord.commands import WAITING, Reload
from mirrord.errors import ConfigError
from mirrord.printable import plain


def reload(*, state: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    try:
        changes = ask(Reload(), None, state, quiet=True)
    except ConfigError as error:
        error.add_note("refused; the old configuration stays in use")
        raise
    if json:
        say_json({"reloaded": True, **asdict(changes)})
        return 0
    say("the configuration is in use")
    lists = {"added": changes.added, "removed": changes.removed, "changed": changes.changed, "applied": changes.taken}
    for word, names in lists.items():
        if names:
            say(f"{word}: {', '.join(names)}")
    for text in (*(f"{key} changed; {WAITING}" for key in changes.waiting), *changes.notices):
        say(plain(text))
    return 0
