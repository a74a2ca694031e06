"""`mirrord plan`: what would `sync` do, and why?"""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.ask import ask
from mirrord.cli.console import say_json
from mirrord.cli.results import plan_exit_code, say_plan
from mirrord.commands import PlanMirrors
from mirrord.report.documents import plan_document


def plan(names: tuple[str, ...], *, config: Path | None, state: Path | None, explain: bool, json: bool) -> int:
    """Run the command and return its exit code."""
    plans = ask(PlanMirrors(names), config, state, quiet=json)
    if json:
        say_json({"plans": [plan_document(plan) for plan in plans]})
    else:
        for plan in plans:
            say_plan(plan, explain=explain)
    return plan_exit_code(plans)
