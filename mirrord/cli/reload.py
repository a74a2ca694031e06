"""`mirrord reload`: let the daemon read its configuration again."""

from __future__ import annotations

from mirrord.cli.ask import Json, State, ask
from mirrord.cli.console import say, say_json
from mirrord.commands import Reload

HELP = """Let the daemon that holds the state read its configuration again, and say what is wrong with it.

The same as SIGHUP: a wrong configuration is refused, and the one before stays in force.
`settings.listen`, `settings.spool` and `settings.log` count from the next start of the daemon on;
its log says so when one of them changed.

  $ mirrord reload

Exit code 0 when it is in force, 64 when no daemon runs, 78 when it is wrong.
"""


def reload(state: State = None, json: Json = False) -> int:  # noqa: FBT002 - a flag
    """Run the command and return its exit code."""
    ask(Reload(), None, state, quiet=True)
    if json:
        say_json({"reloaded": True})
    else:
        say("the configuration is in force")
    return 0
