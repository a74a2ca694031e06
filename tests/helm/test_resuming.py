"""A first sync to the local store that was interrupted goes on where it was (helm F7)."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.named import FEW, UNFINISHED
from mirrord.errors import StorageError
from mirrord.failpoints import CRASH_STATUS
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm.transfer.local import LocalTarget
from mirrord.syncers.helm.transfer.target import IndexFile
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.chartruns import ChartRuns, open_chart_runs, run_until, sound
from tests.support.localstore import linked_in, place_in
from tests.support.signing import ShapeSigner

SIGNER = ShapeSigner()
MANY = [build_chart("app", f"1.{number}.0") for number in range(40)]
AT = 24
WAITING = f"_helm/app/{UNFINISHED}"


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as repository:
        for number, chart in enumerate(MANY):
            signed = number % 3 == 0
            repository.add(
                chart, created=f"2024-01-01T00:{number:02}:00Z", prov=chart.provenance(SIGNER) if signed else None
            )
        yield repository


def waiting(folder: Path) -> set[str]:
    """Return the files of archives that wait for their index."""
    linked = linked_in(folder / "links", WAITING)
    return {name for name in linked.tags if name.endswith(".tgz")} if linked else set()


async def interrupted(runs: ChartRuns, source: ChartRepository) -> int:
    """Cancel a run in the middle, as SIGTERM does; return how many archives it had put."""
    runs.parallel = 1
    fault = source.faults.on("GET", f"{MANY[AT].file}$").hold()
    running = asyncio.ensure_future(runs.run(runs.mirror(source.url, local=LOCAL)))
    await fault.reached.wait()
    running.cancel()
    await asyncio.wait([running])
    fault.release()
    source.forget()
    return len(waiting(runs.folder))


@pytest.mark.parametrize("restart", [False, True])
async def test_goes_on_where_it_was(restart: bool, source: ChartRepository, tmp_path: Path) -> None:
    """What was put before the interruption is not fetched again, signatures neither, also after a restart."""
    async with open_chart_runs(tmp_path) as runs:
        done = await interrupted(runs, source)
        assert AT - 1 <= done < len(MANY)
        assert runs.local() == {}  # nobody is served from half a repository
        if not restart:
            await finished(runs, source, done)
    if restart:
        async with open_chart_runs(tmp_path) as runs:  # the start sweeps what nobody names
            await finished(runs, source, done)


async def finished(runs: ChartRuns, source: ChartRepository, done: int) -> None:
    """Run again, and check what that costs and leaves."""
    mirror = runs.mirror(source.url, local=LOCAL)
    run = await runs.run(mirror)
    assert run.result is Result.SUCCESS
    assert source.count("GET", "tgz$") == len(MANY) - done
    assert sound(runs.local()) == {f"app-{chart.version}": chart.digest for chart in MANY}
    signed = {name for name in runs.local() if name.endswith(".prov")}
    assert signed == {f"charts/{chart.file}.prov" for chart in MANY[::3]}
    assert waiting(runs.folder) == set()
    assert (await runs.run(mirror)).result is Result.NOOP


async def test_what_is_wanted_no_more(source: ChartRepository, tmp_path: Path) -> None:
    """Archives that wait and are not wanted any more are not listed, and wait no longer once there is an index."""
    async with open_chart_runs(tmp_path) as runs:
        await interrupted(runs, source)
        run = await runs.run(runs.mirror(source.url, keys={"newest": 2}, local=LOCAL))
        assert run.plan is not None
        assert {step.item for step in run.plan.steps} == {"app-1.38.0", "app-1.39.0", "index"}
        assert set(sound(runs.local())) == {"app-1.38.0", "app-1.39.0"}
        assert waiting(runs.folder) == set()


@pytest.mark.parametrize("changed", ["keep", "replace", "fail"])
async def test_what_was_replaced_meanwhile(changed: str, source: ChartRepository, tmp_path: Path) -> None:
    """An archive that waits was never ours to keep: when upstream has replaced it since, the new one is taken."""
    again = build_chart("app", "1.0.0", metadata={"description": "packaged again"})
    async with open_chart_runs(tmp_path) as runs:
        await interrupted(runs, source)
        source.entries.pop(0)
        source.add(again, created="2024-01-01T00:00:00Z")
        await runs.run(runs.mirror(source.url, keys={"changed": changed}, local=LOCAL))
        assert sound(runs.local())["app-1.0.0"] == again.digest
        assert f"charts/{again.file}.prov" not in runs.local()


async def test_a_lost_archive_that_waits(source: ChartRepository, tmp_path: Path) -> None:
    """An archive that waits and is gone from the disk is fetched again, and no other."""
    async with open_chart_runs(tmp_path) as runs:
        done = await interrupted(runs, source)
        place = place_in(runs.folder / "blobs", MANY[0].digest)
        assert place is not None
        place.unlink()
        await finished(runs, source, done - 1)


async def test_after_a_failed_index(source: ChartRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put is named for the next run, and the run that ended needs it no more: a takedown may remove it."""
    failed: list[LocalTarget] = []  # so that it does not end with the last one who knows it

    async def no_space(place: LocalTarget, _: IndexFile) -> None:
        failed.append(place)
        raise StorageError("no space left")

    async with open_chart_runs(tmp_path) as runs:
        with monkeypatch.context() as patch:
            patch.setattr(LocalTarget, "finish", no_space)
            assert (await runs.run(runs.mirror(source.url, local=LOCAL))).result is Result.PARTIAL
        assert len(failed) == 1
        assert len(waiting(tmp_path)) == len(MANY)
        digests = {chart.digest for chart in MANY}
        assert isinstance(runs.services.repositories, DiskRepositories)
        assert runs.services.repositories.leases.free(digests) == digests
        source.forget()
        await finished(runs, source, len(MANY))


async def test_killed(source: ChartRepository, tmp_path: Path) -> None:
    """A kill costs what was put since the names were last written: a few, however many there were."""
    context: ForkServerContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.chartruns"])
    fault = source.faults.on("GET", f"{MANY[36].file}$").hold()
    child = context.Process(target=run_until, args=(tmp_path, source.url, 1_000_000, {}, {"local": LOCAL}))
    child.start()
    try:
        async with asyncio.timeout(60):
            await fault.reached.wait()
            # All others come; of them a few have no name yet.
            while len(waiting(tmp_path)) < len(MANY) - FEW:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.02)
        child.kill()
        await asyncio.to_thread(child.join, 60)
        assert child.exitcode not in (0, CRASH_STATUS)
    finally:
        child.kill()
        child.join()
    fault.release()
    await asyncio.sleep(0.3)  # requests of the killed process that were on their way are not the next run's
    for _ in range(100):  # also where this one stood still meanwhile
        await asyncio.sleep(0)
    source.forget()
    async with open_chart_runs(tmp_path) as runs:
        done = len(waiting(runs.folder))
        assert done >= len(MANY) - FEW
        await finished(runs, source, done)
