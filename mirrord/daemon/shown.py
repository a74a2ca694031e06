"""What the running daemon shows: status, health, metrics, catalog, and through what clients may pull."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace

from mirrord import __version__
from mirrord.daemon.bucket_watch import BucketWatch
from mirrord.daemon.catalog import catalog
from mirrord.daemon.detail import add_record, add_uses
from mirrord.daemon.rows import rows_of
from mirrord.daemon.runtime import Runtime, now
from mirrord.daemon.seen_fleet import SeenFleet
from mirrord.daemon.sync_log import sync_log
from mirrord.errors import MirrordError
from mirrord.events import Event, Reloaded, RunFinished, RunStarted
from mirrord.model.catalog import CatalogEntry
from mirrord.model.history import Standing
from mirrord.model.replica import Replica, WaitingRuns
from mirrord.model.run import BESIDE, Run
from mirrord.pointing.client.mirror import ClientMirror
from mirrord.pointing.served import client_mirror
from mirrord.record.standings import standings_after
from mirrord.record.summary import RunSummary
from mirrord.report.board import Board
from mirrord.report.desks import IssueDeskStatus
from mirrord.report.front import FrontStatus, FrontTally, in_use
from mirrord.report.health import Health
from mirrord.report.logs import Logs
from mirrord.report.metrics import Metrics
from mirrord.report.mirror import MirrorDetail, Wish
from mirrord.report.rows import ListPart, RowsAsked
from mirrord.report.status import ReceiverStatus, Status
from mirrord.schedule import Clock
from mirrord.serve.incoming import TrustedProxies
from mirrord.serve.tls import ServedCertificate
from mirrord.syncer.serving import OpenedThrough, Serves
from mirrord.syncer.values import Addresses, Mirror, Services


class Shown:
    """The `View` of the pages. The daemon sets what it alone finds out.

    Attributes:
        ticked: loop time of the last tick.
        trouble: what is wrong with the state on disk, as of the last look, or "".
        configuration_error: why the last reload was refused, or "".
        bucket: whether the bucket of `local` answers, with `settings.blobs`.
        certificate: the certificate of the public address, with `settings.tls`.
        webhook_certificate: that of the webhook, with `webhook:`.
        receivers: returns how the receivers of notifications stand.
        desks: returns how the repositories stand in whose issues people ask.
        asks: returns how many images that were asked for have not ended, by state.
    """

    def __init__(
        self,
        runtime: Runtime,
        logs: Logs,
        metrics: Metrics,
        *,
        clock: Clock,
        opened: Mapping[str, OpenedThrough],
        listen: str,
    ) -> None:
        """Show what is open; `opened` has what serves in place of a kind's front, and may change."""
        self._runtime, self._logs, self._metrics, self._clock = runtime, logs, metrics, clock
        self._opened, self._listen = opened, listen
        self._started = now()
        self.ticked = asyncio.get_running_loop().time()
        self.trouble, self.configuration_error = "", ""
        self.bucket: BucketWatch | None = None
        self.certificate: ServedCertificate | None = None
        self.webhook_certificate: ServedCertificate | None = None
        self.receivers: Callable[[], tuple[ReceiverStatus, ...]] = tuple
        self.desks: Callable[[], tuple[IssueDeskStatus, ...]] = tuple
        self.asks: Callable[[], Mapping[str, int]] = dict
        self._fleet = SeenFleet(runtime.fleet.me.name if runtime.fleet else "", logs.write)
        self._edition = 0
        self._board = Board()
        self._tally = FrontTally()
        self._addresses: Mapping[str, Addresses] = {}
        runtime.events.listen(self._hear)
        runtime.events.listen(self._tally)

    @property
    def fronts(self) -> Mapping[str, Serves]:
        """See `View.fronts`."""
        serving = {kind: syncer.front for kind, syncer in self._runtime.snapshot.syncers.items() if syncer.front}
        return {prefix: front for front in {**serving, **self._opened}.values() for prefix in front.prefixes}

    def services(self) -> Services:
        """See `View.services`."""
        return self._runtime.snapshot.services

    def proxies(self) -> TrustedProxies:
        """See `View.proxies`."""
        settings = self._runtime.snapshot.configuration.settings
        return TrustedProxies(settings.proxies, settings.url or "")

    def health(self) -> Health:
        """See `View.health`."""
        return Health(
            tick_age=asyncio.get_running_loop().time() - self.ticked,
            overdue=self._runtime.runner.overdue(),
            scheduled=self._clock.running,
            storage=self.trouble or self._runtime.store.away,
            bucket=self.bucket.away if self.bucket else None,
            front="; ".join(front.list_troubles()) if (front := self.front()) and front.list_missing else "",
            stopping=self._runtime.runner.stopping,
        )

    async def status(self) -> Status:
        """See `View.status`."""
        status = await asyncio.to_thread(
            self._board.status,
            __version__,
            now(),
            self._runtime.snapshot.configuration.mirrors,
            running={**self._fleet.elsewhere(), **self._runtime.runner.running()},
            next_runs=self._clock.next_runs(),
            addresses=self._addresses,
            denied=self._runtime.snapshot.denied(),
            started=self._started,
            stopping=self._runtime.runner.stopping,
            configuration_error=self.configuration_error,
            front=self.front(),
        )
        certificate_error = self.certificate.error if self.certificate else ""
        about = self._runtime.snapshot.configuration.settings.about.about
        return replace(
            status,
            certificate_error=certificate_error,
            notify=self.receivers(),
            issues=self.desks(),
            about=about,
            asks=self.asks() if self._runtime.snapshot.configuration.asking else {},
            replicas=self._fleet.replicas,
            replica=self._fleet.here,
            replicas_at=self._fleet.looked,
            waiting=self._fleet.waiting.count,
            storage_error=self.trouble or self._runtime.store.away,
            bucket_error=self.bucket.away if self.bucket else "",
        )

    def front(self) -> FrontStatus | None:
        """Return what clients pulled through, or None where nothing can be."""
        return self._tally.status(front.standing() for front in self._opened.values()) if self._opened else None

    async def catalog(self) -> Sequence[CatalogEntry]:
        """See `View.catalog`."""
        current = self._runtime.snapshot
        return await catalog(current, self._runtime.store, current.names)

    def sync_log(self, mirrors: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """See `View.sync_log`."""
        current = self._runtime.snapshot
        return sync_log(current, self._runtime.store, mirrors or current.names)

    async def detail(self, name: str, wish: Wish) -> MirrorDetail | None:
        """See `View.detail`."""
        status, snapshot = await self.status(), self._runtime.snapshot
        found = next((mirror for mirror in status.mirrors if mirror.name == name), None)
        if found is None or name not in snapshot.names:
            return None
        schedule = snapshot.mirror(name).schedule
        detail = MirrorDetail(found, status.now, front=in_use(status.front), about=status.about, schedule=schedule)
        detail = await add_record(detail, snapshot, self._runtime.store, wish)
        url = snapshot.configuration.settings.address(self._listen)
        return await asyncio.to_thread(add_uses, detail, snapshot, url, wish)

    async def pointed(self) -> ClientMirror | None:
        """See `View.pointed`."""
        read = self._runtime.snapshot.configuration
        read = replace(read, settings=read.settings.model_copy(update={"listen": self._listen}))
        try:
            return (await asyncio.to_thread(client_mirror, read))[0]
        except MirrordError:
            return None

    async def rows(self, asked: RowsAsked) -> ListPart:
        """See `View.rows`."""
        return await rows_of(self._runtime.snapshot, self._runtime.store, asked)

    async def metrics(self) -> bytes:
        """See `View.metrics`."""
        self._metrics.lost.set(self._logs.lost)
        self._metrics.state.set(bool(self.trouble))
        self._metrics.bucket.failing.set(bool(self.bucket and self.bucket.away))
        for one in filter(None, (self.certificate, self.webhook_certificate)):
            self._metrics.certificate(one.name, one.expires, one.error)
        self._metrics.receivers(self.receivers())
        self._metrics.desks(self.desks())
        self._metrics.asks.stand(self.asks())
        self._metrics.fleet.stand(self._fleet.replicas, self._fleet.waiting, now(), self._fleet.looked)
        services = self._runtime.snapshot.services
        clients = (services.http, services.upstreams) if services.upstreams else (services.http,)
        self._metrics.circuits(frozenset().union(*(client.resting() for client in clients)))
        self._metrics.concurrency(services.http.at_once())
        if (front := self.front()) is not None:
            self._metrics.cached(front)
        return await asyncio.to_thread(self._metrics.text, self._clock.next_runs())

    def edition(self) -> int:
        """See `View.edition`."""
        return self._edition

    async def follow(self) -> None:
        """Let status and metrics follow the configuration in use."""
        standing = await self._standing()
        self._board = Board(standing)  # without those that are gone
        self._addresses = self._runtime.snapshot.addresses(self._listen)
        upstreams = [host for rules in self._runtime.snapshot.configuration.fronts.values() for host in rules.upstreams]
        self._metrics.follow(self._measured(), standing, now(), upstreams)

    def webhook_refused(self, error: str) -> None:
        """Count that the webhook has no certificate."""
        self._metrics.certificate("webhook", None, error)

    async def follow_denied(self) -> None:
        """Let metrics follow what was taken down."""
        self._metrics.mirrors.follow(self._measured(), await self._standing())
        self._edition += 1

    def _measured(self) -> Sequence[Mirror]:
        """Return the mirrors that may run: an alert would wait in vain for the others."""
        snapshot = self._runtime.snapshot
        denied = snapshot.denied()
        return [one for one in snapshot.configuration.mirrors if one.name not in denied]

    async def follow_others(self, replicas: Sequence[Replica], waiting: WaitingRuns) -> Sequence[Standing]:
        """Show what the replicas do, and how the mirrors stand that they ran; return that."""
        self._fleet.follow(replicas, waiting, now())
        standing = await self.read()
        self._edition += 1
        return standing

    async def read(self) -> Sequence[Standing]:
        """Take from the record how all mirrors stand; return that."""
        standing = await self._standing()
        self._remember(standing)
        return standing

    async def after(self, run: Run) -> None:
        """Show how a mirror stands after a run, also when the record did not take it."""
        standing = await self._standing(run.mirror)
        recorded = run.trigger in BESIDE  # which does not change when it was last run
        if not recorded and not any(entry.last_attempt and entry.last_attempt >= run.finished for entry in standing):
            summary = await asyncio.to_thread(RunSummary.of, run)
            standing = standings_after(self._board.known(run.mirror), summary)
        self._remember(standing)
        self._edition += 1

    async def verified(self, mirror: str) -> None:
        """Show what a verification found."""
        self._remember(await self._standing(mirror))
        self._edition += 1

    async def _standing(self, mirror: str | None = None) -> Sequence[Standing]:
        """Ask the record; when that cannot be read the daemon goes on without, and says so."""
        try:
            return await self._runtime.store.standing(mirror)
        except MirrordError as error:
            self.trouble = str(error)
            return ()

    def _remember(self, standing: Sequence[Standing]) -> None:
        self._board.learn(standing)
        self._metrics.mirrors.remember(standing)

    def _hear(self, event: Event) -> None:
        self._edition += isinstance(event, RunStarted | RunFinished | Reloaded)
