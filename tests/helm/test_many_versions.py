"""Hundreds of chart versions are worked on beside the event loop: no turn of it passes over all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.chartregistry import put_chart
from tests.support.chartruns import ChartRuns, Place, open_recorded
from tests.support.turns import Turns, listen

VERSIONS = 300
PAGE = 50  # tags that a registry lists at once


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[ChartRuns]:
    async with open_recorded(tmp_path) as made:
        yield made


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as repository:
        list_more(repository, range(VERSIONS))
        yield repository


def list_more(source: ChartRepository, numbers: Iterable[int]) -> None:
    charts = [build_chart("app", f"1.{number}.0") for number in numbers]
    source.files |= {f"charts/{chart.file}": chart.data for chart in charts}
    source.entries += [chart.entry() for chart in charts]
    source.publish()


async def turns_of(runs: ChartRuns, mirror: Mirror, result: Result) -> Turns:
    """Run a mirror that ends so; an hour passes."""
    turns = Turns()
    with turns.counted():
        run = await runs.run(mirror)
    assert run.result is result, run
    runs.later(hours=1)
    return turns


@pytest.mark.parametrize("place", [LOCAL, "folder", "registry"])
async def test_no_turn_of_the_loop_passes_over_all_versions(
    runs: ChartRuns, source: ChartRepository, place: str
) -> None:
    """Plan, first run, one new version, nothing new, a look after days: no function is called for half of them."""
    async with Registry(page_size=PAGE) as registry:
        places: dict[str, Place] = {LOCAL: LOCAL, "folder": runs.folder / "site", "registry": registry}
        mirror = runs.mirror(source.url, also={place: places[place]})
        listen(runs.services.events, mirror)
        turns = {"plan": Turns()}
        with turns["plan"].counted():
            plan = await runs.plan(mirror)
        assert len(plan.steps) == VERSIONS + (place != "registry")  # which has no index
        turns["first"] = await turns_of(runs, mirror, Result.SUCCESS)
        list_more(source, [VERSIONS])
        turns["one new"] = await turns_of(runs, mirror, Result.SUCCESS)
        turns["nothing new"] = await turns_of(runs, mirror, Result.NOOP)
        runs.later(days=2)
        turns["days later"] = await turns_of(runs, mirror, Result.NOOP)
    assert max(one.again for one in turns.values()) < VERSIONS / 2, turns


async def test_versions_that_go(runs: ChartRuns, source: ChartRepository) -> None:
    """What upstream removed and is deleted here takes no turn for half of the versions either."""
    mirror = runs.mirror(source.url, keys={"removed": "delete", "max_loss": 1}, local=LOCAL)
    listen(runs.services.events, mirror)
    await turns_of(runs, mirror, Result.SUCCESS)
    del source.entries[1:]
    source.publish()
    turns = await turns_of(runs, mirror, Result.SUCCESS)
    assert len(runs.local()) < VERSIONS / 2
    assert turns.again < VERSIONS / 2, turns


async def test_archives_that_are_not_there(runs: ChartRuns, source: ChartRepository) -> None:
    """Versions that cannot be had, and are noted so, take no turn for half of them, now and at the next look."""
    source.files = {name: data for name, data in source.files.items() if not name.endswith(".tgz") or "1.3.0" in name}
    mirror = runs.mirror(source.url, local=LOCAL)
    listen(runs.services.events, mirror)
    turns = [await turns_of(runs, mirror, Result.SUCCESS) for _ in range(2)]
    assert max(one.again for one in turns) < VERSIONS / 2, turns


async def test_versions_of_a_registry(runs: ChartRuns) -> None:
    """Where the source is a registry no turn is taken for half of its tags: first run, and nothing new after days."""
    async with Registry(page_size=PAGE) as registry:
        for number in range(VERSIONS):
            put_chart(registry, "app", build_chart("app", f"1.{number}.0"), f"1.{number}.0")
        mirror = runs.mirror(f"oci://{registry.host}/team/charts/app", local=LOCAL)
        listen(runs.services.events, mirror)
        first = await turns_of(runs, mirror, Result.SUCCESS)
        runs.later(days=2)
        turns = [first, await turns_of(runs, mirror, Result.NOOP)]
    assert max(one.again for one in turns) < VERSIONS / 2, turns
