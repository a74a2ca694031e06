"""`mirrord prune`: remove at targets what a mirror does not want any more."""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.ask import ask
from mirrord.cli.console import note, say_json
from mirrord.cli.exits import exit_code, plan_exit_code
from mirrord.cli.results import Show, say_plans, say_runs
from mirrord.commands import PlanPrune, Prune
from mirrord.model.plan import Action
from mirrord.report.documents import plan_document, run_document
from mirrord.syncer.values import PruneWish


def prune(
    names: tuple[str, ...],
    *,
    config: Path | None,
    state: Path | None,
    apply: bool,
    adopt: bool,
    irrecoverable: bool,
    quiet: bool,
    verbose: bool,
    json: bool,
) -> int:
    """Run the command and return its exit code."""
    wish = PruneWish(adopt, irrecoverable)
    if not apply:
        plans = ask(PlanPrune(names, wish), config, state, quiet=json or quiet)
        if json:
            say_json({"plans": [plan_document(plan) for plan in plans]})
        else:
            say_plans(plans, Show.of(quiet=quiet, verbose=verbose), explain=True, kept="left there")
            if any(plan.active for plan in plans):
                note("nothing was removed; `--apply` does it")
        return plan_exit_code(plans)
    runs = ask(Prune(names, wish), config, state, quiet=json or quiet)
    if json:
        say_json({"runs": [run_document(run) for run in runs]})
    else:
        say_runs(runs, Show.of(quiet=quiet, verbose=verbose))
        steps = (step for run in runs if run.plan for step in run.plan.steps)
        if not (quiet or verbose) and any(step.action is Action.KEEP for step in steps):
            note(f"`mirrord prune {' '.join(names)}` says why names are left there")
    return exit_code(runs)
