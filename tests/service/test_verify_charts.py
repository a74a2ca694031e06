"""`verify` of charts: in `local`, in a folder, at a registry and at a ChartMuseum; only what was lost is put again."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirrord.model.digest import Digest
from mirrord.model.memory import NO_MEMORY, LastSeen
from mirrord.model.run import Result
from mirrord.model.verification import Level
from mirrord.syncer.inspection import Inspection
from mirrord.syncers.helm.transfer.compared import AT_ONCE, _Archives, _content, chart_of
from mirrord.testing import require
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.servers import DockerRegistry
from tests.support.chartservers import ChartMuseumServer
from tests.support.giteacharts import GiteaServer
from tests.support.signing import ShapeSigner
from tests.support.verifying import at, codes, damage, lose_blob, lose_tag, opened

NOW = datetime(2024, 5, 17, tzinfo=UTC)
VERSIONS = ("1.0.0", "1.1.0", "2.0.0-rc.1")
CHARTS = {f"app-{version}": build_chart("app", version) for version in VERSIONS}
CONFIGURATION = """\
targets:
  folder: {{kind: helm, to: "{folder}/{{mirror}}"}}
  registry: {{kind: helm, to: "oci://{registry}/charts"}}
  museum: {{kind: helm, to: "{museum}", api: chartmuseum}}
mirrors:
  - {{name: app, kind: helm, from: "{charts}", to: [folder, registry, museum, local]}}
