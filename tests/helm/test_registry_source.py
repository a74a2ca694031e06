"""Charts in a registry: each by its own version, and what cannot be read costs nobody else anything."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm.syncer import SYNCER
from mirrord.testing import Registry, build_image
from mirrord.testing import push as push_image
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import Chart, build_chart
from tests.support.chartprograms import helm, helms
from tests.support.chartregistry import put_chart
from tests.support.chartruns import ChartRuns, sound
from tests.support.frontserver import open_front

CERT = build_chart("cert", "v1.14.5")


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with Registry() as made:
        yield made


async def push(runs: ChartRuns, registry: Registry, *charts: Chart) -> None:
    """Put charts to `team/charts/<name>`, each under its own version."""
    async with ChartRepository() as source:
        for chart in charts:
            source.add(chart)
        mirror = runs.mirror(source.url, name="there", keys={"max_loss": 1}, registry=registry)
        assert (await runs.run(mirror)).result is Result.SUCCESS


def move(registry: Registry, chart: Chart, tag: str) -> None:
    """Give a chart another tag than that of its version."""
    tags = registry.tags[f"team/charts/{chart.name}"]
    tags[tag] = tags.pop(chart.version.replace("+", "_"))


async def test_another_tag_than_the_version(registry: Registry, runs: ChartRuns) -> None:
    """A chart v1.14.5 under the tag 1.14.5 is published under its own version, and nothing is wrong with that."""
    await push(runs, registry, CERT)
    move(registry, CERT, "1.14.5")
    mirror = runs.mirror(f"oci://{registry.host}/team/charts/cert", local=LOCAL)
    run = await runs.run(mirror)
    assert (run.result, run.problems) == (Result.SUCCESS, ())
    assert sound(runs.local()) == {"cert-v1.14.5": CERT.digest}
    assert (await runs.run(mirror)).result is Result.NOOP


@pytest.mark.parametrize(
    "binary", helms() or [pytest.param("", marks=pytest.mark.skip(reason="helm is not installed"))]
)
async def test_helm_pulls_it(binary: str, registry: Registry, runs: ChartRuns) -> None:
    """Real helm, which pulls by the tag upstream, pulls by the chart's own version from the mirror."""
    await push(runs, registry, CERT)
    move(registry, CERT, "1.14.5")
    await runs.run(runs.mirror(f"oci://{registry.host}/team/charts/cert", local=LOCAL))
    async with open_front(runs.services, SYNCER) as url, helm(binary) as call:
        assert (await call("repo", "add", "mirror", f"{url}/helm/app")).status == 0
        pulls = {
            "there": (f"oci://{registry.host}/team/charts/cert", "--version", "1.14.5", "--plain-http"),
            "here": ("mirror/cert", "--version", "v1.14.5"),
        }
        for place, arguments in pulls.items():
            (runs.folder / place).mkdir()
            pulled = await call("pull", *arguments, "--destination", runs.folder / place)
            assert pulled.status == 0, pulled.output
        assert [file.read_bytes() for file in runs.folder.glob("*here/*.tgz")] == [CERT.data] * 2


async def test_several_tags_for_one_version(registry: Registry, runs: ChartRuns) -> None:
    """Two tags of one chart are one version, which is a remark; two charts that claim one version are a problem."""
    app, again = build_chart("app", "1.0.0"), build_chart("app", "1.0.0", metadata={"description": "again"})
    await push(runs, registry, app)
    tags = registry.tags["team/charts/app"]
    tags["3.0.0"] = tags["1.0.0"]
    tags["latest"], tags["2.0.0"] = tags["1.0.0"], put_chart(registry, "app", again)
    run = await runs.run(runs.mirror(f"oci://{registry.host}/team/charts/app", local=LOCAL))
    assert run.result is Result.SUCCESS
    assert run.problems == ("app-2.0.0: says that it is app 1.0.0, and so does tag 1.0.0 with other content; left out",)
    assert run.remarks == ("app-3.0.0: is app 1.0.0, which tag 1.0.0 is, too; put right",)
    assert sound(runs.local()) == {"app-1.0.0": app.digest}


async def test_another_name_is_another_chart(registry: Registry, runs: ChartRuns) -> None:
    """A repository whose chart has another name than itself is named and left out."""
    await push(runs, registry, CERT)
    registry.tags["team/charts/cert"]["1.0.0"] = put_chart(registry, "cert", build_chart("app", "1.0.0"))
    run = await runs.run(runs.mirror(f"oci://{registry.host}/team/charts/cert", local=LOCAL))
    assert run.problems == ("cert-1.0.0: says that it is 'app' '1.0.0'; left out",)
    assert sound(runs.local()) == {"cert-v1.14.5": CERT.digest}


