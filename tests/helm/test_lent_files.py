"""Mirrors that carry the same archives at the same time: each works on its own files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.chartruns import open_chart_runs, site, sound

MIRRORS = 8
CHARTS = [build_chart(f"chart-{number}", "1.0.0") for number in range(12)]


@pytest.mark.parametrize("attempt", range(3))
async def test_mirrors_of_one_repository_at_once(tmp_path: Path, attempt: int) -> None:
    """Eight mirrors of one repository, from nothing, at the same time: all archives are in all of them."""
    del attempt  # which of them is the first with an archive is never the same
    async with ChartRepository(path="/stable") as source, open_chart_runs(tmp_path) as runs:
        for chart in CHARTS:
            source.add(chart)
        mirrors = [
            runs.mirror(source.url, name=f"m{number}", local=LOCAL, site=tmp_path / f"site-{number}")
            for number in range(MIRRORS)
        ]
        done = await asyncio.gather(*map(runs.run, mirrors))
        troubles = {receipt.detail for run in done for receipt in run.receipts if not receipt.good}
        assert ({run.result for run in done}, troubles) == ({Result.SUCCESS}, set())
        shown = [runs.local(mirror.name) for mirror in mirrors] + [site(tmp_path / f"site-{n}") for n in range(MIRRORS)]
        assert {len(sound(one)) for one in shown} == {len(CHARTS)}
        assert list((tmp_path / "scratch").iterdir()) == []
