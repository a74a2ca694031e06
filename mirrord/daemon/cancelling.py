"""Ends runs that are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mirrord.errors import BusyError, UsageError
from mirrord.model.cancelled import CancelledRun
from mirrord.model.request import ASKED
from mirrord.record.cancellation import RunCancellation
from mirrord.record.fleet import Fleet
from mirrord.record.fleet_database import POLL

if TYPE_CHECKING:
    from mirrord.daemon.runtime import Runtime

PATIENCE: Final = 60.0
"""Seconds for which a run at another replica may take to end, after its next sign of life."""


async def cancel(runtime: Runtime, names: Sequence[str]) -> tuple[CancelledRun, ...]:
    """See `Cancel`. UsageError for a mirror that is not configured; BusyError: a run has not ended in time."""
    current = runtime.snapshot
    if current.configuration.asking and ASKED in names:
        raise UsageError(f"{ASKED}: has what somebody asked for, and each image would begin anew")
    ends = await asyncio.gather(*(_cancel(runtime, name) for name in current.chosen(names)), return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return tuple(end for end in ends if not isinstance(end, BaseException))


async def _cancel(runtime: Runtime, name: str) -> CancelledRun:
    for run in await runtime.runner.cancel(name):
        return CancelledRun(name, run.trigger, run.result, run.started, run.finished)
    return await _cancel_elsewhere(runtime, runtime.fleet, name) if runtime.fleet else CancelledRun(name)


async def _cancel_elsewhere(runtime: Runtime, fleet: Fleet, name: str) -> CancelledRun:
    """Let the replica that runs a mirror end that, and see in the record how it ended."""
    before = await runtime.store.runs(name, 1)
    asked = await RunCancellation.ask(fleet.database, name, fleet.me.boot)
    if asked is None:
        return CancelledRun(name)
    end = asyncio.get_running_loop().time() + fleet.pace.beat + PATIENCE
    while await asked.pending(fleet.database):
        if asyncio.get_running_loop().time() > end:
            raise BusyError(f"{name}: {asked.replica} was asked to end its run, which goes on after {PATIENCE:.0f} s")
        await asyncio.sleep(POLL)
    for run in await runtime.store.runs(name, 1):
        if not before or run.id > before[0].id:
            return CancelledRun(name, run.trigger, run.result, run.started, run.finished, asked.replica)
    return CancelledRun(name)  # what has the mirror there is no run
