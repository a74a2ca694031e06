"""Charts whose archives do not fit the spool together."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.chartruns import open_chart_runs, site, sound
from tests.support.chartservers import ChartMuseumServer, CodingServer

KIB = 1 << 10
CHARTS = [
    build_chart("app", f"1.{number}.0", {"files/filler": Random(number).randbytes(40 * KIB)}) for number in range(12)
]


async def test_more_than_fits_at_once(tmp_path: Path) -> None:
    """All arrive, also at a target that must see the oldest first, and the spool never holds more than its budget."""
    budget = 100 * KIB
    assert sum(len(chart.data) for chart in CHARTS) > 4 * budget
    async with (
        ChartRepository(path="/stable") as source,
        ChartMuseumServer() as museum,
        CodingServer() as coding,
        open_chart_runs(tmp_path, spool=budget) as runs,
    ):
        for chart in CHARTS:
            source.add(chart)
        runs.parallel = 8
        mirror = runs.mirror(source.url, local=LOCAL, site=tmp_path / "site", museum=museum, coding=coding)
        async with asyncio.timeout(60):
            run = await runs.run(mirror)
        assert ([receipt.detail for receipt in run.receipts if not receipt.good], run.result) == ([], Result.SUCCESS)
        items = {f"app-{chart.version}" for chart in CHARTS}
        assert set(sound(runs.local())) == set(sound(site(tmp_path / "site"))) == items
        assert min(museum.count("POST"), coding.count("POST")) >= len(CHARTS)
        assert sum(file.stat().st_size for file in (tmp_path / "spool").iterdir()) <= budget
        assert runs.services.spools.cache.used <= budget
