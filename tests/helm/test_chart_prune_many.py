"""Prunes of many chart versions: requests grow as they do, indexes are written once, and the event loop goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.model.run import Result
from mirrord.syncers.helm.names import INDEX
from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart, build_index
from tests.support.chartpruning import PrunedCharts
from tests.support.chartregistry import put_chart
from tests.support.chartruns import ChartRuns, open_recorded, site, sound
from tests.support.chartservers import ChartMuseumServer
from tests.support.pruning import done
from tests.support.turns import Turns, listen

KEPT = build_chart("app", "9.0.0")
SOME = 310  # more than what is done in one turn for a hundred removals


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[ChartRuns]:
    async with open_recorded(tmp_path) as made:
        yield made


@pytest.mark.parametrize("count", [25, 250])
async def test_requests_grow_as_versions_do(source: ChartRepository, runs: ChartRuns, count: int) -> None:
    """A registry is asked for each one four times, beside its lists; a folder gets one new index, whatever goes."""
    charts = [build_chart("app", f"1.{number}.0") for number in range(count)]
    folder = runs.folder / "site"
    (folder / "charts").mkdir(parents=True)
    for chart in charts:
        (folder / "charts" / chart.file).write_bytes(chart.data)
    (folder / INDEX).write_bytes(build_index([chart.entry() for chart in charts]))
    async with Registry() as registry:
        for chart in charts:
            put_chart(registry, "app", chart, chart.version)
        pruned = await PrunedCharts.open(runs, source, [KEPT], registry=registry, site=folder)
        wish = {"adopt": True, "irrecoverable": True}
        await pruned.plan(**wish)
        runs.later(days=2)
        registry.wire.exchanges.clear()
        source.wire.exchanges.clear()
        run = await pruned.prune(**wish)
        assert len(done(run)) == 2 * count
        assert registry.tags["team/charts/app"].keys() == {"9.0.0"}
        asked = Counter(one.method for one in registry.log if "/manifests/" in one.path)
        assert (asked["GET"], asked["DELETE"]) == (count, count)
        assert count <= asked["HEAD"] < 2 * count  # from the second hundred on once more, just before
        assert registry.count("GET", "/tags/list") <= 3 * (1 + count // 100)  # pages
        assert source.count("*") == 2  # for the index, and for where archives are
    assert sound(site(folder)).keys() == {"app-9.0.0"}
    assert {name for name in site(folder) if name.endswith(".tgz")} == {f"charts/{KEPT.file}"}


@pytest.mark.parametrize("count", [10, 20])
async def test_a_chartmuseum_is_asked_once_for_each(source: ChartRepository, runs: ChartRuns, count: int) -> None:
    """One DELETE a version; its index is read four times, however many go."""
    async with ChartMuseumServer() as museum:
        for number in range(count):
            chart = build_chart("app", f"1.{number}.0")
            museum.store(chart.file, chart.data)
        pruned = await PrunedCharts.open(runs, source, [KEPT], museum=museum)
        wish = {"adopt": True, "irrecoverable": True}
        await pruned.plan(**wish)
        runs.later(days=2)
        museum.wire.exchanges.clear()
        assert len(done(await pruned.prune(**wish))) == count
        assert (museum.count("DELETE"), museum.count("GET")) == (count, 4)
        assert museum.files.keys() == {KEPT.file}


async def test_no_turn_of_the_loop_passes_over_all_versions(source: ChartRepository, runs: ChartRuns) -> None:
    """What is not selected any more takes no turn for all versions: looked at, planned, removed, recorded."""
    charts = [build_chart("app", f"1.{number}.0") for number in range(SOME)]
    async with Registry(page_size=50) as registry:
        pruned = await PrunedCharts.open(runs, source, [*charts, KEPT], registry=registry, site=runs.folder / "site")
        listen(runs.services.events, pruned.mirror)
        pruned.select(newest=1)
        turns = [Turns(), Turns()]
        with turns[0].counted():
            assert not (await pruned.plan()).error
        runs.later(days=2)
        with turns[1].counted():
            run = await pruned.prune()
        assert run.result is Result.SUCCESS
        assert len(done(run)) == 2 * SOME
    assert max(one.again for one in turns) < SOME, turns
