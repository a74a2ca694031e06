"""`mirrord sync`: bring mirrors up to date now."""

from __future__ import annotations

from typing import Annotated

import typer

from mirrord.cli.ask import Config, Json, Names, State, ask
from mirrord.cli.console import exit_code, say_json, say_run
from mirrord.commands import Sync
from mirrord.errors import UsageError
from mirrord.report.documents import run_document

ALLOW = "Go on although the source looks emptied or rewritten; ask again for what is left alone."
Allow = Annotated[bool, typer.Option("--allow", help=ALLOW)]

HELP = """Bring mirrors up to date now. A daemon that holds the state does the work; else this command does.

  $ mirrord sync craned base

A run that is refused because the source looks emptied or rewritten says so, and changes nothing. When that is
what upstream meant, go on with

  $ mirrord sync grafana --allow

Exit code 0 done or nothing to do, 1 failed, 2 partly, 69 nothing reachable, 75 rate-limited or busy.
"""


def sync(
    names: Names = None,
    config: Config = None,
    state: State = None,
    json: Json = False,  # noqa: FBT002 - a flag
    allow: Allow = False,  # noqa: FBT002 - a flag
) -> int:
    """Run the command and return its exit code."""
    if allow and not names:
        raise UsageError("--allow goes with the names of the mirrors that it is meant for")
    runs = ask(Sync(tuple(names or ()), allow), config, state, quiet=json)
    if json:
        say_json({"runs": [run_document(run) for run in runs]})
    else:
        for run in runs:
            say_run(run)
    return exit_code(runs)
