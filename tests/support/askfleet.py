"""Replicas in this process that people ask for images; a test says who leads, and whose process stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest.mock import patch

from mirrord.daemon.asking import AskDesk
from mirrord.daemon.runtime import Runtime, open_runtime
from mirrord.events import Event, Events
from mirrord.model.request import ASKED, AskEnded
from mirrord.record.fleet import Fleet, Pace
from tests.support.asking import SYNCERS, configured
from tests.support.fleets import until
from tests.support.postgres import Postgres
from tests.support.quickreplica import shared_record

PACE = Pace(beat=0.2, stale=60.0, sweep=0.3)  # nobody counts as dead on a machine that is slow


class HaltedFleet(Fleet):
    """Gives no signs of life while it is `halted`, as a process that was stopped."""

    halted = False

    async def sign(self, patience: float = 0.0) -> None:
        async with self._taking.hold("~sign"):
            if not self.halted:
                await super().sign(patience)

    async def halt(self) -> None:
        """Give no more signs; the last one is over."""
        self.halted = True
        async with self._taking.hold("~sign"):
            pass


@dataclass
class AskedReplica:
    """A replica that may be asked.

    Attributes:
        ends: what it told of images that ended.
    """

    runtime: Runtime
    desk: AskDesk
    server: Postgres
    ends: list[AskEnded] = field(default_factory=list)
    _leading: asyncio.Task[None] | None = None

    @property
    def fleet(self) -> HaltedFleet:
        assert isinstance(self.runtime.fleet, HaltedFleet)
        return self.runtime.fleet

    async def lead(self) -> None:
        """Lead as soon as nobody else does; return when that is so."""
        self.want_lead()
        await until(lambda: self.desk._runs.works)

    def want_lead(self) -> None:
        """Lead as soon as nobody else does."""
        self._leading = asyncio.create_task(self.fleet.lead(self.desk.lead))

    async def resign(self) -> None:
        """Lead no more; what runs goes on."""
        if self._leading:
            self._leading.cancel()
            with suppress(asyncio.CancelledError):
                await self._leading
            self._leading = None
            await self.desk.lead()

    async def halt(self) -> None:
        """Be as a process that was stopped for longer than its leases last."""
        await self.fleet.halt()
        self.server.sql(
            f"UPDATE leases SET until = now() - interval '1 s' WHERE replica = '{self.fleet.me.name}'",
            database="mirrord",
        )

    async def copies(self) -> None:
        """Wait until a run of this replica has an image."""
        await until(lambda: any(one.here for one in self.desk._runs.queue))

    def hear(self, event: Event) -> None:
        if isinstance(event, AskEnded):
            self.ends.append(event)


@asynccontextmanager
async def asked_replica(folder: Path, server: Postgres, section: str, more: str) -> AsyncIterator[AskedReplica]:
    """Open one over `folder`, which does not lead."""
    state = folder / "state"
    state.mkdir(parents=True)
    read = await configured(folder, section, f"{more}\nsettings: {{record: {shared_record(folder, server)}}}")
    events = Events()
    with patch("mirrord.daemon.replica.Fleet", partial(HaltedFleet, pace=PACE)):
        opening = open_runtime(read, SYNCERS, state, events)
        runtime = await opening.__aenter__()
    try:
        desk = AskDesk(runtime)
        await desk.resume()
        replica = AskedReplica(runtime, desk, server)
        events.listen(replica.hear)
        yield replica
        await replica.resign()
        await runtime.runner.stop(0.0)
        await desk.close()
    finally:
        await opening.__aexit__(None, None, None)


async def runs_of(replica: AskedReplica) -> int:
    """Return how many runs are recorded."""
    return len(await replica.runtime.store.runs(ASKED))
