"""The running daemon, seen from outside: what may be looked at, and what may be asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mirrord import __version__
from mirrord.config.load import Configuration, load_folder
from mirrord.daemon.runtime import Runtime, now
from mirrord.daemon.systemd import Notifier
from mirrord.daemon.upkeep import Upkeep
from mirrord.errors import BusyError, MirrordError, StorageError
from mirrord.events import Event, Events, Reloaded, RunFinished, RunStarted
from mirrord.model.plan import Plan
from mirrord.model.run import Run
from mirrord.report import health
from mirrord.report.health import Health
from mirrord.report.logs import Logs
from mirrord.report.metrics import Metrics
from mirrord.report.status import Status, StatusInput, status
from mirrord.schedule import Clock
from mirrord.syncer.serving import Serves
from mirrord.syncer.values import Backup, Publication, Services


class House:
    """Fulfils `serve.view.View` and `serve.view.Commands`."""

    def __init__(
        self,
        shop: Runtime,
        logs: Logs,
        metrics: Metrics,
        notifier: Notifier,
        *,
        folder: Path,
        state: Path,
        environ: Mapping[str, str],
    ) -> None:
        self._shop, self._logs, self._metrics, self._notifier = shop, logs, metrics, notifier
        self._folder, self._state, self._environ = folder, state, environ
        self._started = now()
        self._ticked = asyncio.get_running_loop().time()
        self._upkeep = Upkeep(shop, state, metrics)
        self._configuration_error = ""
        self._edition = 0
        self._reloading = asyncio.Lock()
        self.stopping = False
        self.clock = Clock(shop.runner.tick, now)
        shop.events.listen(self._hear)

    # What may be looked at

    @property
    def fronts(self) -> Mapping[str, Serves]:
        """See `View.fronts`."""
        syncers = self._shop.snapshot.syncers.values()
        return {prefix: syncer for syncer in syncers if isinstance(syncer, Serves) for prefix in syncer.prefixes}

    @property
    def events(self) -> Events:
        """See `Commands.events`."""
        return self._shop.events

    def services(self) -> Services:
        """See `View.services`."""
        return self._shop.snapshot.services

    def pulse(self) -> Health:
        """See `View.pulse`."""
        return Health(
            tick_age=asyncio.get_running_loop().time() - self._ticked,
            overdue=self._shop.runner.overdue(),
            scheduled=self.clock.running,
            storage=self._upkeep.trouble,
            stopping=self.stopping,
        )

    async def status(self) -> Status:
        """See `View.status`."""
        facts = StatusInput(
            __version__,
            now(),
            self._shop.snapshot.configuration.mirrors,
            running=self._shop.runner.running(),
            next_runs=self.clock.next_runs(),
            started=self._started,
            stopping=self.stopping,
            configuration_error=self._configuration_error,
        )
        try:
            facts = replace(facts, standing=await self._shop.store.standing())
        except MirrordError as error:
            self._upkeep.trouble = str(error)
        return await asyncio.to_thread(status, facts)

    async def metrics(self) -> bytes:
        """See `View.metrics`."""
        self._metrics.lost.set(self._logs.lost)
        return await asyncio.to_thread(self._metrics.text, self.clock.next_runs())

    def edition(self) -> int:
        """See `View.edition`."""
        return self._edition

    # What may be asked for

    @property
    def parallel(self) -> int:
        """See `Commands.parallel`."""
        return self._shop.snapshot.configuration.settings.parallel

    def known(self, mirrors: Sequence[str]) -> Sequence[str]:
        """See `Commands.known`."""
        if self.stopping:
            raise BusyError("mirrord is shutting down; ask again when it is back")
        return self._shop.snapshot.chosen(mirrors)

    async def sync(self, mirror: str, *, allow: bool = False) -> Run:
        """See `Commands.sync`."""
        return await self._shop.runner.sync(mirror, allow=allow)

    async def publish(self, mirror: str, publication: Publication) -> Run:
        """See `Commands.publish`."""
        return await self._shop.runner.publish(mirror, publication)

    async def backups(self, mirror: str) -> Sequence[Backup]:
        """See `Commands.backups`."""
        return await self._shop.runner.backups(mirror)

    async def restore(self, mirror: str, name: str, *, release: bool) -> Run:
        """See `Commands.restore`."""
        return await self._shop.runner.restore(mirror, name, release=release)

    async def plan(self, mirror: str) -> Plan:
        """See `Commands.plan`."""
        return await self._shop.runner.plan(mirror)

    async def reload(self) -> None:
        """See `Commands.reload`. Validates first, then swaps: a bad file changes nothing (bad input 73)."""
        async with self._reloading:
            self._notifier.reloading()
            try:
                old, syncers = self._shop.snapshot.configuration, self._shop.snapshot.syncers
                fresh = await asyncio.to_thread(load_folder, self._folder, syncers, self._environ)
                await self._take(old, fresh)
            except MirrordError as error:
                self._configuration_error = str(error)
                self.events.emit(Reloaded(str(error)))
                raise
            finally:
                self._notifier.ready(self.summary())

    async def _take(self, old: Configuration, fresh: Configuration) -> None:
        self.clock.replace(fresh.mirrors)
        await self._shop.adopt(fresh)
        self._configuration_error = ""
        await self.follow()
        for notice in (*fresh.notices, *_needs_restart(old, fresh)):
            self._logs.write("warning", "daemon.notice", message=notice)
        self.events.emit(Reloaded())

    # What it does by itself

    def start(self) -> None:
        """Begin to tick."""
        self.clock.start(self._shop.snapshot.configuration.mirrors)

    async def follow(self) -> None:
        """Let the metrics follow the configuration in use."""
        try:
            standing = await self._shop.store.standing()
        except MirrordError as error:
            self._upkeep.trouble, standing = str(error), []
        self._metrics.follow(self._shop.snapshot.configuration.mirrors, standing, now())

    async def after(self, run: Run) -> None:
        """Take note of a run that ended; when our disk failed it, or did before, see at once how that is now."""
        if self._upkeep.trouble or StorageError.code in {run.code, *(receipt.code for receipt in run.receipts)}:
            await self._upkeep.look()
        try:
            standing = await self._shop.store.standing()
        except MirrordError as error:
            self._upkeep.trouble = str(error)
        else:
            self._metrics.remember(entry for entry in standing if entry.mirror == run.mirror)
        self._edition += 1
        self._notifier.status(self.summary())

    def _hear(self, event: Event) -> None:
        self._edition += isinstance(event, RunStarted | RunFinished | Reloaded)
        if isinstance(event, RunStarted):
            self._notifier.status(self.summary())

    def summary(self) -> str:
        """Return one line about everything."""
        running = sorted(self._shop.runner.running())
        return f"{len(self._shop.snapshot.names)} mirrors; running: {', '.join(running) or 'none'}"

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
            if watchdog is not None and self._ticked - fed >= watchdog / 3 and health.live(self.pulse()).good:
                self._notifier.alive()
                fed = self._ticked

    async def look(self) -> None:
        """Look after the state for ever."""
        await self._upkeep.forever()


def _needs_restart(old: Configuration, fresh: Configuration) -> list[str]:
    before, after = old.settings, fresh.settings
    changed = [name for name in ("listen", "spool", "log") if getattr(before, name) != getattr(after, name)]
    return [f"settings.{name} changed; it counts from the next start on" for name in changed]