@pytest.mark.parametrize("removed", ["keep", "delete"])
async def test_a_tag_that_cannot_be_read_now(removed: str, registry: Registry, runs: ChartRuns) -> None:
    """A registry in trouble makes no version vanish, and the next run reads it, although the tags are the same."""
    await push(runs, registry, *(build_chart("app", f"1.{number}.0") for number in range(3)))
    mirror = runs.mirror(f"oci://{registry.host}/team/charts/app", keys={"removed": removed}, local=LOCAL)
    registry.faults.on("GET", "/manifests/1.1.0", times=None).status(502)
    run = await runs.run(mirror)
    assert run.result is Result.PARTIAL
    assert run.plan is not None
    assert [text.partition(":")[0] for text in run.plan.missing] == ["app-1.1.0"]
    assert set(sound(runs.local())) == {"app-1.0.0", "app-1.2.0"}
    registry.faults.clear()
    assert (await runs.run(mirror)).result is Result.SUCCESS
    assert len(sound(runs.local())) == 3
    registry.faults.on("GET", "/manifests/1.1.0", times=None).status(502)
    registry.tags["team/charts/app"]["1.2.1"] = registry.tags["team/charts/app"]["1.2.0"]
    assert (await runs.run(mirror)).result is Result.PARTIAL
    assert len(sound(runs.local())) == 3


@pytest.mark.parametrize("where", ["base/tags", "base/manifests"])
async def test_a_registry_that_limits_the_rate(where: str, registry: Registry, runs: ChartRuns) -> None:
    """The run is put off until the registry may be asked again, which it is not before; what was read is there."""
    app, base = build_chart("app", "1.0.0"), build_chart("base", "1.0.0")
    await push(runs, registry, app, base)
    mirror = runs.mirror(f"oci://{registry.host}/team/charts", keys={"charts": ["app", "base"]}, local=LOCAL)
    limit = registry.faults.on("GET", f"charts/{where}", times=None).status(429, headers={"Retry-After": "900"})
    began = time.monotonic()
    run = await runs.run(mirror)
    assert (run.result, run.code, limit.hits) == (Result.DEFERRED, "", 1)
    assert run.plan is not None
    assert run.plan.code == "throttled"
    assert "base" in {text.partition("-1")[0].partition(":")[0] for text in run.plan.missing}
    assert run.until is not None
    assert 900 - (time.monotonic() - began) <= (run.until - run.finished).total_seconds() <= 902
    asked = len(registry.log)
    assert (await runs.run(mirror)).result is Result.DEFERRED
    assert len(registry.log) == asked


@pytest.mark.parametrize("status", [404, 502])
async def test_one_chart_of_several(status: int, registry: Registry, runs: ChartRuns) -> None:
    """A chart whose tags cannot be listed is missing, and neither fails the others nor takes away what is there."""
    app, base = build_chart("app", "1.0.0"), build_chart("base", "1.0.0")
    await push(runs, registry, app, base)
    keys = {"charts": ["app", "base"], "removed": "delete"}
    mirror = runs.mirror(f"oci://{registry.host}/team/charts", keys=keys, local=LOCAL)
    await runs.run(mirror)
    registry.faults.on("GET", "charts/base/tags", times=None).status(status)
    await push(runs, registry, build_chart("app", "1.1.0"))
    run = await runs.run(mirror)
    assert run.result is Result.PARTIAL
    assert run.plan is not None
    assert [text.partition(":")[0] for text in run.plan.missing] == ["base"]
    assert set(sound(runs.local())) == {"app-1.0.0", "app-1.1.0", "base-1.0.0"}
    registry.faults.clear()
    registry.faults.on("GET", "/tags/", times=None).status(502)
    assert (await runs.run(mirror)).code == "server"


async def test_tags_that_are_no_charts(registry: Registry, runs: ChartRuns) -> None:
    """A repository of images has no charts: each tag is a problem, a remark says the rest, and the run succeeds."""
    await push_image(build_image(), registry, "team/charts/app", ["1.0.0"])
    run = await runs.run(runs.mirror(f"oci://{registry.host}/team/charts/app", local=LOCAL))
    assert (run.result, run.remarks) == (
        Result.SUCCESS,
        ("upstream lists no charts yet: there is nothing to mirror",),
    )
    assert run.problems == ("app-1.0.0: is no chart: no config or no archive of one; left out",)


async def test_a_folder_of_charts_needs_their_names(runs: ChartRuns, registry: Registry) -> None:
    """A folder has no tags: the error of the registry comes with what to write."""
    await push(runs, registry, CERT)
    run = await runs.run(runs.mirror(f"oci://{registry.host}/team/charts", name="folder", local=LOCAL))
    assert run.result is Result.FAILED
    assert run.error.endswith("if this is a folder of charts, name them in `charts:`"), run.error
