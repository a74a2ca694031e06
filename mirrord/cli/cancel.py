"""`mirrord cancel`: end the run of a mirror."""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.ask import ask
from mirrord.cli.console import say, say_json
from mirrord.commands import Cancel
from mirrord.model.cancelled import CancelledRun
from mirrord.model.run import Result
from mirrord.report.documents import adapter


def cancel(names: tuple[str, ...], *, config: Path | None, state: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    found = ask(Cancel(names), config, state, quiet=True)
    if json:
        write = adapter(CancelledRun).dump_python
        say_json({"runs": [write(one, mode="json") for one in found]})
        return 0
    for one in found:
        say(f"{one.mirror}: {_end(one)}")
    return 0


def _end(one: CancelledRun) -> str:
    if one.result is None or one.started is None or one.finished is None:
        return "nothing runs"
    at = f" at {one.replica}" if one.replica else ""
    after = f"after {(one.finished - one.started).total_seconds():.1f} s{at}"
    if one.result is Result.INTERRUPTED:
        return f"interrupted {after}; what was done is kept, and the next run continues"
    return f"ended by itself {after}: {one.result.value}"
