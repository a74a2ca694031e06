"""Hundreds of chart versions are worked on beside the event loop: no turn of it passes over all of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from mirrord.model.run import Result
from mirrord.record.sqlite import SqliteStore
from mirrord.syncer.values import LOCAL
from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.chartruns import Place, open_chart_runs
from tests.support.turns import Turns, listen

VERSIONS = 250
PAGE = 50  # tags that a registry lists at once


@pytest.mark.parametrize("place", [LOCAL, "folder", "registry"])
async def test_no_turn_of_the_loop_passes_over_all_versions(tmp_path: Path, place: str) -> None:
    """Plan, first run, one new version, nothing new and a look after days: no function is called for half of them."""
    async with open_chart_runs(tmp_path) as runs, ChartRepository() as source, Registry(page_size=PAGE) as registry:
        runs.store = await SqliteStore.open(tmp_path / "record.db", runs.now)  # type: ignore[assignment]  # for real
        _fill(source, range(VERSIONS))
        places: dict[str, Place] = {LOCAL: LOCAL, "folder": tmp_path / "site", "registry": registry}
        mirror = runs.mirror(source.url, also={place: places[place]})
        listen(runs.services.events, mirror)
        turns = {"plan": Turns()}
        with turns["plan"].counted():
            plan = await runs.plan(mirror)
        assert len(plan.steps) > VERSIONS
        new, idle = Result.SUCCESS, Result.NOOP
        for case, result in {"first": new, "one new": new, "nothing new": idle, "days later": idle}.items():
            if case == "one new":
                _fill(source, [VERSIONS])
            if case == "days later":
                runs.later(days=2)
            turns[case] = Turns()
            with turns[case].counted():
                assert (await runs.run(mirror)).result is result
            runs.later(hours=1)
        await runs.store.close()
    assert max(one.again for one in turns.values()) < VERSIONS / 2, turns


def _fill(source: ChartRepository, numbers: Iterable[int]) -> None:
    charts = [build_chart("app", f"1.{number}.0") for number in numbers]
    source.files |= {f"charts/{chart.file}": chart.data for chart in charts}
    source.entries += [chart.entry() for chart in charts]
    source.publish()