"""
PATH = "charts/app"


@pytest.mark.parametrize("program", ["docker-registry", "registry3"])
async def test_each_loss_of_a_chart_is_found_and_put_again(tmp_path: Path, program: str) -> None:
    """A tag, a layer, files and bytes: found by their level at the place where they were lost, and only put there."""
    require(program)
    async with (
        ChartRepository() as source,
        DockerRegistry(program=program, access_log=True) as registry,
        ChartMuseumServer() as museum,
    ):
        for chart in CHARTS.values():
            source.add(chart)
        folder = tmp_path / "charts"
        places = {"folder": folder, "registry": registry.host, "museum": museum.url, "charts": source.url}
        async with opened(tmp_path, CONFIGURATION.format(**places)) as one:
            assert (await one.sync()).result is Result.SUCCESS
            asked, cost = len(source.log), dict[Level, Counter[tuple[str, str]]]()
            for level in Level:
                before, logged = len(registry.hits()), len(museum.log)
                found = await one.verify(level)
                cost[level] = Counter((hit.method, hit.path.split("/")[4]) for hit in registry.hits()[before:])
                cost[level] += Counter((hit.method, hit.path.split("/")[1]) for hit in museum.log[logged:])
                assert [(target.checked, target.drift, target.unknown) for target in found.targets] == [(3, 0, 0)] * 4
            assert all(target.read == target.size > 0 for target in found.targets)
            assert len(source.log) == asked
            names = {("GET", "tags"): 1, ("HEAD", "manifests"): 3, ("GET", "index.yaml"): 1}
            assert cost[Level.NAMES] == names  # as docs/how-to/verify.md says
            archives = {("GET", "manifests"): 3, ("HEAD", "blobs"): 6, ("HEAD", "charts"): 3, ("GET", "charts"): 3}
            assert cost[Level.DEEP] == {**names, **archives}
            first, second, third = CHARTS
            lose_tag(registry, PATH, "1.0.0")
            lose_blob(registry, PATH, str(CHARTS[second].digest))
            (folder / "app" / "charts" / f"{first}.tgz").unlink()
            damage(folder / "app" / "charts" / f"{second}.tgz")
            one.blob(str(CHARTS[first].digest)).unlink()
            damage(one.blob(str(CHARTS[third].digest)))
            museum.files.pop(f"{first}.tgz")
            lost = [(target, first, "missing") for target in ("folder", "local", "museum", "registry")]
            assert codes(await one.verify()) == lost
            deep = sorted([*lost, ("registry", second, "blob")])
            assert codes(await one.verify(Level.DEEP)) == deep
            wrong = sorted([*deep, ("folder", second, "bytes"), ("local", third, "bytes")])
            assert codes(await one.verify(Level.BYTES)) == wrong
            before, posted = len(registry.hits()), museum.count("POST")
            found = await one.verify(Level.BYTES, repair=True)
            assert (codes(found), found.repaired, found.error) == ([], len(wrong), "")
            assert museum.count("POST") == posted + 1
            puts = [hit.path.split("?")[0] for hit in registry.hits()[before:] if hit.method == "PUT"]
            manifests = sorted(path.rpartition("/")[2] for path in puts if "/manifests/" in path)
            assert manifests == ["1.0.0", "1.1.0"]
            assert len(puts) == 3  # and the archive that was lost


async def test_a_provenance_that_was_carried_is_compared(tmp_path: Path) -> None:
    """One that is gone, of another archive, or cut off is found at each kind of place, and comes back."""
    require("docker-registry")
    signer, (first, second, _) = ShapeSigner(), CHARTS
    async with ChartRepository() as source, DockerRegistry() as registry, ChartMuseumServer() as museum:
        for item, chart in CHARTS.items():
            source.add(chart, prov=chart.provenance(signer) if item in (first, second) else None)
        folder = tmp_path / "charts"
        places = {"folder": folder, "registry": registry.host, "museum": museum.url, "charts": source.url}
        async with opened(tmp_path, CONFIGURATION.format(**places)) as one:
            assert (await one.sync()).result is Result.SUCCESS
            assert codes(await one.verify(Level.DEEP)) == []
            proofs = {item: CHARTS[item].provenance(signer) for item in (first, second)}
            (folder / "app" / "charts" / f"{first}.tgz.prov").unlink()
            (folder / "app" / "charts" / f"{second}.tgz.prov").write_bytes(proofs[second][:-30])
            museum.files.pop(f"{first}.tgz.prov")
            museum.files[f"{second}.tgz.prov"] = proofs[first]
            lose_blob(registry, PATH, str(Digest.of(proofs[second])))
            assert codes(await one.verify()) == []
            wrong = [(place, item, "signature") for place in ("folder", "museum") for item in (first, second)]
            wrong.append(("registry", second, "blob"))  # a layer beside that of the archive
            assert codes(await one.verify(Level.DEEP)) == wrong
            found = await one.verify(Level.DEEP, repair=True)
            assert (codes(found), found.repaired) == ([], len(wrong)), found


async def test_a_server_that_keeps_no_provenance_lacks_none(tmp_path: Path) -> None:
    """Gitea's API has no place for one: it is offered once, not recorded, and not missed."""
    async with ChartRepository() as source, GiteaServer() as gitea:
        for chart in CHARTS.values():
            source.add(chart, prov=chart.provenance(ShapeSigner()))
        text = CONFIGURATION.replace("[folder, registry, museum, local]", "museum")
        places = {"folder": tmp_path, "registry": "127.0.0.1:1", "museum": gitea.url, "charts": source.url}
        async with opened(tmp_path, text.format(**places)) as one:
            assert (await one.sync()).result is Result.SUCCESS
            assert gitea.count("POST", "/api/prov") == 1
            assert codes(await one.verify(Level.DEEP)) == []


async def test_charts_that_were_there_already_are_verified_too(tmp_path: Path) -> None:
    """A run over a target that has everything records that it has, also after the record was lost."""
    async with ChartRepository() as source, ChartMuseumServer() as museum:
        for item, chart in CHARTS.items():
            source.add(chart)
            museum.store(f"{item}.tgz", chart.data)
        text = CONFIGURATION.replace("[folder, registry, museum, local]", "museum")
        places = {"folder": tmp_path, "registry": "127.0.0.1:1", "museum": museum.url, "charts": source.url}
        async with opened(tmp_path, text.format(**places)) as one:
            assert codes(await one.verify()) == [("museum", "", "unrecorded")]
            assert (await one.sync()).result is Result.NOOP
            assert at(await one.verify(), "museum").checked == len(CHARTS)
            await museum.stop()
            found = await one.verify(Level.DEEP)
            assert (found.drift, found.unknown, codes(found)) == (0, 1, [("museum", "", "unreachable")])


