"""A world in which whole runs of chart mirrors are driven: a repository, targets of every kind, and a clock.

async with open_chart_runs(tmp_path) as runs:
    mirror = runs.mirror(source.url, local=LOCAL, site=tmp_path / "site")
    done = await runs.run(mirror)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mirrord import failpoints
from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.pool import SpoolPool
from mirrord.events import Events
from mirrord.model.digest import Digest
from mirrord.model.plan import Plan
from mirrord.model.run import Receipt, Run
from mirrord.pipeline import plan_mirror, run_mirror
from mirrord.record.store import open_store
from mirrord.syncer.values import Mirror, Services, Target
from mirrord.syncers.helm.names import CHARTS, INDEX, OCI
from mirrord.syncers.helm.syncer import SYNCER
from mirrord.testing.registry import Registry
from mirrord.testing.servers import DockerRegistry
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import Limits
from tests.support.chartservers import ChartMuseumServer, CodingServer
from tests.support.chartworld import read_entries
from tests.support.localstore import files_in
from tests.support.store import FileFacts, MemoryStore

HELM = SYNCER
NOW = datetime(2024, 6, 17, 12, tzinfo=UTC)
SPOOL = 64 << 20
CHARTS_AT = "team/charts"  # path of charts in a registry
WRITES = frozenset({"os.rename", "os.link", "os.remove", "os.mkdir", "open"})

Place = CodingServer | ChartMuseumServer | Registry | DockerRegistry | Path | str


@dataclass(slots=True)
class ChartRuns:
    """Where mirrors of charts are run.

    Attributes:
        folder: state of the test.
        services: real ones, with waits that take no time.
        store: what is remembered.
        now: what the clock says.
        parallel: charts under way at once.
    """

    folder: Path
    services: Services
    store: MemoryStore = field(default_factory=MemoryStore)
    now: datetime = NOW
    parallel: int = 4

    def mirror(
        self,
        source: str,
        *,
        name: str = "app",
        trust: float = 12 * 3600.0,
        keys: Mapping[str, Any] | None = None,
        also: Mapping[str, Place] | None = None,
        **targets: Place,
    ) -> Mirror:
        """Make a mirror of `source` with further `keys`; `targets` are doubles, real registries, folders or `local`."""
        spec = HELM.spec.model_validate({"from": source, **(keys or {})})
        made = tuple(_target(*one) for one in {**(also or {}), **targets}.items())
        return Mirror(name, "helm", spec, made, deadline=60.0, trust=trust)

    async def run(self, mirror: Mirror) -> Run:
        """Run a mirror once, and remember."""
        clock = lambda: self.now  # noqa: E731 - as short as a name
        return await run_mirror(mirror, HELM, self.services, self.store, "command", clock=clock, parallel=self.parallel)

    async def plan(self, mirror: Mirror) -> Plan:
        """Decide what a run would do."""
        return await plan_mirror(mirror, HELM, self.services, self.store, self.now)

    def later(self, **span: float) -> None:
        """Let time pass, as `timedelta` takes it."""
        self.now += timedelta(**span)

    def notes(self) -> list[Path]:
        """Return the files in which the syncer notes what it wants to find again."""
        return sorted((self.folder / "facts").glob("*.json"))

    def local(self, name: str = "app") -> Mapping[str, bytes]:
        """Return what the local store shows of a mirror: content by name, read anew as after a restart."""
        return files_in(self.folder / "links", self.folder / "blobs", f"_helm/{name}")


def site(folder: Path) -> Mapping[str, bytes]:
    """Return what a folder target shows: content by name, also of files that no web server would show."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def sound(shown: Mapping[str, bytes]) -> Mapping[str, Digest]:
    """Check that each listed archive is there and is what the index says; return the list, by item."""
    listed = read_entries(shown[INDEX]) if INDEX in shown else {}
    for item, digest in listed.items():
        assert Digest.of(shown.get(f"{CHARTS}/{item}.tgz", b"")) == digest, f"{item} is listed and not there"
    return listed


def receipts(run: Run) -> Mapping[tuple[str, str], Receipt]:
    """Return the receipts of a run by target and item."""
    return {(receipt.step.target, receipt.step.item): receipt for receipt in run.receipts}


@contextlib.asynccontextmanager
async def open_chart_runs(
    folder: Path, *, book: HostBook | None = None, state: bool = True, spool: int = SPOOL
) -> AsyncIterator[ChartRuns]:
    """Build a world with its state below `folder`, and a spool of so many bytes; the same again after a restart."""
    events = Events()
    for name in ("spool", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    async with Http(book or HostBook(), events, Limits(), jitter=lambda: 0.0) as http:
        spools = SpoolPool(folder / "spool", spool, events, 0.05)
        services = Services(http, spools, events, folder / "scratch")
        if state:
            store, links = DiskStore(folder / "blobs"), DiskRepositories(folder / "links")
            links.sweep()
            store.sweep(await links.linked())
            facts = FileFacts(folder / "facts")
            services = Services(http, spools, events, folder / "scratch", store, links, folder, facts=facts)
        try:
            yield ChartRuns(folder, services)
        finally:
            await spools.aclose()


@contextlib.asynccontextmanager
async def open_recorded(folder: Path) -> AsyncIterator[ChartRuns]:
    """Build a world as `open_chart_runs` does, whose record is the real one."""
    async with open_chart_runs(folder) as runs:
        runs.store = await open_store(folder / "record.db", runs.now)  # type: ignore[assignment]  # for real
        yield runs
        await runs.store.close()


def run_until(folder: Path, source: str, stop: int | str, keys: Mapping[str, Any], targets: Mapping[str, str]) -> None:
    """Run the mirror of `source` to `targets` and end the process on the way, as a kill -9 would.

    For a child process.

    Args:
        folder: of the state.
        source: URL of the repository.
        stop: the number of the write to a disk before which it ends, or the name of a failpoint.
        keys: of the mirror.
        targets: by name, as `place_of` writes them.
    """
    left = stop if isinstance(stop, int) else sys.maxsize

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in WRITES and _lasting(folder, event, arguments):
            left -= 1
            if left < 0:
                failpoints.crash()

    async def work() -> None:
        async with open_chart_runs(folder) as runs:
            if isinstance(stop, str):
                failpoints.arm(stop, failpoints.crash)
            else:
                sys.addaudithook(count)
            run = await runs.run(runs.mirror(source, keys=keys, also=targets))
            os._exit(0 if not run.error and all(receipt.good for receipt in run.receipts) else 1)

    asyncio.run(work())


def place_of(place: Place) -> str:
    """Return a target in one word: `local`, a path, `oci://…`, or its API, a plus and its URL."""
    if isinstance(place, Registry | DockerRegistry):
        return f"{OCI}{place.host}/{CHARTS_AT}"
    if isinstance(place, CodingServer | ChartMuseumServer):
        return f"{'coding' if isinstance(place, CodingServer) else 'chartmuseum'}+{place.url}"
    return str(place)


def _lasting(folder: Path, event: str, arguments: tuple[object, ...]) -> bool:
    """Whether something below `folder` is written that outlives a run; files are opened for reading all the time."""
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        return False
    paths = [path for path in map(str, arguments[:2]) if path.startswith(f"{folder}/")]
    return any(not path.startswith(f"{folder}/scratch") for path in paths)


def _target(name: str, place: Place) -> Target:
    api, plus, url = place_of(place).partition("+")
    if plus and api in ("coding", "chartmuseum"):
        return Target(name, "helm", url, HELM.target_spec.model_validate({"api": api}))
    return Target(name, "helm", place_of(place), HELM.target_spec())
