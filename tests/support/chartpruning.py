"""A mirror of charts whose source loses versions, and prunes of what its targets have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mirrord.model.plan import Plan
from mirrord.model.run import Run
from mirrord.pipeline import plan_mirror, run_mirror
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror, PruneWish, Services
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import Chart, build_chart
from tests.support.chartruns import HELM, ChartRuns, Place

V1, V2, V3 = (build_chart("app", f"{number}.0.0") for number in (1, 2, 3))
OTHER = build_chart("other", "1.0.0")
CHARTS: Sequence[Chart] = (V1, V2, V3, OTHER)


@dataclass
class PrunedCharts:
    """A mirror of a repository with what it brought to its targets.

    Attributes:
        runs: where it runs.
        source: has `CHARTS` at first.
        mirror: the mirror of all of them.
        others: mirrors beside it.
        images: mirrors of images beside it.
    """

    runs: ChartRuns
    source: ChartRepository
    mirror: Mirror
    others: Sequence[Mirror] = field(default_factory=list)
    images: Sequence[Mirror] = ()

    @classmethod
    async def open(
        cls,
        runs: ChartRuns,
        source: ChartRepository,
        charts: Sequence[Chart] = CHARTS,
        keys: Mapping[str, Any] | None = None,
        **targets: Place,
    ) -> PrunedCharts:
        """Fill the source, and mirror it."""
        source.entries = [chart.entry() for chart in charts]
        source.files |= {f"charts/{chart.file}": chart.data for chart in charts}
        source.publish()
        mirror = runs.mirror(source.url, keys=keys, also=targets)
        run = await runs.run(mirror)
        assert not run.error, run.error
        assert not [one for one in run.receipts if one.bad], run.receipts
        return cls(runs, source, mirror)

    def lose(self, *charts: Chart) -> None:
        """Let versions go from the source, with their archives."""
        gone = {(chart.name, chart.version) for chart in charts}
        self.source.entries = [one for one in self.source.entries if (one["name"], one["version"]) not in gone]
        self.source.publish()
        for chart in charts:
            self.source.files.pop(f"charts/{chart.file}", None)

    def select(self, **keys: Any) -> None:
        """Mirror with other keys."""
        self.mirror = replace(
            self.mirror, spec=HELM.spec.model_validate({"from": self.source.url, "max_loss": 1, **keys})
        )

    async def plan(self, **wish: bool) -> Plan:
        """Plan a prune; what it finds not wanted is noted."""
        return await plan_mirror(self.mirror, _syncer(wish), self.services, self.runs.store, self.runs.now)

    async def prune(self, **wish: bool) -> Run:
        """Prune once, and remember."""
        clock = lambda: self.runs.now  # noqa: E731 - as short as a name
        return await run_mirror(
            self.mirror, _syncer(wish), self.services, self.runs.store, "prune", clock=clock, parallel=4
        )

    async def twice(self, **wish: bool) -> Run:
        """Plan a prune, and prune two days later."""
        plan = await self.plan(**wish)
        assert not plan.error, plan.error
        assert not plan.active, plan
        self.runs.later(days=2)
        return await self.prune(**wish)

    @property
    def services(self) -> Services:
        """The services with all mirrors."""
        return replace(self.runs.services, mirrors={"image": self.images, "helm": [self.mirror, *self.others]})


def _syncer(wish: Mapping[str, bool]) -> Syncer:
    assert HELM.pruning
    return HELM.pruning(PruneWish(**wish))
