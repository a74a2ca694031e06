"""What helm takes is taken: odd archives and entries are published, and pulled by real helm as from upstream."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm.syncer import SYNCER
from mirrord.testing.chart_repository import INDEX, ChartRepository
from mirrord.testing.charts import Chart, build_chart, build_index
from tests.support.chartprograms import helm, helms
from tests.support.chartruns import ChartRuns, site, sound
from tests.support.frontserver import open_front

PLAIN = build_chart("padded", "1.0.0")
PADDED = replace(PLAIN, data=PLAIN.data + bytes(2))  # as incubator's aws-alb-ingress-controller 1.0.4
OTHER = build_chart("trailed", "1.0.0")
TRAILED = replace(OTHER, data=OTHER.data + b"<!-- cached -->")
OTHERWISE = build_chart("cert", "1.14.5")


async def test_odd_archives_are_published(source: ChartRepository, runs: ChartRuns) -> None:
    """An archive with zeros or more behind it, or whose Chart.yaml has a `v` less, is published as the index has it."""
    source.add(PADDED)
    source.add(TRAILED)
    source.files[f"charts/{OTHERWISE.file}"] = OTHERWISE.data
    source.entries.append({**OTHERWISE.entry(), "version": "v1.14.5"})
    source.publish()
    run = await runs.run(runs.mirror(source.url, local=LOCAL))
    assert (run.result, run.problems) == (Result.SUCCESS, ())
    assert sorted(run.remarks) == [
        "cert-v1.14.5: its Chart.yaml says version 1.14.5",
        "trailed-1.0.0: after the end of the archive: not gzip data",
    ]
    assert sound(runs.local()) == {
        "padded-1.0.0": PADDED.digest,
        "trailed-1.0.0": TRAILED.digest,
        "cert-v1.14.5": OTHERWISE.digest,
    }


def odd_index(source: ChartRepository) -> dict[str, Chart]:
    """List charts as few do and helm takes; return what `helm pull repo/<key>` brings, by key."""
    charts = {name: build_chart(name, "1.0.0") for name in ("_b", "b b", "bé", "other", "alias", "near", "space")}
    source.path = "/stable"
    for chart in charts.values():
        source.files[f"charts/{chart.file}"] = chart.data
        source.entries.append(chart.entry())
    source.files |= {"/abs/near.tgz": charts["near"].data, "charts/a b.tgz": charts["space"].data}
    text = build_index(source.entries).decode()
    for old, new in {
        "charts/near-1.0.0.tgz": "../abs/near.tgz",
        "charts/space-1.0.0.tgz": "charts/a b.tgz",
        "\n  other:\n": "\n  key:\n",
        "description: alias, for tests": "description: &d alias, for tests\n    home: *d",
    }.items():
        assert old in text
        text = text.replace(old, new)
    source.files[INDEX] = text.encode()
    return {("key" if name == "other" else name): chart for name, chart in charts.items()}


@pytest.mark.parametrize(
    "binary", helms() or [pytest.param("", marks=pytest.mark.skip(reason="helm is not installed"))]
)
@pytest.mark.parametrize("kind", ["local", "site"])
async def test_helm_pulls_what_is_listed_oddly(
    binary: str, kind: str, source: ChartRepository, runs: ChartRuns
) -> None:
    """Real helm pulls from the mirror, by the same names, whatever it pulls from an index that few would write."""
    charts = odd_index(source)
    folder = runs.folder / "site"
    run = await runs.run(runs.mirror(source.url, also={kind: LOCAL if kind == "local" else folder}))
    assert (run.result, run.problems) == (Result.SUCCESS, ())
    async with open_front(runs.services, SYNCER) as front, ChartRepository() as server, helm(binary) as call:
        server.files |= site(folder)
        places = {"upstream": source.url, "mirror": f"{front}/helm/app" if kind == "local" else server.url}
        for name, url in places.items():
            assert (await call("repo", "add", name, url)).status == 0
            for key, chart in charts.items():
                (into := runs.folder / name / chart.name).mkdir(parents=True)
                pulled = await call("pull", f"{name}/{key}", "--destination", into)
                assert pulled.status == 0, pulled.output
                (file,) = into.iterdir()
                assert file.read_bytes() == chart.data


async def test_a_message_names_its_chart(source: ChartRepository, runs: ChartRuns) -> None:
    """What is wrong with the URL of an entry is told with the chart's name."""
    for number, url in enumerate(("file:///etc/passwd", "a\\b.tgz", "http://10.0.0.1/x.tgz", "oci://nowhere", "x\ty")):
        source.add(build_chart(f"odd{number}", "1.0.0"), url)
    source.add(PADDED)
    run = await runs.run(runs.mirror(source.url, local=LOCAL))
    assert run.result is Result.SUCCESS
    told = [problem.partition(":")[0] for problem in run.problems]
    assert sorted(told) == [f"odd{number}-1.0.0" for number in range(5)]


@pytest.mark.parametrize(
    "binary", helms() or [pytest.param("", marks=pytest.mark.skip(reason="helm is not installed"))]
)
async def test_helm_pulls_odd_archives(binary: str, source: ChartRepository, runs: ChartRuns) -> None:
    """Real helm pulls and shows from the mirror what it would have pulled upstream."""
    source.add(PADDED)
    await runs.run(runs.mirror(source.url, local=LOCAL))
    async with open_front(runs.services, SYNCER) as url, helm(binary) as run:
        assert (await run("repo", "add", "mirror", f"{url}/helm/app")).status == 0
        shown = await run("show", "chart", "mirror/padded")
        assert shown.status == 0, shown.output
