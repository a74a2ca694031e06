"""Verifies mirrors by itself: one at a time, spread, and not while a host wants their runs to wait."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from mirrord.daemon.runtime import Runtime, now
from mirrord.daemon.verifier import Verifier
from mirrord.errors import MirrordError
from mirrord.model.history import Standing
from mirrord.model.verification import Verification, Verifying
from mirrord.schedule import Clock
from mirrord.syncer.values import Mirror
from mirrord.transfer.fanout import deliberate

SPREAD: Final = 3600.0
"""Seconds over which first and late verifications are spread after a start."""
_LATER: Final = 300.0  # seconds until one is tried again that could not begin


class ScheduledVerifier:
    """Verifies mirrors with `verify.every` when they are due.

    Attributes:
        after: is told what a verification found, or why there was none, before the next one begins.
    """

    def __init__(self, runtime: Runtime, verifier: Verifier, clock: Clock) -> None:
        self._runtime, self._verifier, self._clock = runtime, verifier, clock
        self._turn = asyncio.Semaphore(1)
        self._waiting: dict[str, tuple[float, datetime]] = {}  # by mirror its `every`, and when it is due
        self.after: Callable[[str, Verification | MirrordError], Awaitable[None]] | None = None

    async def follow(self) -> None:
        """Follow the configuration: a mirror is due so long after its last verification, a late one soon.

        One whose `every` did not change keeps its time, so that no reload makes it wait longer, or come sooner.
        """
        at, known = now(), {one.mirror: one for one in await self._runtime.store.standing() if not one.target}
        mirrors = self._runtime.snapshot.configuration.mirrors
        rules = {one.name: one.verifying for one in mirrors if one.verifying}
        every = {name: one.every for name, one in rules.items() if one.every}
        fresh = {name: (span, due(name, rules[name], known.get(name), at)) for name, span in every.items()}
        kept = {name: one for name, one in self._waiting.items() if name in every and one[0] == every[name]}
        self._waiting = {**fresh, **kept}
        self._clock.verify(self._verify, {name: when for name, (_, when) in self._waiting.items()})

    async def _verify(self, name: str) -> None:
        self._waiting.pop(name, None)
        async with self._turn:
            mirror = next((one for one in self._runtime.snapshot.configuration.mirrors if one.name == name), None)
            rules = mirror.verifying if mirror else None
            if mirror is None or rules is None or rules.every is None or self._runtime.runner.stopping:
                return
            try:
                if not await self._ours(mirror):
                    self._again(name, rules.every, _LATER)
                    return
                if self._runtime.snapshot.denying(name):  # nothing of it should be anywhere
                    self._again(name, rules.every, rules.every)
                    return
                if wait := await self._deferred(name):
                    self._again(name, rules.every, wait)
                    return
                found: Verification | MirrordError = await self._verifier.verify(name, rules.level)
            except Exception as error:  # noqa: BLE001 - the record, or a bug, must not end it for good
                found = deliberate(error)
            self._again(name, rules.every, _LATER if isinstance(found, MirrordError) else rules.every)
            if self.after:
                await self.after(name, found)

    async def _ours(self, mirror: Mirror) -> bool:
        """Whether this is the replica that verifies it: of Git the one that has the copy of its upstream."""
        fleet = self._runtime.fleet
        last = await fleet.ran_last(mirror.name) if fleet and mirror.kind == "git" else ""
        return last == fleet.me.name if fleet and last else self._runtime.leads

    async def _deferred(self, name: str) -> float:
        """Return in how many seconds to try again while a host wants runs of the mirror to wait, else 0."""
        known = (*await self._runtime.store.standing(name), None)[0]
        left = (known.until - now()).total_seconds() if known and known.until else 0.0
        return left + _LATER if left > 0 else 0.0

    def _again(self, name: str, every: float, seconds: float) -> None:
        at = now() + timedelta(seconds=seconds)
        self._waiting[name] = every, at
        self._clock.verify(self._verify, {name: at}, only=name)


def due(name: str, rules: Verifying, known: Standing | None, at: datetime) -> datetime:
    """Return when a mirror is verified next: regularly, but neither all of them at once nor just after a start.

    One that did not look as far as the rules say does not count.
    """
    every = rules.every or 0.0
    share = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    soonest = at + timedelta(seconds=share * min(SPREAD, every))
    last = known.verified.levels.get(rules.level) if known and known.verified else None
    return max(soonest, last + timedelta(seconds=every)) if last else soonest
