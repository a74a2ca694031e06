"""What runs over charts write down of the versions they publish, and how what was left open is settled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mirrord.model.ledger import Settled
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.chartruns import ChartRuns
from tests.support.chartservers import ChartMuseumServer, CodingServer

ONE, TWO, THREE = (build_chart("app", f"1.{number}.0") for number in range(3))
AGAIN = build_chart("app", "1.0.0", metadata={"description": "packaged again"})


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as repository:
        repository.add(ONE)
        repository.add(TWO)
        yield repository


async def entries(runs: ChartRuns) -> set[tuple[str, str, str | None, str | None, Settled]]:
    return {(one.target, one.name, one.before, one.after, one.outcome) for one in await runs.store.moves("app")}


async def test_each_version_is_written_down(source: ChartRepository, runs: ChartRuns) -> None:
    """Of each version that comes to a target, is replaced or is listed no more, there is what was there before."""
    keys = {"removed": "delete", "changed": "replace", "max_loss": 1}
    async with Registry() as registry:
        mirror = runs.mirror(source.url, keys=keys, registry=registry, local=LOCAL, site=runs.folder / "s")
        await runs.run(mirror)
        targets = ("registry", "local", "site")
        made = {
            (target, f"app:{chart.version}", None, chart.digest, Settled.DONE)
            for target in targets
            for chart in (ONE, TWO)
        }
        assert await entries(runs) == made
        source.entries.clear()
        source.add(AGAIN)
        source.add(THREE)
        runs.later(days=1)
        await runs.run(mirror)
        found = await entries(runs) - made
        moves = ((ONE, AGAIN), (TWO, None), (None, THREE))
        ours = {
            (name, f"app:1.{number}.0", old and old.digest, new and new.digest, Settled.DONE)
            for name in ("local", "site")
            for number, (old, new) in enumerate(moves)
        }
        assert {entry for entry in found if entry[0] in ("local", "site")} == ours
        assert ("registry", "app:1.0.0", ONE.digest, AGAIN.digest, Settled.DONE) in found
        runs.later(days=1)
        count = len(await runs.store.moves("app"))
        assert (await runs.run(mirror)).result is Result.NOOP
        assert len(await runs.store.moves("app")) == count


@pytest.mark.parametrize("kind", ["coding", "museum", "registry", "local", "site"])
async def test_what_was_left_open_is_looked_at(kind: str, source: ChartRepository, runs: ChartRuns) -> None:
    """Whatever the target is, the next run finds out what a version stands for there, and writes that down."""
    async with CodingServer() as coding, ChartMuseumServer() as museum, Registry() as registry:
        place = {"coding": coding, "museum": museum, "registry": registry, "local": LOCAL, "site": runs.folder / "s"}
        mirror = runs.mirror(source.url, also={kind: place[kind]})  # type: ignore[dict-item]  # one of each kind
        await runs.run(mirror)
        (found, *_) = [one for one in await runs.store.moves("app") if one.name == "app:1.0.0"]
        later = replace(found, outcome=Settled.OPEN)
        gone = replace(later, name="app:9.9.9")
        moved = replace(later, name="app:1.1.0", after=ONE.digest)
        runs.store._ledger.clear()
        await runs.store.intend([later, gone, moved])
        await runs.run(mirror)
        outcomes = {one.name: one.outcome for one in await runs.store.moves("app")}
        assert outcomes == {"app:1.0.0": Settled.DONE, "app:9.9.9": Settled.UNDONE, "app:1.1.0": Settled.OTHER}
