"""`mirrord sync`: bring mirrors up to date now."""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.ask import ask_whom
from mirrord.cli.console import say_json
from mirrord.cli.exits import exit_code
from mirrord.cli.results import Show, say_runs
from mirrord.cli.sync_images import is_image, sync_images
from mirrord.commands import Sync
from mirrord.errors import UsageError
from mirrord.report.documents import run_document


def sync(
    names: tuple[str, ...],
    *,
    config: Path | None,
    state: Path | None,
    quiet: bool,
    verbose: bool,
    json: bool,
    allow: bool,
    platform: tuple[str, ...],
) -> int:
    """Run the command and return its exit code."""
    if any(map(is_image, names)) or platform:
        if allow:
            raise UsageError("--allow is for mirrors alone, and an image is named, or --platform")
        if not names or (mirrors := [name for name in names if not is_image(name)]):
            named = f"{mirrors[0]!r} is read as a mirror" if names else "no image is named"
            raise UsageError(f"{named}; name images alone, such as docker.io/library/nginx:1.25")
        return sync_images(names, platform, config=config, state=state, quiet=quiet, json=json)
    if allow and not names:
        raise UsageError("--allow needs the names of the mirrors, such as `mirrord sync crane --allow`")
    runs, daemon = ask_whom(Sync(names, allow), config, state, quiet=json or quiet)
    if json:
        say_json({"runs": [run_document(run) for run in runs]})
    else:
        say_runs(runs, Show.of(quiet=quiet, verbose=verbose), goes_on=daemon)
    return exit_code(runs)
