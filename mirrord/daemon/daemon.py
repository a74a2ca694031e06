"""The running daemon: what it shows, what it does when asked, and what it does by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from mirrord import __version__, garbage
from mirrord.blobs import reserve
from mirrord.commands import WAITING, Changes, Command, GetStatus, Reload
from mirrord.config.load import load_folder, read_folder
from mirrord.daemon.catalog import catalog
from mirrord.daemon.changes import changes_of
from mirrord.daemon.dispatcher import Dispatcher
from mirrord.daemon.runtime import Runtime, now
from mirrord.daemon.systemd import Notifier
from mirrord.errors import MirrordError, StorageError, UsageError
from mirrord.events import Event, Reloaded, RunFinished, RunStarted
from mirrord.model.catalog import CatalogEntry
from mirrord.model.history import Standing
from mirrord.model.run import Run
from mirrord.record.summary import RunSummary, standings_after
from mirrord.report import health
from mirrord.report.front import FrontStatus, FrontTally
from mirrord.report.health import Health
from mirrord.report.logs import Logs
from mirrord.report.metrics import Metrics
from mirrord.report.status import Board, Status
from mirrord.schedule import Clock
from mirrord.serve.incoming import TrustedProxies
from mirrord.serve.tls import ServedCertificate
from mirrord.syncer.serving import Serves
from mirrord.syncer.values import Services
from mirrord.tokens import TokenFile

_Answer = TypeVar("_Answer")

LOOK_EVERY = 15.0
"""Seconds between two looks at the state on disk."""


class Daemon(Dispatcher):
    """Carries out commands, shows how it is (`mirrord.serve.status.View`), and does what is due by itself."""

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
        self._started = now()
        self._at_start = runtime.snapshot.configuration.settings
        self._ticked = asyncio.get_running_loop().time()
        self._trouble = ""  # what is wrong with the state on disk, as of the last look
        self._looking = asyncio.Lock()
        self._configuration_error, self._read_at = "", self._started
        self._edition = 0
        self._ran = False  # whether runs ended since we looked for cycles
        self._board = Board()
        self._tally = FrontTally()
        self._addresses: Mapping[str, str] = {}
        self._reloading = asyncio.Lock()
        self.certificate: ServedCertificate | None = None  # of the public address, with `settings.tls`
        self.clock = Clock(runtime.runner.tick, now)
        runtime.runner.after = self.after
        runtime.events.listen(self._hear)
        runtime.events.listen(self._tally)

    # What may be looked at

    @property
    def fronts(self) -> Mapping[str, Serves]:
        """See `View.fronts`."""
        serving = {kind: syncer.front for kind, syncer in self.runtime.snapshot.syncers.items() if syncer.front}
        return {prefix: front for front in {**serving, **self.opened}.values() for prefix in front.prefixes}

    def services(self) -> Services:
        """See `View.services`."""
        return self.runtime.snapshot.services

    def proxies(self) -> TrustedProxies:
        """See `View.proxies`."""
        settings = self.runtime.snapshot.configuration.settings
        return TrustedProxies(settings.proxies, settings.url or "")

    def health(self) -> Health:
        """See `View.health`."""
        return Health(
            tick_age=asyncio.get_running_loop().time() - self._ticked,
            overdue=self.runtime.runner.overdue(),
            scheduled=self.clock.running,
            storage=self._trouble,
            front="; ".join(front.list_troubles()) if (front := self._front()) and front.list_missing else "",
            stopping=self.runtime.runner.stopping,
        )

    async def status(self) -> Status:
        """See `View.status`."""
        status = await asyncio.to_thread(
            self._board.status,
            __version__,
            now(),
            self.runtime.snapshot.configuration.mirrors,
            running=self.runtime.runner.running(),
            next_runs=self.clock.next_runs(),
            addresses=self._addresses,
            started=self._started,
            stopping=self.runtime.runner.stopping,
            configuration_error=self._configuration_error,
            front=self._front(),
        )
        return replace(status, certificate_error=self.certificate.error) if self.certificate else status

    def _front(self) -> FrontStatus | None:
        return self._tally.status(front.standing() for front in self.opened.values()) if self.opened else None

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
        return await self.status()

    async def catalog(self) -> Sequence[CatalogEntry]:
        """See `View.catalog`."""
        current = self.runtime.snapshot
        return await catalog(current, self.runtime.store, current.names)

    async def metrics(self) -> bytes:
        """See `View.metrics`."""
        self._metrics.lost.set(self._logs.lost)
        if (front := self._front()) is not None:
            self._metrics.cached(front)
        return await asyncio.to_thread(self._metrics.text, self.clock.next_runs())

    def edition(self) -> int:
        """See `View.edition`."""
        return self._edition

    async def reload(self, _: Reload) -> Changes:
        """See `Reload`. Validates first, then swaps: a bad file changes nothing (bad input 73)."""
        async with self._reloading:
            self._notifier.reloading()
            try:
                fresh = await asyncio.to_thread(load_folder, self.folder, self.runtime.snapshot.syncers, self._environ)
                changes = changes_of(self.runtime.snapshot.configuration, fresh, self._at_start)
                self.clock.replace(fresh.mirrors)
                await self.runtime.adopt(fresh)
                self._configuration_error, self._read_at = "", now()
                await self.follow()
                await self.follow_fronts()
                changes = replace(changes, notices=(*changes.notices, *await self.token_notices()))
                for notice in (*changes.notices, *(f"{key} changed; {WAITING}" for key in changes.waiting)):
                    self._logs.write("warning", "daemon.notice", message=notice)
                garbage.keep()
                self.runtime.events.emit(Reloaded())
                refused = front.list_troubles() if (front := self._front()) else ()  # logged by their events
                return replace(changes, notices=(*changes.notices, *refused))
            except MirrordError as error:
                self._configuration_error = str(error)
                self.runtime.events.emit(Reloaded(str(error)))
                raise
            finally:
                self._notifier.ready(self.summary())

    async def token_notices(self) -> Sequence[str]:
        """Return a notice if clients need a token, and there is none."""
        needed = self.runtime.snapshot.configuration.needs_token(self._listen)
        return await asyncio.to_thread(TokenFile(self._state).notices) if needed else ()

    # What it does by itself

    async def follow(self) -> None:
        """Let status and metrics follow the configuration in use."""
        standing = await self._standing()
        self._board = Board(standing)  # without those that are gone
        self._addresses = self.runtime.snapshot.addresses(self._listen)
        upstreams = [host for rules in self.runtime.snapshot.configuration.fronts.values() for host in rules.upstreams]
        self._metrics.follow(self.runtime.snapshot.configuration.mirrors, standing, now(), upstreams)

    async def _standing(self, mirror: str | None = None) -> Sequence[Standing]:
        """Ask the record; when that cannot be read the daemon goes on without, and says so."""
        try:
            return await self.runtime.store.standing(mirror)
        except MirrordError as error:
            self._trouble = str(error)
            return ()

    async def after(self, run: Run) -> None:
        """Take note of a run that ended; when our disk failed it, or did before, see at once how that is now."""
        if self._trouble or StorageError.code in run.codes:
            await self.look()
        self._remember(await self._stands(run))
        self._edition += 1
        self._ran = True
        self._notifier.status(self.summary())

    async def _stands(self, run: Run) -> Sequence[Standing]:
        """Return how a mirror stands after a run, also when the record did not take it."""
        standing = await self._standing(run.mirror)
        if any(entry.last_attempt and entry.last_attempt >= run.finished for entry in standing):
            return standing
        summary = await asyncio.to_thread(RunSummary.of, run)
        return standings_after(self._board.known(run.mirror), summary)

    def _remember(self, standing: Sequence[Standing]) -> None:
        self._board.learn(standing)
        self._metrics.remember(standing)

    async def look(self) -> None:
        """See whether the record takes what it is owed, how much room is left, and that its reserve is whole."""
        async with self._looking:
            before = self._trouble
            try:
                async with asyncio.timeout(LOOK_EVERY * 2):
                    await asyncio.to_thread(self.runtime.check)
                    await self.runtime.store.check()
                    self.runtime.snapshot.services.spools.cache.trim()
                    await asyncio.to_thread(reserve.keep, self._state)
                    self._metrics.free.set(await asyncio.to_thread(reserve.free, self._state))
                self._trouble = ""
                if before:  # what the record was owed is in it now
                    self._remember(await self._standing())
            except TimeoutError:
                self._trouble = f"{self._state}: the disk does not answer"
            except (MirrordError, OSError) as error:
                self._trouble = str(error)

    async def look_after_state(self) -> None:
        """Look again and again; and for cycles when runs have ended since, and none is under way."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY)
            if self._ran and not self.runtime.runner.running():
                self._ran = False
                garbage.collect()

    def _hear(self, event: Event) -> None:
        self._edition += isinstance(event, RunStarted | RunFinished | Reloaded)
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
            self._ticked = loop.time()
            self._metrics.lag.set(max(0.0, self._ticked - due))
            watchdog = self._notifier.watchdog
            if watchdog is not None and self._ticked - fed >= watchdog / 3 and health.live(self.health()).good:
                self._notifier.alive()
                fed = self._ticked
