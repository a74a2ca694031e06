"""`mirrord plan`: what would `sync` do, and why?"""

from __future__ import annotations

from typing import Annotated

import typer

from mirrord.cli.ask import Config, Json, Names, State, ask
from mirrord.cli.console import plan_exit_code, say_json, say_plan
from mirrord.commands import PlanMirrors
from mirrord.report.documents import plan_document

HELP = """Show every step that [cyan]sync[/cyan] would do now, each with its reason. Writes to no target.

  $ mirrord plan --explain craned

Exit code 0 when everything could be decided, 2 when something that was asked for is not there or cannot be read.
When nothing could be planned at all: 69 when no source was reachable, 75 when all asked for patience, else 1.
"""


def plan(
    names: Names = None,
    config: Config = None,
    state: State = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show also what is up to date, and why.")] = False,  # noqa: FBT002 - a flag
    json: Json = False,  # noqa: FBT002 - a flag
) -> int:
    """Run the command and return its exit code."""
    plans = ask(PlanMirrors(tuple(names or ())), config, state, quiet=json)
    if json:
        say_json({"plans": [plan_document(plan) for plan in plans]})
    else:
        for plan in plans:
            say_plan(plan, explain=explain)
    return plan_exit_code(plans)
