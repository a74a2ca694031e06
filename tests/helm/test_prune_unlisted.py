"""What `mirrord prune` does with archives in a folder that no index lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mirrord.model.ledger import Settled
from mirrord.model.run import Outcome
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm.transfer.directory import DirectoryTarget
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart, build_index
from tests.support.chartpruning import OTHER, V1, V2, V3, PrunedCharts
from tests.support.chartruns import ChartRuns, site, sound
from tests.support.pruning import done, going, stays

LEFT = build_chart("app", "0.9.0")
"""What a run that was killed left in the folder."""
FOREIGN = build_chart("foreign", "1.0.0")


@pytest.fixture
async def pruned(source: ChartRepository, runs: ChartRuns) -> PrunedCharts:
    made = await PrunedCharts.open(runs, source, site=runs.folder / "site", local=LOCAL)
    for chart in (LEFT, FOREIGN):
        (charts(runs) / chart.file).write_bytes(chart.data)
    (charts(runs) / f"{LEFT.file}.prov").write_bytes(b"signed")
    return made


def charts(runs: ChartRuns) -> Path:
    return runs.folder / "site" / "charts"


def index(runs: ChartRuns) -> Mapping[str, bytes]:
    return {name: data for name, data in site(runs.folder / "site").items() if name.startswith("index")}


async def test_it_is_shown_and_adopted(pruned: PrunedCharts, runs: ChartRuns) -> None:
    """It stays without `--adopt`, which shows it first; the index is as before, and charts of others stay anyway."""
    before = index(runs)
    why = "not written by this mirror; `--adopt` takes it over"
    assert stays(await pruned.plan()) == {("site", "app-0.9.0"): why}
    runs.later(days=2)
    assert (await pruned.prune()).receipts == ()
    assert (
        stays(await pruned.plan(adopt=True))["site", "app-0.9.0"].partition("; ")[2].startswith("no place is sure to ")
    )
    assert going(await pruned.plan(adopt=True, irrecoverable=True)) == {("site", "app-0.9.0")}
    run = await pruned.prune(adopt=True, irrecoverable=True)
    assert done(run) == {("site", "app-0.9.0")}
    assert run.receipts[0].step.reason.endswith("cannot be brought back; no index lists it")
    assert {file.name for file in charts(runs).iterdir()} == {one.file for one in (V1, V2, V3, OTHER, FOREIGN)}
    assert index(runs) == before
    (move,) = [one for one in await runs.store.moves("app") if one.name == "app:0.9.0"]
    assert (move.before, move.after, move.outcome) == (LEFT.digest, None, Settled.DONE)
    assert (await pruned.prune(adopt=True, irrecoverable=True)).receipts == ()


async def test_what_we_wrote_and_somebody_unlisted(pruned: PrunedCharts, runs: ChartRuns) -> None:
    """The ledger has it, and it is what we wrote: it goes like what is listed."""
    pruned.lose(V1)
    await pruned.plan()
    runs.later(days=2)
    (runs.folder / "site" / "index.yaml").write_bytes(build_index([one.entry() for one in (V2, V3, OTHER)]))
    run = await pruned.prune()
    assert done(run) == {("site", "app-1.0.0")}
    assert run.receipts[0].step.reason.endswith("can be brought back from local; no index lists it")
    assert not (charts(runs) / V1.file).exists()
    assert (charts(runs) / LEFT.file).exists()
    assert sound(site(runs.folder / "site")).keys() == {"app-2.0.0", "app-3.0.0", "other-1.0.0"}


@pytest.mark.parametrize("how", ["listed", "replaced", "unreadable"])
async def test_what_changed_meanwhile_stays(
    pruned: PrunedCharts, runs: ChartRuns, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Between the plan and the removal somebody lists it, or replaces it, or breaks the index: nothing is removed."""
    await pruned.plan()
    runs.later(days=2)
    remove, listed = DirectoryTarget.remove, runs.folder / "site" / "index.yaml"
    left = charts(runs) / LEFT.file

    async def meanwhile(self: DirectoryTarget, *given: object) -> None:
        if how == "listed":
            listed.write_bytes(build_index([one.entry() for one in (LEFT, V1, V2, V3, OTHER)]))
        elif how == "replaced":
            left.write_bytes(b"theirs")
        else:
            listed.write_bytes(b"apiVersion: [")
        await remove(self, *given)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(DirectoryTarget, "remove", meanwhile)
    run = await pruned.prune(adopt=True, irrecoverable=True)
    outcome = Outcome.FAILED if how == "unreadable" else Outcome.REFUSED
    assert [(one.step.item, one.outcome) for one in run.receipts] == [("app-0.9.0", outcome)], run
    assert left.exists()


async def test_an_index_that_cannot_be_read_unlists_nothing(pruned: PrunedCharts, runs: ChartRuns) -> None:
    """Nobody knows what it lists: the target is left alone, and the plan says why."""
    await pruned.plan()
    runs.later(days=2)
    (runs.folder / "site" / "index.yaml").write_bytes(b"apiVersion: [")
    assert not going(await pruned.plan(adopt=True, irrecoverable=True))
