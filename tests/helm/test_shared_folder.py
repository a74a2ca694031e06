"""A folder whose index others have written to as well: what they list stays, wherever its archive is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from mirrord.model.run import Result
from mirrord.syncer.values import Mirror
from mirrord.syncers.helm.syncer import _listing
from mirrord.syncers.helm.transfer.directory import DirectoryTarget
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart, build_index
from tests.support.chartpruning import V1, V2, V3, PrunedCharts
from tests.support.chartruns import HELM, ChartRuns, open_recorded
from tests.support.pruning import done

THEIRS = build_chart("theirs", "1.0.0")
URLS = ("https://cdn.example/theirs-1.0.0.tgz", "theirs-1.0.0.tgz")


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[ChartRuns]:
    async with open_recorded(tmp_path) as made:
        yield made


def urls(folder: Path) -> dict[str, list[str]]:
    """Return where the index says that archives are."""
    entries = yaml.safe_load((folder / "index.yaml").read_text())["entries"]
    return {f"{one['name']}-{one['version']}": one["urls"] for some in entries.values() for one in some}


@pytest.mark.parametrize("url", URLS)
async def test_entries_of_others_stay(runs: ChartRuns, url: str) -> None:
    """Runs, prunes and versions that come keep the entry of an archive that is at another place, as it is written."""
    folder = runs.folder / "site"
    folder.mkdir()
    (folder / "index.yaml").write_bytes(build_index([THEIRS.entry(url)]))
    (folder / "theirs-1.0.0.tgz").write_bytes(THEIRS.data)
    async with ChartRepository() as source:
        pruned = await PrunedCharts.open(runs, source, [V1, V2], {"removed": "delete"}, site=folder)
        shown = {"theirs-1.0.0": [url], "app-1.0.0": ["charts/app-1.0.0.tgz"], "app-2.0.0": ["charts/app-2.0.0.tgz"]}
        assert urls(folder) == shown
        runs.later(days=1)
        assert (await runs.run(pruned.mirror)).result is Result.NOOP
        source.add(V3)
        runs.later(days=1)
        assert (await runs.run(pruned.mirror)).result is Result.SUCCESS
        pruned.lose(V1)
        assert done(await pruned.twice(irrecoverable=True)) == {("site", "app-1.0.0")}
        del shown["app-1.0.0"]
        assert urls(folder) == {**shown, "app-3.0.0": ["charts/app-3.0.0.tgz"]}
    assert (folder / "theirs-1.0.0.tgz").read_bytes() == THEIRS.data


@pytest.mark.parametrize("url", URLS)
async def test_a_takedown_leaves_entries_of_others(tmp_path: Path, url: str) -> None:
    """The index without a version still lists what others wrote there; an archive of ours that is lost is no such."""
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / V1.file).write_bytes(V1.data)
    ours = [chart.entry(f"charts/{chart.file}") for chart in (V1, V2)]
    (tmp_path / "index.yaml").write_bytes(build_index([*ours, THEIRS.entry(url)]))
    mirror = Mirror("app", "helm", HELM.spec.model_validate({"from": "https://charts.example"}), ())
    place = DirectoryTarget(tmp_path, _listing)
    await place.drop(mirror, lambda chart: chart.item == "app-1.0.0", {"app-1.0.0"})
    assert urls(tmp_path) == {"theirs-1.0.0": [url]}
    assert not (tmp_path / "charts" / V1.file).exists()
