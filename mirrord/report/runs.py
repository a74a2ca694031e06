"""What is said of a run that has ended, on pages and by `mirrord runs`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mirrord.model.history import RunRecord
from mirrord.model.run import Result
from mirrord.report.words import Words

TONES: Final[Mapping[Result, str]] = {
    Result.FAILED: "failing",
    Result.PARTIAL: "failing",
    Result.DEFERRED: "deferred",
    Result.INTERRUPTED: "deferred",
}
"""The health whose colour and sign a result has; that of any other is `ok`."""
_COUNTS: Final = ("done", "kept", "refused", "failed", "cancelled")
_REMOVING: Final = frozenset({"gc", "prune", "takedown"})  # triggers of runs that only delete
_REMOVES: Final = {"done": "deleted", "kept": "left"}  # what such a run does, and what it leaves


@dataclass(frozen=True, slots=True)
class RunShown:
    """A run as a page shows it."""

    started: datetime
    result: str
    tone: str  # as in `TONES`
    code: str  # of its first error, or ""
    lasted: str
    trigger: str
    items: str
    sent: int  # bytes
    replica: str  # that carried it out, or ""


def shown(run: RunRecord, said: Words) -> RunShown:
    """Say what a run was."""
    code = run.code or next((target.code for target in run.targets if target.code), "")
    lasted = said.lasted((run.finished - run.started).total_seconds())
    result, tone = said.result(run.result), TONES.get(run.result, "ok")
    did = said.trigger(run.trigger), items(run, said), sent(run)
    return RunShown(run.started, result, tone, code, lasted, *did, run.replica)


def items(run: RunRecord, said: Words) -> str:
    """Count the items of a run, at all targets together: `3 written, 12 up to date`."""
    found = {key: sum(getattr(target, key) for target in run.targets) for key in _COUNTS}
    named = _REMOVES if run.trigger in _REMOVING else {}
    return said.text("list.comma").join(
        said.text(f"last.{named.get(key, key)}", count=count) for key, count in found.items() if count
    )


def sent(run: RunRecord) -> int:
    """Return the bytes that a run wrote, at all targets together."""
    return sum(target.sent for target in run.targets)
