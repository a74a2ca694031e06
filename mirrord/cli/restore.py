"""`mirrord restore`: restore what a run overwrote or deleted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mirrord.cli.ask import ask, report
from mirrord.cli.console import say, say_json, short, table
from mirrord.cli.results import Show
from mirrord.commands import Backups, Restore
from mirrord.errors import UsageError


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
) -> int:
    """Run the command and return its exit code."""
    if release and not backups:
        raise UsageError("--release needs the names of what was restored")
    if not backups:
        kept = ask(Backups(name), config, state, quiet=json)
        if json:
            say_json({"backups": [asdict(entry) for entry in kept]})
        elif kept:
            digest = str if verbose else short
            rows = [(entry.name or "none", entry.item, digest(entry.digest), entry.why) for entry in kept]
            table(("BACKUP", "WAS", "CONTENT", "WHY"), rows)
        else:
            say(f"{name}: there are no backups of overwritten or deleted refs")
        return 0
    run = ask(Restore(name, backups, release), config, state, quiet=json or quiet)
    return report(run, Show.of(quiet=quiet, verbose=verbose), json=json)
