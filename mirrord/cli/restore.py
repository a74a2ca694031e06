"""`mirrord restore`: bring back what a run overwrote or deleted."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from mirrord.cli.ask import Config, Json, State, ask, report
from mirrord.cli.console import say, say_json, table
from mirrord.commands import Backups, Restore
from mirrord.errors import UsageError

HELP = """List what runs of the mirror NAME overwrote or deleted, or bring one of them back.

What is brought back overrides upstream, at every target, until it is released with `--release`.

  $ mirrord restore crane
  $ mirrord restore crane 20261121T030000Z/heads/main
  $ mirrord restore crane refs/heads/main --release

Exit code as that of the run that follows: 0 done, 1 failed, 2 partly.
"""

Release = Annotated[bool, typer.Option("--release", help="Let upstream decide again.")]


def restore(  # noqa: PLR0917 - each one is an option of the command line
    name: Annotated[str, typer.Argument(metavar="NAME", help="The mirror.")],
    backup: Annotated[
        str | None, typer.Argument(metavar="BACKUP", help="What to bring back, as the list names it.")
    ] = None,
    config: Config = None,
    state: State = None,
    json: Json = False,  # noqa: FBT002 - a flag
    release: Release = False,  # noqa: FBT002 - a flag
) -> int:
    """Run the command and return its exit code."""
    if release and backup is None:
        raise UsageError("--release goes with the name of what was brought back")
    if backup is None:
        backups = ask(Backups(name), config, state, quiet=json)
        if json:
            say_json({"backups": [asdict(entry) for entry in backups]})
        elif backups:
            rows = [(entry.name or "none", entry.item, entry.digest[:12], entry.why) for entry in backups]
            table(("BACKUP", "WAS", "CONTENT", "WHY"), rows)
        else:
            say(f"{name}: there is no backup of anything that was overwritten or deleted")
        return 0
    return report(ask(Restore(name, backup, release), config, state, quiet=json), json=json)
