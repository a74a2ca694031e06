"""`mirrord restore`: restore what a run overwrote or deleted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mirrord.cli.ask import ask, report
from mirrord.cli.console import say, say_json, short, shortened, table
from mirrord.cli.exits import plan_exit_code
from mirrord.cli.results import Show, say_plans
from mirrord.commands import Backups, PlanRestore, Restore
from mirrord.errors import UsageError
from mirrord.report.documents import plan_document
from mirrord.syncer.values import Backup


def restore(
    name: str,
    backups: tuple[str, ...],
    *,
    config: Path | None,
    state: Path | None,
    quiet: bool,
    verbose: bool,
    json: bool,
    release: bool,
    run: int | None,
    dry_run: bool,
) -> int:
    """Run the command and return its exit code."""
    _check(backups, release=release, run=run, dry_run=dry_run)
    if not backups and run is None:
        _list(name, ask(Backups(name), config, state, quiet=json), verbose=verbose, json=json)
        return 0
    if dry_run:
        plan = ask(PlanRestore(name, backups, run), config, state, quiet=json)
        if json:
            say_json({"plans": [plan_document(plan)]})
        else:
            say_plans([plan], Show.of(quiet=quiet, verbose=verbose), explain=False)
        return plan_exit_code([plan])
    done = ask(Restore(name, backups, release, run), config, state, quiet=json or quiet)
    return report(done, Show.of(quiet=quiet, verbose=verbose), json=json)


def _check(backups: tuple[str, ...], *, release: bool, run: int | None, dry_run: bool) -> None:
    """Raise UsageError where options contradict each other."""
    if release and (run is not None or dry_run):
        raise UsageError("--release is for names that were restored; leave --run and --dry-run out")
    if release and not backups:
        raise UsageError("--release needs the names of what was restored")
    if run is not None and backups:
        raise UsageError("--run restores all that a run moved; leave the names out, or --run")
    if dry_run and not backups and run is None:
        raise UsageError("--dry-run needs what is to be restored: names, or --run ID")


def _list(name: str, kept: tuple[Backup, ...], *, verbose: bool, json: bool) -> None:
    if json:
        say_json({"backups": [asdict(entry) for entry in kept]})
        return
    if not kept:
        say(f"{name}: nothing is known that a run overwrote or deleted")
        return
    digest, sentence = (str, str) if verbose else (short, shortened)
    rows = [(sentence(one.name) or "none", one.item, digest(one.digest), one.where, sentence(one.why)) for one in kept]
    if any(one.where for one in kept):
        table(("BACKUP", "WAS", "CONTENT", "IS AT", "WHY"), rows)
    else:
        table(("BACKUP", "WAS", "CONTENT", "WHY"), [(*row[:3], row[4]) for row in rows])
