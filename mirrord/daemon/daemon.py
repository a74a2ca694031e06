"""The running daemon: what it does when asked, and what it does by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from mirrord import garbage
from mirrord.blobs import reserve
from mirrord.commands import (
    WAITING,
    Changes,
    Command,
    Delivered,
    GetStatus,
    Lift,
    Reload,
    Takedown,
    TryReceiver,
    Verify,
)
from mirrord.config.load import load_folder, read_folder
from mirrord.daemon.areas import areas
from mirrord.daemon.changes import changes_of
from mirrord.daemon.dispatcher import Dispatcher
from mirrord.daemon.issue_desks import IssueDesks
from mirrord.daemon.notifying import Notifying
from mirrord.daemon.pull_desk import PullDesk
from mirrord.daemon.replica import clock_of
from mirrord.daemon.runtime import Runtime, now
from mirrord.daemon.scheduled import ScheduledVerifier
from mirrord.daemon.scheduled_collection import ScheduledCollection
from mirrord.daemon.shown import Shown
from mirrord.daemon.systemd import Notifier
from mirrord.daemon.webhook import WebhookPointing
from mirrord.errors import MirrordError, StorageError, UsageError
from mirrord.events import Event, Reloaded, RunStarted
from mirrord.model.run import BESIDE, ELSEWHERE, Run
from mirrord.model.takedown import TakenDown
from mirrord.model.verification import Verification
from mirrord.report import health
from mirrord.report.logs import Logs
from mirrord.report.metrics import Metrics
from mirrord.report.status import Status
from mirrord.schedule import LATEST
from mirrord.tokens import TokenFile

_Answer = TypeVar("_Answer")

LOOK_EVERY = 15.0
"""Seconds between two looks at the state on disk."""
MEASURE_EVERY = 600.0
"""Seconds between two measurements of its parts, at least; a slow one is made at most for a hundredth of the time."""


class Daemon(Dispatcher):
    """Carries out commands, and does what is due by itself."""

    def __init__(
        self,
        runtime: Runtime,
        logs: Logs,
        metrics: Metrics,
        notifier: Notifier,
        *,
        folder: Path,
        state: Path,
        environ: Mapping[str, str],
        listen: str,
    ) -> None:
        super().__init__(runtime, listen)
        self._logs, self._metrics, self._notifier = logs, metrics, notifier
        self.folder, self._state, self._environ = folder, state, environ
        self._at_start = runtime.snapshot.configuration
        self.tokens = TokenFile(Path(self._at_start.settings.tokens or state))
        self._looking = asyncio.Lock()
        self._read_at = now()
        self._ran = False  # whether runs ended since we looked for cycles
        self.webhook: WebhookPointing | None = None
        self.queued, self.clock = clock_of(runtime, now)
        self.shown = Shown(runtime, logs, metrics, clock=self.clock, opened=self.opened, listen=listen)
        self.verifying = ScheduledVerifier(runtime, self.verifier, self.clock)
        self.verifying.after = self.after_verification
        self.notifying = Notifying(runtime, self.shown.status)
        self.issues, self.pulls = IssueDesks(runtime, self.desk, logs.write), PullDesk(runtime, logs.write)
        self.shown.receivers, self.shown.desks = self.notifying.standing, self.issues.standing
        self.shown.asks = self.desk.counts
        runtime.runner.after = self.after
        self.collections = ScheduledCollection(runtime, self.collecting, logs)
        if uses := runtime.snapshot.services.uses:
            uses.serve()
        runtime.events.listen(self._hear)

    async def carry_out(self, command: Command[_Answer]) -> _Answer:
        """See `Dispatcher.carry_out`; of a mirror that only the configuration on disk has, say what to do."""
        if unknown := command.about.difference(self.runtime.snapshot.names):
            names = set[str]()
            with suppress(MirrordError):  # a wrong configuration on disk has no names
                fresh = await asyncio.to_thread(read_folder, self.folder, self.runtime.snapshot.syncers, self._environ)
                names = {mirror.name for mirror in fresh.mirrors}
            for name in sorted(unknown & names):
                since = f"the daemon has not read the configuration since {self._read_at:%Y-%m-%d %H:%M} UTC"
                raise UsageError(f"{name} is new: {since}; run `mirrord reload`")
        return await super().carry_out(command)

    async def get_status(self, _: GetStatus) -> Status:
        """See `GetStatus`."""
        return await self.shown.status()

    async def reload(self, _: Reload) -> Changes:
        """See `Reload`. Validates first, then swaps: a bad file changes nothing (bad input 73)."""
        async with self.runtime.changing:
            self._notifier.reloading()
            try:
                fresh = await asyncio.to_thread(load_folder, self.folder, self.runtime.snapshot.syncers, self._environ)
                changes = changes_of(self.runtime.snapshot.configuration, fresh, self._at_start)
                if self.webhook:
                    await self.webhook.follow(fresh)
                self.clock.replace(fresh.mirrors)
                await self.runtime.adopt(fresh)
                self.shown.configuration_error, self._read_at = "", now()
                await self.shown.follow()
                await self.verifying.follow()
                await self.follow_fronts()
                await self.notifying.follow()
                await self.issues.follow()
                changes = replace(changes, notices=(*changes.notices, *await self.token_notices()))
                for notice in (*changes.notices, *(f"{key} changed; {WAITING}" for key in changes.waiting)):
                    self._logs.write("warning", "daemon.notice", message=notice)
                garbage.keep()
                self.runtime.events.emit(Reloaded())
                refused = front.list_troubles() if (front := self.shown.front()) else ()  # logged by their events
                return replace(changes, notices=(*changes.notices, *refused))
            except MirrordError as error:
                self.shown.configuration_error = str(error)
                self.runtime.events.emit(Reloaded(str(error)))
                raise
            finally:
                self._notifier.ready(self.summary())

    async def takedown(self, command: Takedown) -> TakenDown:
        """See `Takedown`."""
        try:
            return await super().takedown(command)
        finally:  # it may be denied although something failed afterwards
            await self.shown.follow_denied()

    async def lift(self, command: Lift) -> str:
        """See `Lift`."""
        try:
            return await super().lift(command)
        finally:
            await self.shown.follow_denied()

    async def try_receiver(self, command: TryReceiver) -> Delivered:
        """See `TryReceiver`; what the receiver waits for follows."""
        delivered = await super().try_receiver(command)
        self.notifying.again(command.receiver)
        return delivered

    async def token_notices(self) -> Sequence[str]:
        """Return a notice if clients need a token, and there is none."""
        needed = self.runtime.snapshot.configuration.needs_token(self._listen)
        return await asyncio.to_thread(self.tokens.notices) if needed else ()

    async def after(self, run: Run) -> None:
        """Take note of a run that ended; when our disk failed it, or did before, see at once how that is now."""
        if self.shown.trouble or StorageError.code in run.codes:
            await self.look()
        await self.shown.after(run)
        if run.trigger not in ELSEWHERE:
            self.clock.again(run.mirror, run.until)
        self.notifying.wake()
        self.pulls.built(run)
        self._ran = True
        if run.trigger not in BESIDE:
            self.collections.ran()
        self._notifier.status(self.summary())

    async def start_clock(self) -> None:
        """Let runs begin by their schedules; what an earlier process deferred continues at its time, or soon."""
        self.clock.start(self.runtime.snapshot.configuration.mirrors)
        soon = now() + timedelta(seconds=LATEST)
        names = set(self.runtime.snapshot.names)
        with suppress(StorageError):  # a record that cannot be read is told elsewhere
            for one in await self.runtime.store.standing():
                if one.until is not None and not one.target and one.mirror in names:
                    self.clock.again(one.mirror, max(one.until, soon))
        with suppress(StorageError):
            await self.verifying.follow()

    async def after_verification(self, name: str, found: Verification | MirrordError) -> None:
        """Say and show what a verification by schedule found."""
        if isinstance(found, MirrordError):
            self._logs.write("warning", "verify.failed", mirror=name, error=str(found))
            return
        whole = found.whole
        level = "info" if whole.equal else "warning"
        counts = {name: getattr(whole, name) for name in ("checked", "drift", "unknown", "refused")}
        self._logs.write(level, "verify.finished", mirror=name, looked=found.level.value, **counts)
        await self.shown.verified(name)

    async def verify(self, command: Verify) -> tuple[Verification, ...]:
        """See `Verify`; it is shown at once."""
        found = await super().verify(command)
        for one in found:
            await self.shown.verified(one.mirror)
        return found

    async def look(self) -> None:
        """See whether the record takes what it is owed, how much room is left, and that its reserve is whole."""
        async with self._looking:
            before = self.shown.trouble
            try:
                async with asyncio.timeout(LOOK_EVERY * 2):
                    await asyncio.to_thread(self.runtime.check)
                    await self.runtime.store.check()
                    self.runtime.snapshot.services.spools.cache.trim()
                    await asyncio.to_thread(reserve.keep, self._state)
                    self._metrics.free.set(await asyncio.to_thread(reserve.free, self._state))
                    self._metrics.capacity.set(await asyncio.to_thread(reserve.capacity, self._state))
                self.shown.trouble = ""
                if before:  # what the record was owed is in it now
                    await self.shown.read()
            except TimeoutError:
                self.shown.trouble = f"{self._state}: the disk does not answer"
            except (MirrordError, OSError) as error:
                self.shown.trouble = str(error)
            after = self.shown.trouble
            if bool(after) != bool(before):
                said = f"the state cannot be used: {after}" if after else "the state can be used again"
                self._logs.write("warning" if after else "info", "daemon.notice", message=said)

    async def look_after_state(self) -> None:
        """Look again and again; and for cycles when runs have ended since, and none is under way."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY)
            if self._ran and not self.runtime.runner.running():
                self._ran = False
                garbage.collect()

    async def collect_after_runs(self) -> None:
        """Do nothing: `ScheduledCollection` does."""

    async def measure_state(self) -> None:
        """Measure the parts of the state directory again and again, for the metrics."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self._metrics.areas(await asyncio.to_thread(areas, self._state))
            await asyncio.sleep(max(MEASURE_EVERY, 100 * (loop.time() - began)))

    def _hear(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._notifier.status(self.summary())

    def summary(self) -> str:
        """Return one line about everything."""
        running = sorted(self.runtime.runner.running())
        return f"{len(self.runtime.snapshot.names)} mirrors; running: {', '.join(running) or 'none'}"

    async def beat(self, every: float = 1.0) -> None:
        """Tick for ever: measure the event loop, and feed the watchdog while a restart would not help."""
        loop = asyncio.get_running_loop()
        fed = 0.0
        while True:
            due = loop.time() + every
            await asyncio.sleep(every)
            self.shown.ticked = loop.time()
            self._metrics.lag.set(max(0.0, self.shown.ticked - due))
            watchdog = self._notifier.watchdog
            if (
                watchdog is not None
                and self.shown.ticked - fed >= watchdog / 3
                and health.live(self.shown.health()).good
            ):
                self._notifier.alive()
                fed = self.shown.ticked
