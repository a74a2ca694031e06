"""`mirrord restore`: bring back what a run overwrote or deleted."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from mirrord.cli.console import exit_code, say, say_json, say_run, table
from mirrord.cli.house import work
from mirrord.cli.options import Config, Json, State, config_folder, state_folder
from mirrord.daemon.loop import run
from mirrord.errors import UsageError
from mirrord.report.documents import backup_document, run_document

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
    """Run the command and return its exit code.

    Raises:
        UsageError: `--release` without a name.
    """
    if release and backup is None:
        raise UsageError("--release goes with the name of what was brought back")
    folder, held = partial(config_folder, config), state_folder(state)
    if backup is None:
        found = run(work(lambda hand, _: hand.backups(name), folder, held, quiet=json))
        if json:
            say_json({"backups": [backup_document(one) for one in found]})
        elif found:
            rows = [(one.name or "none", one.item, one.digest[:12], one.why) for one in found]
            table(("BACKUP", "WAS", "CONTENT", "WHY"), rows)
        else:
            say(f"{name}: there is no backup of anything that was overwritten or deleted")
        return 0
    ended = run(
        work(
            lambda hand, events: hand.restore(name, backup, events, release=release),
            folder,
            held,
            quiet=json,
        )
    )
    if json:
        say_json(run_document(ended))
    else:
        say_run(ended)
    return exit_code([ended])
