"""What helm takes is taken: odd archives and entries are published, and pulled by real helm as from upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirrord.model import Result
from mirrord.syncer import LOCAL
from mirrord.syncers.helm.syncer import SYNCER
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.chartprograms import helm, helms
from mirrord.testing.chartruns import ChartRuns, open_chart_runs, sound
from mirrord.testing.charts import build_chart
from mirrord.testing.frontserver import open_front


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as repository:
        yield repository


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[ChartRuns]:
    async with open_chart_runs(tmp_path) as world:
        yield world


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
        "trailed-1.0.0: after the end of the archive: something that is no gzip data",
    ]
    assert sound(runs.local()) == {
        "padded-1.0.0": PADDED.digest,
        "trailed-1.0.0": TRAILED.digest,
        "cert-v1.14.5": OTHERWISE.digest,
    }


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
