"""What mirrors of other kinds have at the place of a prune."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.model.run import Result
from mirrord.pipeline import run_mirror
from mirrord.syncer.values import LOCAL, Mirror, PruneWish, Target
from mirrord.syncers.helm.plan.claimed import claimed
from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from tests.support.chartpruning import V1, PrunedCharts
from tests.support.chartruns import CHARTS_AT, HELM, open_chart_runs
from tests.support.pruning import done, stays
from tests.support.world import IMAGE


async def test_charts_and_images_in_one_repository(tmp_path: Path) -> None:
    """A registry is mirrored as images to where the charts are: neither prune removes a tag that the other has."""
    async with ChartRepository() as source, Registry() as one, Registry() as two, open_chart_runs(tmp_path) as runs:
        pruned = await PrunedCharts.open(runs, source, one=one, two=two, local=LOCAL)
        keys = {"from": {"repository": f"{one.host}/{CHARTS_AT}/app", "tags": ["*"]}, "as": "app"}
        place = Target("second", "image", f"{two.host}/{CHARTS_AT}", IMAGE.target_spec())
        spec = IMAGE.spec.model_validate({**keys, "prune": {"after": "0s"}})
        images = Mirror("images", "image", spec, (place,), deadline=60.0)
        clock = lambda: runs.now  # noqa: E731 - as short as a name
        run = await run_mirror(images, IMAGE, runs.services, runs.store, "command", clock=clock, parallel=4)
        assert run.result in (Result.SUCCESS, Result.NOOP)
        pruned.images = [images]
        pruned.lose(V1)
        run = await pruned.twice()
        assert done(run) == {("one", "app-1.0.0")}
        assert stays(run.plan)["two", "app-1.0.0"] == "mirror images has it, too"
        assert IMAGE.pruning
        syncer = IMAGE.pruning(PruneWish(adopt=True, irrecoverable=True))
        for _ in range(2):
            run = await run_mirror(images, syncer, pruned.services, runs.store, "prune", clock=clock, parallel=4)
            assert run.receipts == ()
            assert stays(run.plan) == {("second", "1.0.0"): "mirror app has it, too"}
            runs.later(days=2)
        assert two.tags[f"{CHARTS_AT}/app"].keys() == {"1.0.0", "2.0.0", "3.0.0"}


@pytest.mark.parametrize(
    ("to", "item", "names"),
    [
        ("oci://registry.example/a", "app-1.0.0+x", {"registry.example/a/app:1.0.0_x"}),
        ("oci://registry.example/x", "a-2-1.0.0", {"registry.example/x/a:2-1.0.0", "registry.example/x/a-2:1.0.0"}),
        ("/charts", "app-1.0.0", {"/charts#app-1.0.0"}),
    ],
)
def test_the_names_of_a_version(to: str, item: str, names: set[str]) -> None:
    """An item does not always tell chart and version apart: it is said to have each name that it may have."""
    spec = HELM.spec.model_validate({"from": "https://charts.example"})
    mirror = Mirror("app", "helm", spec, (Target("one", "helm", to, HELM.target_spec()),))
    assert {*claimed(mirror)(item)["one"]} == names
