"""Derives the exit codes of commands from plans and runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mirrord.errors import BusyError, MirrordError, StorageError, TransportError, kind_of
from mirrord.model.plan import Action, Plan
from mirrord.model.run import Result, Run

if TYPE_CHECKING:
    from mirrord.model.verification import Verification

_RUNS_SAY = frozenset({TransportError.exit_code, StorageError.exit_code, BusyError.exit_code})
_EXITS = {Result.DEFERRED: 75, Result.INTERRUPTED: 130}


def plan_exit_code(plans: Sequence[Plan]) -> int:
    """Return the exit code of a command that made these plans (see the help of `mirrord plan`)."""
    if plans and all(plan.error for plan in plans):
        return common_exit_code(plan.code for plan in plans)
    refused = [[step.action is Action.REFUSE for step in plan.steps] for plan in plans]
    if plans and all(plan.error or (its and all(its)) for plan, its in zip(plans, refused, strict=True)):
        return MirrordError.exit_code
    return 2 if any(plan.error or plan.missing or any(its) for plan, its in zip(plans, refused, strict=True)) else 0


def common_exit_code(codes: Iterable[str]) -> int:
    """Return for error codes the exit code that all errors share when it is more specific than 1, else 1."""
    found = {kind_of(code).exit_code for code in codes if code}
    return found.pop() if len(found) == 1 and found <= _RUNS_SAY else MirrordError.exit_code


def exit_code(runs: Sequence[Run]) -> int:
    """Return the exit code of a command that made these runs (see docs/reference/exit-codes.md)."""
    results = {run.result for run in runs}
    if results <= {Result.SUCCESS, Result.NOOP}:
        return 0
    if results & {Result.SUCCESS, Result.NOOP, Result.PARTIAL}:
        return 2
    if results != {Result.FAILED}:
        return _EXITS[results.pop()] if len(results) == 1 else 1
    return common_exit_code(code for run in runs for code in run.codes)


def verify_exit_code(found: Sequence[Verification]) -> int:
    """Return 0 when everything is as it was mirrored, 1 when something differs, 2 when that could not be found out."""
    return 1 if any(one.drift for one in found) else 2 if any(one.unknown or one.error for one in found) else 0
