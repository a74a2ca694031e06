"""What looking at targets costs, and what one that is slow, far away or down does to the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirrord.model import Result
from mirrord.syncer import LOCAL
from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.chartruns import open_chart_runs, receipts, site, sound
from mirrord.testing.charts import build_chart
from mirrord.testing.chartservers import CodingServer
from mirrord.wire.host import HostBook, HostPolicy

MANY = [build_chart("app", f"1.{number}.0") for number in range(12)]


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as repository:
        for chart in MANY:
            repository.add(chart)
        yield repository


async def test_patience_is_that_of_one_request(
    source: ChartRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry far away that has thousands of versions is looked at for as long as it answers."""
    async with Registry() as registry:
        book = HostBook({registry.host: HostPolicy(registry.host, requests=1)})
        async with open_chart_runs(tmp_path, book=book) as runs:
            await runs.run(runs.mirror(source.url, registry=registry))
        loop, passed = asyncio.get_running_loop(), 0.0
        clock = loop.time

        def wait() -> None:
            nonlocal passed
            passed += 20

        monkeypatch.setattr(loop, "time", lambda: clock() + passed)
        registry.faults.on("GET|HEAD", "/manifests/", times=None).do(wait)
        async with open_chart_runs(tmp_path / "lost", book=book) as runs:
            run = await runs.run(replace(runs.mirror(source.url, registry=registry), deadline=3600.0))
        assert passed >= 20 * len(MANY)
        assert run.result is Result.NOOP, run


@pytest.mark.parametrize("again", ["soon", "later"])
async def test_a_dead_target_is_no_reason_to_write_the_others(
    again: str, source: ChartRepository, tmp_path: Path
) -> None:
    """While one target is down, the indexes of the others are written when they change, and not at every run."""
    async with open_chart_runs(tmp_path) as runs, CodingServer() as coding:
        coding.faults.on("*", "", times=None).status(500)
        mirror = runs.mirror(source.url, local=LOCAL, site=runs.folder / "site", coding=coding)
        assert set(receipts(await runs.run(mirror))) >= {(LOCAL, "index"), ("site", "index"), ("coding", "index")}
        for _ in range(2):
            if again == "later":
                runs.later(days=1)
            run = await runs.run(mirror)
            assert set(receipts(run)) == {("coding", "index")}
            assert len(sound(runs.local())) == len(sound(site(runs.folder / "site"))) == len(MANY)
