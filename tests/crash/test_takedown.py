"""A takedown that is killed: what was denied stays denied, and the same command removes the rest."""

from __future__ import annotations

import json

import pytest

from mirrord.failpoints import CRASH_STATUS, NAMES
from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.chartfiles import sign_chart
from tests.support.chartruns import site, sound
from tests.support.chartservers import ChartMuseumServer
from tests.support.commands import Desk
from tests.support.walking import walk

IMAGE, OTHER = (build_image(["linux/amd64", "linux/arm64"], seed=seed) for seed in ("denied", "other"))
PLACES = [
    *sorted(name for name in NAMES if name.startswith(("denied.", "takedown.", "remove."))),
    "takedown.manifest:1",
    "takedown.blob:3",
]
GONE, STAYS = (build_chart("app", f"{number}.0.0") for number in (1, 2))
CHART_PLACES = ("links.renamed", "remove.tag:1")


@pytest.mark.parametrize("end", ["exit", "fail"])
@pytest.mark.parametrize("place", PLACES)
async def test_crash(desk: Desk, place: str, end: str) -> None:
    """It ends or fails at each place: then the same command finishes it, and nothing that is allowed is gone."""
    require("docker-registry")
    name, _, skip = place.partition(":")
    async with Registry() as source, DockerRegistry() as target:
        await push(IMAGE, source, "up/app", ["v1", "copy"])
        await push(OTHER, source, "up/app", ["v2"])
        denied, folder = desk.folder / "denied.yaml", desk.folder / "layouts"
        denied.touch()
        desk.configure(
            f"settings: {{denied: {denied}}}\n"
            f"targets: {{one: {{kind: image, to: {target.host}/m}}, two: {{kind: image, to: 'oci:{folder}'}}}}\n"
            f"mirrors: [{{name: app, kind: image, from: {{repository: {source.host}/up/app, tags: ['*']}}, "
            "to: [one, two, local]}]\n"
        )
        assert (await desk.run("sync")).status == 0
        words = ("takedown", f"{source.host}/up/app:v1")
        broken = await desk.run(*words, "--reason", "asked to", MIRRORD_FAILPOINTS=f"{name}={end}:{skip or 0}")
        assert broken.status == CRASH_STATUS if end == "exit" else broken.status != 0, broken
        assert "asked to" in denied.read_text()
        assert (await desk.run("sync")).status == 0
        again = await desk.run(*words)
        assert again.status == 0, again
        assert await walk(target, "m/app") == {"v2": str(OTHER.digest)}
        assert {f"sha256:{one.name}" for one in (folder / "app/blobs").glob("*/*")} == {*OTHER.manifests, *OTHER.blobs}
        assert (await desk.run("sync")).status == 0
        assert await walk(target, "m/app") == {"v2": str(OTHER.digest)}


@pytest.mark.parametrize("place", CHART_PLACES)
async def test_a_version_of_a_chart(desk: Desk, place: str) -> None:
    """Killed twice at each place, then done: the version is nowhere, whatever serves it, and the other one is whole."""
    name, _, skip = place.partition(":")
    async with ChartRepository() as source, Registry() as target, ChartMuseumServer() as museum:
        for chart in (GONE, STAYS):
            source.add(chart, prov=sign_chart(chart.data))
        denied, folder = desk.folder / "denied.yaml", desk.folder / "site"
        denied.touch()
        places = {"one": f"oci://{target.host}/m", "site": str(folder), "museum": museum.url}
        targets = {one: {"kind": "helm", "to": to} for one, to in places.items()}
        targets["museum"]["api"] = "chartmuseum"
        sections = {
            "settings": {"denied": str(denied)},
            "targets": targets,
            "mirrors": [{"name": "charts", "kind": "helm", "from": source.url, "to": [*places, "local"]}],
        }
        desk.configure("".join(f"{key}: {json.dumps(value)}\n" for key, value in sections.items()))
        assert (await desk.run("sync")).status == 0
        words = ("takedown", "charts", "app-1.0.0")
        for _ in range(2):
            broken = await desk.run(*words, "--reason", "asked to", MIRRORD_FAILPOINTS=f"{name}=exit:{skip or 0}")
            assert broken.status in (CRASH_STATUS, 0), broken
            assert "asked to" in denied.read_text()
        again = await desk.run(*words)
        assert (again.status, denied.read_text().count("app-1.0.0")) == (0, 1), again
        for _ in range(2):
            assert target.content.tags["m/app"].keys() == {"2.0.0"}
            assert sound(site(folder)).keys() == {"app-2.0.0"}
            assert {one.name for one in (folder / "charts").glob("[!.]*")} == {STAYS.file, f"{STAYS.file}.prov"}
            assert museum.files.keys() == {STAYS.file, f"{STAYS.file}.prov"}
            assert not [one for one in (desk.folder / "state").rglob(GONE.digest.hex) if one.is_file()]
            assert (await desk.run("sync")).status == 0
