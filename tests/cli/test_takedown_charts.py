"""`mirrord takedown MIRROR CHART-VERSION`, end to end: one version of a chart goes everywhere, and comes back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from mirrord.testing import DockerRegistry, require
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import Chart, build_chart
from tests.support.chartfiles import sign_chart
from tests.support.chartprograms import helm, helms
from tests.support.chartservers import CodingServer
from tests.support.commands import Desk

FIRST, STAYS = build_chart("app", "1.0.0"), build_chart("app", "2.0.0")
AGAIN = build_chart("app", "1.0.0", metadata={"description": "packaged again"})
REASON = "ticket 4711"


class Station:
    """A mirror of charts with every sort of target."""

    def __init__(self, folder: Path, source: ChartRepository, registries: list[DockerRegistry], museum: CodingServer):
        self.desk, self.source, self.registries, self.coding = Desk(folder), source, registries, museum
        self.site, self.denied = folder / "site", folder / "denied.yaml"
        self.denied.touch()
        targets = {f"r{number}": f"oci://{one.host}/team" for number, one in enumerate(registries)}
        targets["site"] = str(self.site)
        all_targets: dict[str, object] = {name: {"kind": "helm", "to": to} for name, to in targets.items()}
        all_targets["coding"] = {"kind": "helm", "to": museum.url, "api": "coding"}
        keys = {"changed": "replace", "removed": "keep"}
        mirror = {"name": "charts", "kind": "helm", "from": source.url, "to": [*all_targets, "local"], **keys}
        sections = {
            "settings": {"listen": "127.0.0.1:0", "denied": str(self.denied)},
            "targets": all_targets,
            "mirrors": [mirror],
        }
        self.desk.configure("".join(f"{name}: {json.dumps(value)}\n" for name, value in sections.items()))

    async def at_registries(self, ref: str) -> list[int]:
        """Ask the registries for a manifest of the chart."""
        return [await status(f"{one.url}/v2/team/app/manifests/{ref}") for one in self.registries]

    async def manifest(self, tag: str) -> str:
        """Return the digest of a version's manifest."""
        async with aiohttp.ClientSession() as client:
            url = f"{self.registries[0].url}/v2/team/app/manifests/{tag}"
            async with client.head(url, headers=ACCEPT) as answer:
                return answer.headers["Docker-Content-Digest"]

    def kept(self, chart: Chart) -> bool:
        """Whether the store has an archive under any name."""
        return any(file.name == chart.digest.hex for file in (self.desk.folder / "state").rglob("*") if file.is_file())

    def on_site(self) -> tuple[set[str], bool]:
        """Return the archives of the folder, and whether its index names the one that was taken down."""
        files = {file.name for file in (self.site / "charts").iterdir()}
        return files, "app-1.0.0.tgz" in (self.site / "index.yaml").read_text()


ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json"}


async def status(url: str) -> int:
    async with aiohttp.ClientSession() as client, client.get(url, headers=ACCEPT) as answer:
        await answer.read()
        return answer.status


@pytest.fixture
async def station(tmp_path: Path) -> AsyncIterator[Station]:
    require("docker-registry", "registry3")
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(ChartRepository())
        coding = await stack.enter_async_context(CodingServer(overwrite=True))
        registries = [
            await stack.enter_async_context(DockerRegistry(program=one)) for one in ("docker-registry", "registry3")
        ]
        for chart in (FIRST, STAYS):
            source.add(chart, prov=sign_chart(chart.data))
        yield Station(tmp_path, source, registries, coding)


async def test_one_version_goes_everywhere_and_comes_back(station: Station) -> None:
    """Also what `local` kept of an earlier archive; what no run can delete is listed; others stay; a lift undoes it."""
    desk, source = station.desk, station.source
    assert (await desk.run("sync")).status == 0
    source.entries.clear()
    for chart in (AGAIN, STAYS):
        source.add(chart, prov=sign_chart(chart.data))
    assert (await desk.run("sync")).status == 0
    manifest = await station.manifest("1.0.0")
    assert station.kept(FIRST)
    done = await desk.run("takedown", "charts", "app-1.0.0", "--reason", REASON, "--json")
    assert done.status == 2, (done.out, done.err)
    assert [(one["target"], one["what"]) for one in done.document["left"]] == [("coding", "app-1.0.0")]
    assert sorted(one["target"] for one in done.document["removed"]) == ["local", "r0", "r1", "site"]
    for ref in ("1.0.0", manifest):
        assert await station.at_registries(ref) == [404, 404]
    assert await station.at_registries("2.0.0") == [200, 200]
    assert station.on_site() == ({"app-2.0.0.tgz", "app-2.0.0.tgz.prov"}, False)
    assert not station.kept(FIRST)
    assert not station.kept(AGAIN)
    async with desk.serving() as daemon:
        served = f"http://{daemon.address}/helm/charts"
        assert [await status(f"{served}/charts/app-1.0.0.tgz{end}") for end in ("", ".prov")] == [451, 451]
        async with helm(helms()[0]) as call:
            assert (await call("repo", "add", "ours", served)).status == 0
            found = await call("search", "repo", "ours/app", "--versions")
            assert ("2.0.0" in found.output, "1.0.0" in found.output) == (True, False), found
            assert (await call("pull", "ours/app", "--version", "2.0.0", "--destination", desk.folder)).status == 0
        said = await desk.run("sync", "charts")
        assert "app-1.0.0: taken down, so not mirrored: ticket 4711" in said.out, said
        assert await station.at_registries("1.0.0") == [404, 404]
        assert station.on_site()[1] is False
        listed = (await desk.run("restore", "charts")).out.splitlines()
        assert all(f"taken down: {REASON}" in row for row in listed if row.startswith("app-1.0.0"))
        refused = await desk.run("restore", "charts", "app-1.0.0")
        why = f"it was taken down, and is not restored: {REASON}"
        assert (refused.status, why in refused.out) == (1, True), refused
        assert await status(f"{served}/charts/app-1.0.0.tgz") == 451
        assert (await desk.run("takedown", "charts", "app-1.0.0", "--lift")).status == 0
        assert (await desk.run("sync", "charts")).status == 0
        assert await status(f"{served}/charts/app-1.0.0.tgz") == 200
    assert await station.at_registries("1.0.0") == [200, 200]
    assert station.on_site()[1] is True
