"""A small world for tests of mirrors: doubles on one wire, real services, a record, and a clock that stands still.

async with open_world(tmp_path) as world:
source, one = await world.registry("source"), await world.registry("one")
await push(build_image(), source, "team/app", ["main"])
run = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, one, LOCAL))
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source_queue import PATIENCE, Patience
from mirrord.events import Events
from mirrord.model.plan import Plan
from mirrord.model.run import Receipt, Run
from mirrord.pipeline import plan_mirror, run_mirror
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import LOCAL, Mirror, Publication, Services, Target
from mirrord.syncers.image import front
from mirrord.syncers.image.syncer import SYNCER
from mirrord.testing.exchange import Wire
from mirrord.testing.registry import Registry
from mirrord.testing.servers import DockerRegistry
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import Limits
from tests.support.localstore import tags_in
from tests.support.store import MemoryStore

PREFIX = "mirror"  # images are pushed to `<target>/mirror/<name>`
IMAGE = SYNCER


@dataclass(slots=True)
class World:
    """Where mirrors of images are run.

    Attributes:
        folder: state and files of the test.
        services: real ones, with backoff that takes no time.
        wire: orders the moments of all doubles.
        store: what is remembered.
        now: what the clock says.
        parallel: images under way at once.
    """

    folder: Path
    services: Services
    stack: contextlib.AsyncExitStack = field(repr=False)
    wire: Wire = field(default_factory=Wire)
    store: MemoryStore = field(default_factory=MemoryStore)
    now: datetime = datetime(2024, 5, 17, 12, tzinfo=UTC)
    parallel: int = 4

    async def registry(self, name: str, **options: Any) -> Registry:
        """Start a double on the common wire; `options` as `Registry` takes them."""
        return await self.stack.enter_async_context(Registry(name=name, wire=self.wire, **options))

    def mirror(
        self,
        source: Mapping[str, Any],
        *targets: Registry | DockerRegistry | str,
        name: str = "app",
        places: Mapping[str, str] | None = None,
        trust: float = 12 * 3600.0,
        deadline: float = 60.0,
        **keys: Any,
    ) -> Mirror:
        """Make a mirror.

        Args:
            source: its `from:`.
            targets: doubles, real registries (named by their host) or `local`.
            name: of the mirror.
            places: further targets: `to` by name.
            trust: seconds for which the record is trusted.
            deadline: seconds for a run.
            keys: further keys of the mirror, such as `publish`.
        """
        to = {_name(target): LOCAL if isinstance(target, str) else f"{target.host}/{PREFIX}" for target in targets}
        spec = IMAGE.spec.model_validate({"from": dict(source), **keys})
        made = [Target(key, "image", value, IMAGE.target_spec()) for key, value in (to | dict(places or {})).items()]
        return Mirror(name, "image", spec, tuple(made), deadline=deadline, trust=trust)

    async def plan(self, mirror: Mirror) -> Plan:
        """Decide what a run would do."""
        return await plan_mirror(mirror, IMAGE, self.services, self.store, self.now)

    async def run(self, mirror: Mirror) -> Run:
        """Run a mirror once, and remember."""
        return await self._walk(mirror, mirror)

    async def publish(
        self, mirror: Mirror, source: str, *names: str, if_newest: bool = False, number: int | None = None
    ) -> Run:
        """Publish one build to the targets of `mirror` under `names`, the one that stays first.

        `number` is that of a publish which was accepted before, with `world.store.accept`.
        """
        assert IMAGE.publishing
        number = await self.store.accept(mirror.name) if number is None else number
        publication = Publication(source, names, if_newest, number, self.now)
        return await self._walk(IMAGE.publishing(mirror, publication), mirror, "publish")

    async def _walk(self, mirror: Mirror, home: Mirror, trigger: str = "command") -> Run:
        services, clock, parallel = self.services, lambda: self.now, self.parallel
        return await run_mirror(mirror, IMAGE, services, self.store, trigger, clock=clock, parallel=parallel, home=home)

    def later(self, **span: float) -> None:
        """Let time pass, as `timedelta` takes it."""
        self.now += timedelta(**span)

    async def local(self, path: str) -> Response:
        """Return what the local store has under a path below `/v2/`."""
        return await front.respond(Request("GET", "/v2/", path, {}), self.services)

    def local_tags(self, repository: str = "app") -> dict[str, str]:
        """Return the tags that the local store has."""
        return dict(tags_in(self.folder / "repositories", repository))

    def spooled(self) -> list[Path]:
        """Return the files of the spool."""
        return sorted((self.folder / "spool").iterdir())


def by_target(run: Run) -> dict[str, Receipt]:
    """Return the receipts of a run with one item, by target."""
    return {receipt.step.target: receipt for receipt in run.receipts}


@contextlib.asynccontextmanager
async def open_world(
    folder: Path,
    *,
    budget: int = 64 << 20,
    grace: float = 0.05,
    patience: Patience = PATIENCE,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    book: HostBook | None = None,
) -> AsyncIterator[World]:
    """Build a world with its state below `folder`; `budget`, `grace` and `patience` are the spool's."""
    events = Events()
    for name in ("spool", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(Http(book or HostBook(), events, limits, jitter=lambda: 0.0))
        spools = SpoolPool(folder / "spool", budget, events, grace, patience=patience)
        store, links = DiskStore(folder / "blobs"), DiskRepositories(folder / "repositories")
        services = Services(http, spools, events, folder / "scratch", store, links)
        async with contextlib.AsyncExitStack() as doubles:  # they go first: clients that wait for them are let go
            doubles.push_async_callback(spools.aclose)
            yield World(folder, services, doubles)


def _name(target: Registry | DockerRegistry | str) -> str:
    return target if isinstance(target, str) else getattr(target, "name", target.host)
