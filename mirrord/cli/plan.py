"""`mirrord plan`: what `sync` would do, and why."""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.ask import ask
from mirrord.cli.console import say_json
from mirrord.cli.exits import plan_exit_code
from mirrord.cli.results import Show, say_plans
from mirrord.commands import PlanMirrors
from mirrord.report.documents import plan_document


def plan(
    names: tuple[str, ...],
    *,
    config: Path | None,
    state: Path | None,
    explain: bool,
    sizes: bool,
    verbose: bool,
    json: bool,
) -> int:
    """Run the command and return its exit code."""
    plans = ask(PlanMirrors(names, sizes, explain), config, state, quiet=json)
    if json:
        say_json({"plans": [plan_document(plan) for plan in plans]})
    else:
        say_plans(plans, Show.of(verbose=verbose), explain=explain)
    return plan_exit_code(plans)