async def test_the_size_of_an_archive_is_compared_where_it_is_told(tmp_path: Path) -> None:
    """An archive that was cut is found without reading it; a server that calls archives gzip is no drift."""
    async with ChartRepository() as source, ChartMuseumServer() as museum:
        for chart in CHARTS.values():
            source.add(chart)
        text = CONFIGURATION.replace("[folder, registry, museum, local]", "[folder, museum]")
        folder = tmp_path / "charts"
        places = {"folder": folder, "registry": "127.0.0.1:1", "museum": museum.url, "charts": source.url}
        async with opened(tmp_path, text.format(**places)) as one:
            assert (await one.sync()).result is Result.SUCCESS
            museum.faults.on("HEAD", ".tgz", times=None).status(200, headers={"Content-Encoding": "x-gzip"})
            assert codes(await one.verify(Level.DEEP)) == []
            cut = folder / "app" / "charts" / "app-1.0.0.tgz"
            data = cut.read_bytes()
            cut.unlink()
            cut.write_bytes(data[:-1])
            assert codes(await one.verify(Level.DEEP)) == [("folder", "app-1.0.0", "blob")]
            found = await one.verify(Level.DEEP, repair=True)
            assert (found.repaired, codes(found), cut.read_bytes()) == (1, [], data)


async def test_a_chart_server_that_stops_answering_is_asked_no_more(tmp_path: Path) -> None:
    """It costs what was under way, and says so once; nothing that was not looked at counts as equal or as lost."""
    async with ChartRepository() as source, ChartMuseumServer() as museum:
        for number in range(40):
            source.add(build_chart("app", f"1.{number}.0"))
        text = CONFIGURATION.replace("[folder, registry, museum, local]", "museum")
        places = {"folder": tmp_path, "registry": "127.0.0.1:1", "museum": museum.url, "charts": source.url}
        async with opened(tmp_path, text.format(**places)) as one:
            assert (await one.sync()).result is Result.SUCCESS
            museum.faults.on("*", ".tgz", times=None).status(429, headers={"Retry-After": "7200"})
            for level in (Level.DEEP, Level.BYTES):
                before = len(museum.log)
                found = await one.verify(level)
                assert codes(found) == [("museum", "", "throttled")]
                assert (found.drift, found.unknown) == (0, 1)
                assert len([hit for hit in museum.log[before:] if ".tgz" in hit.path]) <= AT_ONCE


async def test_versions_that_share_an_archive_share_its_damage(tmp_path: Path) -> None:
    """The bytes are read once, and each version that has them is found and comes back."""
    async with ChartRepository() as source:
        for chart in CHARTS.values():
            source.add(chart)
        text = CONFIGURATION.replace("[folder, registry, museum, local]", "local")
        places = {"folder": tmp_path, "registry": "127.0.0.1:1", "museum": "http://127.0.0.1:1", "charts": source.url}
        async with opened(tmp_path, text.format(**places)) as one:
            assert (await one.sync()).result is Result.SUCCESS
            inspection = Inspection(Level.BYTES, NO_MEMORY, 1 << 20)
            digest, seen = CHARTS["app-1.0.0"].digest, LastSeen(str(CHARTS["app-1.0.0"].digest), NOW)
            damage(one.blob(str(digest)))
            right = {item: (named, seen) for item in ("app-1.0.0", "app-1.0.0+b") if (named := chart_of(item))}
            mirror = one.dispatcher.runtime.snapshot.mirror("app")
            archives = _Archives(mirror, mirror.targets[0], one.dispatcher.runtime.snapshot.services, {})
            await _content("local", inspection, archives, right)
            found = inspection.result("local", NOW)
            assert [(one.item, one.code) for one in found.findings] == [(item, "bytes") for item in right]
