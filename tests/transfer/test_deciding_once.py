"""A run decides once: what is looked at, chosen, guarded and planned is passed on, and done as it was printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirrord.events import Event, Planned
from mirrord.model.run import Run
from mirrord.pipeline import run_mirror
from mirrord.plan import differ
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.syncers.helm import syncer as helm
from mirrord.syncers.helm.plan import steps
from mirrord.syncers.helm.transfer import session
from mirrord.syncers.image.plan import steps as image
from mirrord.syncers.image.syncer import SYNCER as IMAGE
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.images import build_image
from tests.support.chartruns import ChartRuns, open_chart_runs
from tests.support.layouts import write_layout
from tests.support.world import World, open_world


class Counts:
    """Counts calls of functions, wherever these are called by their name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = Counter[str]()
        self._monkeypatch = monkeypatch

    def of(self, module: Any, name: str) -> None:
        """Count calls of a function by the name that it has in a module."""
        self._monkeypatch.setattr(module, name, self.counted(name, getattr(module, name)))

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that counts."""

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls[name] += 1
            return function(*arguments, **named)

        return call


async def once(world: ChartRuns | World, syncer: Syncer, mirror: Mirror, counts: Counts) -> Run:
    """Run a mirror, count surveys and plans, and see that what was printed is what was done."""
    heard: list[Event] = []
    world.services.events.listen(heard.append)
    counting = replace(syncer, survey=counts.counted("survey", syncer.survey), plan=counts.counted("plan", syncer.plan))
    run = await run_mirror(
        mirror, counting, world.services, world.store, "command", clock=lambda: world.now, parallel=4
    )
    (planned,) = [event.plan for event in heard if isinstance(event, Planned)]
    assert run.plan == planned
    assert Counter(planned.active) == Counter(receipt.step for receipt in run.receipts)
    return run


async def test_charts_are_chosen_guarded_and_planned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One survey, choice, guard and plan, and one listing for each index, whether there is much to do or nothing."""
    counts = Counts(monkeypatch)
    counts.of(helm, "choose")
    counts.of(steps, "guard")
    counts.of(steps, "listing")
    counts.of(session, "listing")
    async with open_chart_runs(tmp_path) as world, ChartRepository() as source:
        for version in ("1.0.0", "1.1.0"):
            source.add(build_chart("app", version))
        mirror = world.mirror(source.url, local=LOCAL, site=world.folder / "site", trust=0)
        run = await once(world, helm.SYNCER, mirror, counts)
        assert (run.result, len(run.receipts)) == ("success", 6)
        assert counts.calls == {"survey": 1, "choose": 1, "guard": 1, "plan": 1, "listing": 2}
        counts.calls.clear()
        again = await once(world, helm.SYNCER, mirror, counts)
        assert (again.result, again.receipts) == ("noop", ())
        assert counts.calls == {"survey": 1, "choose": 1, "guard": 1, "plan": 1, "listing": 2}


async def test_images_are_compared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One survey and one plan, and each step is decided once, whether there is something to do or nothing."""
    counts = Counts(monkeypatch)
    counts.of(image, "differ")
    counts.of(differ, "_compare")
    async with open_world(tmp_path) as world:
        target = await world.registry("target")
        folder = write_layout(build_image(), world.folder / "build")
        mirror = world.mirror({"layout": folder, "names": ["main-1", "main"]}, target, LOCAL, trust=0)
        run = await once(world, IMAGE, mirror, counts)
        assert (run.result, len(run.receipts)) == ("success", 2)
        assert counts.calls == {"survey": 1, "plan": 1, "differ": 1, "_compare": 2}
        counts.calls.clear()
        again = await once(world, IMAGE, mirror, counts)
        assert (again.result, again.receipts) == ("noop", ())
        assert counts.calls == {"survey": 1, "plan": 1, "differ": 1, "_compare": 2}
