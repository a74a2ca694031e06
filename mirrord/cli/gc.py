"""`mirrord gc`: let go what `local` need not keep."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mirrord.cli.ask import ask
from mirrord.cli.console import note, say, say_json, short, table
from mirrord.commands import CollectGarbage
from mirrord.model.collected import Gone
from mirrord.printable import size


def gc(*, config: Path | None, state: Path | None, dry_run: bool, quiet: bool, verbose: bool, json: bool) -> int:
    """Run the command and return its exit code."""
    found = ask(CollectGarbage(dry_run), config, state, quiet=True)
    for trouble in found.troubles:
        note(trouble)
    if json:
        say_json(asdict(found))
    elif not quiet:
        digest = str if verbose else short
        rows = [(_called(one), digest(one.digest), size(one.size), one.why) for one in found.gone]
        if rows:
            table(("NAME", "CONTENT", "SIZE", "WHY"), rows)
        would = "would free" if dry_run else "freed"
        loose = f", of which {size(found.loose)} no name needed" if found.loose else ""
        say(f"{len(rows)} of {len(rows) + found.kept} names; {would} {size(found.freed)}{loose}")
        if found.remark:
            say(f"remark: {found.remark}")
    return 1 if found.troubles else 0


def _called(one: Gone) -> str:
    """Name an image as `app:v1`, and of a chart the path under which it is served: no image has such a name."""
    if one.repository.startswith("_helm/"):
        return f"/{one.repository[1:]}/{one.name}".rstrip("/")
    return f"{one.repository}:{one.name}".rstrip(":")
