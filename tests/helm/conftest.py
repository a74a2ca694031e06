"""What most tests of charts use: a source, runs of mirrors, and targets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.testing.chart_repository import ChartRepository
from tests.support.chartruns import ChartRuns, open_chart_runs
from tests.support.chartworld import ChartWorld, open_chart_world


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    """Return a repository without charts."""
    async with ChartRepository() as repository:
        yield repository


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[ChartRuns]:
    """Return what runs mirrors, with a record in memory."""
    async with open_chart_runs(tmp_path) as made:
        yield made


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ChartWorld]:
    """Return targets of all kinds."""
    async with open_chart_world(tmp_path) as made:
        yield made
