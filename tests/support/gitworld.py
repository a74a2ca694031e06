"""A world in which whole runs of Git mirrors are driven: real git hosts, a record, and a clock that stands still.

async with open_git_world(tmp_path) as world:
    source, one = await world.host("source"), await world.host("one")
    upstream = Upstream(source.create("app.git"))
    one.create("app.git")
    run = await world.run(world.mirror(source.url("app.git"), one=one.url("app.git"), local=LOCAL))
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mirrord import failpoints
from mirrord.blobs.pool import SpoolPool
from mirrord.events import Events
from mirrord.model.plan import Plan
from mirrord.model.run import Receipt, Run
from mirrord.pipeline import plan_mirror, run_mirror
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.git.kept.cache import MirrorCache
from mirrord.syncers.git.syncer import SYNCER
from mirrord.testing.exchange import Wire
from mirrord.testing.githost import GitHost
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import Limits
from tests.support.hostrules import RuledHost
from tests.support.store import FileFacts, MemoryStore

GIT = SYNCER
SPOOL = 1 << 20


@dataclass(slots=True)
class GitWorld:
    """Where mirrors of repositories are run.

    Attributes:
        folder: state and hosts of the test.
        services: real ones, with backoff that takes no time.
        stack: what ends with the test.
        wire: orders the moments of all hosts.
        store: what is remembered.
        now: what the clock says.
    """

    folder: Path
    services: Services
    stack: contextlib.AsyncExitStack = field(repr=False)
    wire: Wire = field(default_factory=Wire)
    store: MemoryStore = field(default_factory=MemoryStore)
    now: datetime = datetime(2024, 5, 17, 12, tzinfo=UTC)

    async def host(self, name: str, **options: Any) -> GitHost:
        """Start a host on the common wire; `options` as `RuledHost` takes them."""
        return await self.stack.enter_async_context(RuledHost(self.folder / name, wire=self.wire, **options))

    def mirror(
        self,
        source: str,
        places: Mapping[str, str] | None = None,
        *,
        name: str = "app",
        keys: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        **more: str,
    ) -> Mirror:
        """Make a mirror: `keys` are the mirror's, `options` every target's, `places` and `more` say `to` by name."""
        spec = GIT.spec.model_validate({"from": source, **(keys or {})})
        made = [
            Target(key, "git", to, GIT.target_spec.model_validate({} if to == LOCAL else dict(options or {})))
            for key, to in {**(places or {}), **more}.items()
        ]
        return Mirror(name, "git", spec, tuple(made), deadline=120.0)

    async def plan(self, mirror: Mirror) -> Plan:
        """Decide what a run would do."""
        return await plan_mirror(mirror, GIT, self.services, self.store, self.now)

    async def run(self, mirror: Mirror, *, allow: bool = False) -> Run:
        """Run a mirror once, and remember; time passes afterwards."""
        clock, moment = self.now, replace(mirror, allow=allow)
        run = await run_mirror(moment, GIT, self.services, self.store, "command", clock=lambda: clock, parallel=4)
        self.later(days=1)
        return run

    def later(self, **span: float) -> None:
        """Let time pass, as `timedelta` takes it."""
        self.now += timedelta(**span)

    def cache(self, mirror: Mirror) -> MirrorCache:
        """Return the cache of a mirror, to look into."""
        return MirrorCache(mirror, self.services)

    async def backups(self, mirror: Mirror) -> dict[str, str]:
        """Return what is backed up: ref → object."""
        return {one.ref: one.oid for one in await self.cache(mirror).repository.backups()}


def receipts(run: Run, target: str) -> dict[str, Receipt]:
    """Return the receipts of one target, by ref."""
    return {receipt.step.item: receipt for receipt in run.receipts if receipt.step.target == target}


@contextlib.asynccontextmanager
async def open_git_world(folder: Path, *, book: HostBook | None = None) -> AsyncIterator[GitWorld]:
    """Build a world with its state below `folder`; the same again after a restart."""
    events = Events()
    for name in ("spool", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(Http(book or HostBook(), events, Limits(), jitter=lambda: 0.0))
        spools = SpoolPool(folder / "spool", SPOOL, events, 0.05)
        stack.push_async_callback(spools.aclose)
        async with contextlib.AsyncExitStack() as doubles:  # they go first: clients that wait for them are let go
            facts = FileFacts(folder / "facts")
            services = Services(http, spools, events, folder / "scratch", keep=folder, facts=facts)
            yield GitWorld(folder, services, doubles)


async def run_until(folder: Path, source: str, stop: str, targets: Mapping[str, str]) -> None:
    """Run the mirror of `source`, and end this (child) process at the failpoint `stop` (or nowhere: ""), as kill -9."""
    async with open_git_world(folder) as world:
        if stop:
            failpoints.arm(stop, failpoints.crash)
        await world.run(world.mirror(source, targets))


def main() -> None:
    """Do what `run_until` does, as the arguments say: folder, source, failpoint, and targets as `name=to`."""
    folder, source, stop, *targets = sys.argv[1:]
    asyncio.run(run_until(Path(folder), source, stop, dict(one.split("=", 1) for one in targets)))


if __name__ == "__main__":
    main()
