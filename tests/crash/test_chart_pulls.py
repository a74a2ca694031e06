"""Collections of charts while clients pull, and how their work grows."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mirrord.blobs.disk import DiskStore
from mirrord.blobs.repositories import ManifestRef
from mirrord.daemon import judging
from mirrord.daemon.collecting import GarbageCollection
from mirrord.daemon.runtime import Runtime
from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.syncer import SYNCER
from mirrord.syncers.helm.transfer.emit import emit_json
from mirrord.testing import require
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.chartprograms import helm
from tests.support.chartworld import read_entries
from tests.support.commands import Desk
from tests.support.frontserver import open_front
from tests.support.localstore import files_in

LOG = frozenset({"open", "os.remove", "os.rename", "os.link", "os.scandir", "os.utime"})


@asynccontextmanager
async def running(desk: Desk, source: str, keep: str) -> AsyncIterator[tuple[Runtime, GarbageCollection]]:
    desk.configure(f"mirrors:\n  - {{name: app, kind: helm, from: '{source}', keep: {keep}, to: local}}\n")
    async with desk.opened() as runtime:
        assert runtime.collector is not None
        yield runtime, GarbageCollection(runtime, runtime.collector)


def listed(state: Path) -> set[str]:
    """Return what the index lists; one that is replaced and collected while it is read is read again."""
    for _ in range(100):
        if index := files_in(state / "repositories", state / "blobs", "_helm/app").get("index.yaml"):
            return set(read_entries(index))
    raise AssertionError("there is no index")


async def test_helm_pulls_during_collections(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients (helm) pull over a socket while versions come and go: what the index lists is there, at any moment."""
    require("helm3")
    monkeypatch.setattr(judging, "READING", 0.0)  # whoever pulled an old version keeps none of them
    pulls, gone, state = Counter[str](), 0, desk.folder / "state"
    async with ChartRepository() as source, running(desk, source.url, "{newest: 2}") as (runtime, work):
        for number in range(4):
            source.add(build_chart("app", f"1.{number}.0"))
        assert not (await runtime.runner.sync("app")).error
        ended = asyncio.Event()
        async with open_front(runtime.snapshot.services, SYNCER) as url, helm("helm3") as run:

            async def pull(client: int, back: int) -> None:
                """Pull the newest version, or one before it."""
                (place := desk.folder / f"{client}").mkdir()
                while not ended.is_set():
                    shown = sorted(listed(state), key=lambda item: int(item.split(".")[1]))
                    version = shown[-1 - back].removeprefix("app-")
                    said = await run("pull", "app", "--repo", f"{url}/helm/app", "--version", version, "-d", place)
                    if said.status:
                        assert f"app-{version}" not in listed(state), said  # dropped since it was looked for
                    pulls["missed" if said.status else "done"] += 1

            pulling = [asyncio.create_task(pull(client, client)) for client in range(2)]
            for number in range(4, 12):
                source.add(build_chart("app", f"1.{number}.0"))
                await asyncio.gather(runtime.runner.sync("app"), work.collect())
                gone += len((await work.collect()).gone)
                done = pulls["done"]
                while pulls["done"] < done + 3 and not any(one.done() for one in pulling):
                    await asyncio.wait(pulling, timeout=0.05)
            ended.set()
            await asyncio.gather(*pulling)
    assert pulls["done"] >= 24, pulls
    assert gone >= 8


async def test_who_needs_versions_meanwhile(desk: Desk) -> None:
    """While a run of the mirror is under way nothing is dropped; nor is what another run needs, and the rest goes."""
    async with ChartRepository() as source, running(desk, source.url, "{newest: 2}") as (runtime, work):
        charts = [build_chart("app", f"1.{number}.0") for number in range(4)]
        for chart in charts:
            source.add(chart)
        assert not (await runtime.runner.sync("app")).error
        async with runtime.runner.leases.hold("app"):
            found = await work.collect()
            assert (found.gone, found.troubles, len((await work.collect(dry=True)).gone)) == ((), (), 2)
        repositories = runtime.snapshot.services.repositories
        assert repositories
        with repositories.lease() as lease:
            await lease.hold([charts[0].digest])
            assert [one.name for one in (await work.collect()).gone] == ["charts/app-1.1.0.tgz"]
            assert listed(desk.folder / "state") == {"app-1.0.0", "app-1.2.0", "app-1.3.0"}
        assert [one.name for one in (await work.collect()).gone] == ["charts/app-1.0.0.tgz"]


async def counted(desk: Desk, count: int) -> Counter[str]:
    """Collect a repository of so many versions of which two stay; return the operations on files."""
    async with running(desk, "https://charts.example", "{newest: 2}") as (runtime, work):
        services = runtime.snapshot.services
        assert isinstance(services.blobs, DiskStore)
        assert services.repositories
        charts, tags, links = [], dict[str, Digest](), dict[Digest, ManifestRef]()
        for number in range(count):
            data = f"{number}".encode()
            digest, version = Digest.of(data), f"1.{number}.0"
            entry = {"apiVersion": "v2", "name": "app", "version": version}
            charts.append(ChartVersion("app", version, digest, (), None, deprecated=False, entry=entry))
            place = services.blobs.place(digest)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            tags[f"charts/app-{version}.tgz"], links[digest] = digest, ManifestRef("application/gzip", len(data))
        index = emit_json(charts)
        tags["index.yaml"] = Digest.of(index)
        links[tags["index.yaml"]] = ManifestRef("application/json", len(index))
        await services.blobs.put(tags["index.yaml"], index)
        await services.repositories.publish("_helm/app", links, tags)
        seen, state = Counter[str](), str(desk.folder / "state")

        def count_it(event: str, arguments: tuple[object, ...]) -> None:
            if event in LOG and on and str(arguments[0]).startswith(state):
                seen[event] += 1

        on = True
        sys.addaudithook(count_it)  # it stays, and counts nothing after this
        found = await work.collect()
        on = False
        assert (len(found.gone), found.troubles) == (count - 2, ())
        assert listed(desk.folder / "state") == {f"app-1.{count - 1}.0", f"app-1.{count - 2}.0"}
        return seen


async def test_ten_thousand_versions(tmp_path: Path) -> None:
    """A collection removes each file once, and writes the index and the names once however many versions there are."""
    found = {}
    for count in (1_000, 10_000):
        (folder := tmp_path / str(count)).mkdir()
        found[count] = await counted(Desk(folder), count)
        assert found[count]["os.remove"] <= count + 50
    little, much = ({**one, "os.remove": 0} for one in found.values())
    assert sum(much.values()) <= sum(little.values()) + 50, found
