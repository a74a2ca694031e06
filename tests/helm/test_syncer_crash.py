"""kill -9 at any moment of a publication of charts: old index or new one, never an entry without its file.

The process is ended before its first write to a disk, before its second, and so on until it gets through: every step
is the last one once, also those that have no failpoint.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
from collections.abc import AsyncIterator, Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from mirrord.failpoints import CRASH_STATUS
from mirrord.model.digest import Digest
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import Chart, build_chart
from tests.support.chartruns import Place, open_chart_runs, place_of, run_until, site, sound
from tests.support.chartservers import ChartMuseumServer, CodingServer
from tests.support.signing import ShapeSigner

SIGNER = ShapeSigner()
A1, A2, B1 = build_chart("app", "1.0.0"), build_chart("app", "1.1.0"), build_chart("base", "0.1.0")
A3 = build_chart("app", "1.2.0")
AGAIN = build_chart("app", "1.0.0", metadata={"description": "packaged again"})
KEYS = {"removed": "delete", "changed": "replace", "max_loss": 1}
MANY = 200  # writes: more than any publication here has


@pytest.fixture(scope="module")
def children() -> ForkServerContext:
    """Start children from a process that has everything loaded: a fresh interpreter takes ten times as long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.chartruns"])
    return context


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as repository:
        put(repository, A1, B1)
        yield repository


def put(repository: ChartRepository, *charts: Chart) -> None:
    """Let the repository hold these charts and no others, all of them signed."""
    repository.entries.clear()
    for chart in charts:
        repository.add(chart, prov=chart.provenance(SIGNER))


def listing(*charts: Chart) -> Mapping[str, Digest]:
    return {f"{chart.name}-{chart.version}": chart.digest for chart in charts}


async def end(
    children: ForkServerContext, folder: Path, source: ChartRepository, stop: int | str, targets: Mapping[str, Place]
) -> int | None:
    """Run in a child that ends at `stop`; return its status."""
    places = {name: place_of(place) for name, place in targets.items()}
    child = children.Process(target=run_until, args=(folder, source.url, stop, KEYS, places))
    child.start()
    try:
        await asyncio.to_thread(child.join, 60)
        return child.exitcode
    finally:
        child.kill()
        child.join()


CHANGES: dict[str, tuple[tuple[Chart, ...], tuple[Chart, ...]]] = {
    "first": ((), (A1, B1)),
    "added": ((A1, B1), (A1, B1, A2)),
    "removed": ((A1, A2, B1), (B1,)),
    "replaced": ((A1, B1), (AGAIN, B1)),
    "all at once": ((A1, B1), (AGAIN, A2)),
}


@pytest.mark.parametrize("kind", ["local", "site"])
@pytest.mark.parametrize("change", CHANGES)
async def test_crash_before_every_write(
    kind: str, change: str, children: ForkServerContext, source: ChartRepository, tmp_path: Path
) -> None:
    """Whichever write is the last, the old or the new index is served with all its files, and the next run mends all.

    Only a version that is replaced in a folder has a moment between two renames; the next run ends it.
    """
    old, new = CHANGES[change]
    state, kept = tmp_path / "state", tmp_path / "kept"
    target: dict[str, Place] = {kind: LOCAL if kind == "local" else state / "site"}
    if old:
        put(source, *old)
        async with open_chart_runs(state) as runs:
            assert (await runs.run(runs.mirror(source.url, keys=KEYS, also=target))).result is Result.SUCCESS
    state.mkdir(exist_ok=True)
    put(source, *new)
    state.rename(kept)
    seen, torn, number = set(), 0, 0
    for number in range(MANY):
        shutil.copytree(kept, state)
        status = await end(children, state, source, number, target)
        assert status in (0, CRASH_STATUS)
        async with open_chart_runs(state) as runs:
            shown = runs.local() if kind == "local" else site(state / "site")
            try:
                listed = sound(shown)
            except AssertionError:
                torn += 1
            else:
                assert listed in (listing(*old), listing(*new))
                seen.add(listed == listing(*new))
            mirror = runs.mirror(source.url, keys=KEYS, also=target)
            again = await runs.run(mirror)
            if not status:
                assert again.result is Result.NOOP
                break
            assert again.result in (Result.SUCCESS, Result.NOOP), again
            assert (await runs.run(mirror)).result is Result.NOOP
            shown = runs.local() if kind == "local" else site(state / "site")
            assert sound(shown) == listing(*new)
            files = {f"charts/{chart.file}{end}" for chart in new for end in ("", ".prov")}
            left = {name for name in shown if name.startswith("charts/")} - files
            assert [*state.rglob("*.tmp")] == []
            if left:  # they go with the next publication
                put(source, *new, A3)
                assert (await runs.run(mirror)).result is Result.SUCCESS
                put(source, *new)
                shown = site(state / "site")
                assert {name for name in shown if name.startswith("charts/")} == files | {
                    f"charts/{A3.file}",
                    f"charts/{A3.file}.prov",
                }
        shutil.rmtree(state)
    assert 5 < number < MANY
    assert seen == {False, True}
    assert torn <= (3 if kind == "site" and AGAIN in new else 0)


@pytest.mark.parametrize("point", ["push.tag", "push.blob", "facts.noted", "links.renamed"])
async def test_crash_at_a_failpoint_with_servers(
    point: str, children: ForkServerContext, source: ChartRepository, tmp_path: Path
) -> None:
    """Killed between servers, the next run gives each what it lacks, and nothing that it has is sent again."""
    put(source, A1, A2, B1)
    async with CodingServer() as coding, ChartMuseumServer() as museum, Registry() as registry:
        targets: dict[str, Place] = {"coding": coding, "museum": museum, "registry": registry, "local": LOCAL}
        assert await end(children, tmp_path, source, point, targets) == CRASH_STATUS
        there = len(coding.files), sum(file.endswith(".tgz") for file in museum.files)
        posts = coding.count("POST"), museum.count("POST", "/api/charts")
        async with open_chart_runs(tmp_path) as runs:
            mirror = runs.mirror(source.url, keys=KEYS, also=targets)
            assert (await runs.run(mirror)).result in (Result.SUCCESS, Result.NOOP)
            assert sound(runs.local()) == listing(A1, A2, B1)
            wanted = {chart.file: chart.data for chart in (A1, A2, B1)}
            assert coding.files == wanted
            assert museum.files == wanted | {f"{one.file}.prov": one.provenance(SIGNER) for one in (A1, A2, B1)}
            assert set(registry.tags["team/charts/app"]) == {"1.0.0", "1.1.0"}
            assert registry.content.dangling() == []
            assert (coding.count("POST"), museum.count("POST", "/api/charts")) == (
                posts[0] + 3 - there[0],
                posts[1] + 3 - there[1],
            )
            assert (await runs.run(mirror)).result is Result.NOOP
