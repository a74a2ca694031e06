"""A server that keeps only so many versions of a chart loses nothing newer by what is put there (helm F4)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.errors import GuardError
from mirrord.model.plan import Action
from mirrord.model.run import Result, Run
from mirrord.syncers.helm.transfer import chartmuseum, server_index
from mirrord.syncers.helm.transfer.chartmuseum import ChartMuseumTarget
from mirrord.syncers.helm.transfer.retention import SAME, Retention
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import Chart, build_chart
from mirrord.testing.servers import require
from tests.support.chartfiles import pack_chart, sign_chart
from tests.support.chartprograms import open_chartmuseum
from tests.support.chartruns import ChartRuns, open_chart_runs, receipts
from tests.support.chartservers import ChartMuseumServer
from tests.support.chartworld import ChartWorld, index_of, open_chart_world, read_listing, version_of
from tests.support.signing import ShapeSigner

MANY = [build_chart("app", f"1.{number}.0") for number in range(6, 22)]
NEW = build_chart("app", "1.22.0")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_index, "PAUSES", (0.0,) * 7)


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as repository:
        fill(repository, *MANY)
        yield repository


def fill(repository: ChartRepository, *charts: Chart, signed: bool = False) -> None:
    for chart in charts:
        repository.add(
            chart,
            created=f"2024-01-{int(chart.version.split('.')[1]):02}T00:00:00Z",
            prov=chart.provenance(ShapeSigner()) if signed else None,
        )


def versions(museum: ChartMuseumServer) -> list[str]:
    """Return the numbers of the versions of `app` that are there."""
    return sorted((file.split(".")[1] for file in museum.files if file.endswith(".tgz")), key=int)


def reasons(run: Run) -> set[str]:
    assert run.plan is not None
    return {step.reason for step in run.plan.steps if step.action is Action.REFUSE}


@pytest.mark.parametrize("state", ["kept", "lost"])
async def test_the_newest_stay_run_after_run(
    state: str, source: ChartRepository, runs: ChartRuns, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The newest versions are there after the first run and after every other, whatever is remembered of the first."""
    async with ChartMuseumServer(limit=3) as museum:
        first = await runs.run(runs.mirror(source.url, museum=museum))
        assert first.result is Result.PARTIAL
        assert versions(museum) == ["19", "20", "21"]
        told = receipts(first)["museum", "index"]
        assert (told.code, "keeps 3 versions of a chart" in told.detail) == ("guard", True)
        assert "`newest: 3`" in told.detail
        for number in range(3):
            posts, looks = museum.count("POST"), museum.count("GET")
            folder = runs.folder if state == "kept" else tmp_path_factory.mktemp(f"fresh{number}")
            async with open_chart_runs(folder) as again:
                run = await again.run(again.mirror(source.url, museum=museum))
            assert (run.result, run.receipts) == (Result.PARTIAL, ())
            assert all("`newest: 3`" in reason for reason in reasons(run))
            assert len(reasons(run)) >= 1
            assert (museum.count("POST"), museum.count("GET")) == (posts, looks + 1)
            assert versions(museum) == ["19", "20", "21"]


async def test_the_limit_shows_early(source: ChartRepository, runs: ChartRuns) -> None:
    """Four uploads show the limit: of the rest only those are put that stay."""
    async with ChartMuseumServer(limit=3) as museum:
        run = await runs.run(runs.mirror(source.url, museum=museum))
        assert museum.count("POST") == 4 + 3
        refused = {item for (_, item), receipt in receipts(run).items() if receipt.code == "guard"}
        assert refused == {f"app-1.{number}.0" for number in range(10, 19)} | {"index"}


async def test_following_the_advice_ends_it(source: ChartRepository, runs: ChartRuns) -> None:
    """With `newest: 3` all is well, and a new version takes the place of the oldest."""
    async with ChartMuseumServer(limit=3) as museum:
        await runs.run(runs.mirror(source.url, museum=museum))
        mirror = runs.mirror(source.url, keys={"newest": 3}, museum=museum)
        assert (await runs.run(mirror)).result is Result.NOOP
        fill(source, NEW)
        assert (await runs.run(mirror)).result is Result.SUCCESS
        assert versions(museum) == ["20", "21", "22"]
        assert (await runs.run(mirror)).result is Result.NOOP


async def test_a_wider_choice_at_a_full_server(source: ChartRepository, runs: ChartRuns) -> None:
    """When `newest: 3` becomes everything, a server that never showed its limit is not tried out."""
    async with ChartMuseumServer(limit=3) as museum:
        assert (await runs.run(runs.mirror(source.url, keys={"newest": 3}, museum=museum))).result is Result.SUCCESS
        run = await runs.run(runs.mirror(source.url, museum=museum))
        assert (run.result, museum.count("POST"), versions(museum)) == (Result.PARTIAL, 3, ["19", "20", "21"])
        assert all("--allow" in reason for reason in reasons(run))


@pytest.mark.parametrize(("limit", "left"), [(0, range(6, 22)), (3, [20, 21, 6])])
async def test_on_the_operators_word(limit: int, left: list[int], source: ChartRepository, runs: ChartRuns) -> None:
    """With `--allow` older versions go to a server that keeps all; one that does not shows it by the first of them."""
    async with ChartMuseumServer(limit=limit) as museum:
        await runs.run(runs.mirror(source.url, keys={"newest": 3}, museum=museum))
        mirror = runs.mirror(source.url, museum=museum)
        bold = type(mirror)(mirror.name, mirror.kind, mirror.spec, mirror.targets, deadline=60.0, allow=True)
        run = await runs.run(bold)
        assert set(versions(museum)) == {str(number) for number in left}
        assert run.result is (Result.PARTIAL if limit else Result.SUCCESS)
        if not limit:
            assert (await runs.run(mirror)).result is Result.NOOP


async def test_a_limit_that_was_raised(source: ChartRepository, runs: ChartRuns) -> None:
    """What was learned of a limit is forgotten when the server shows more."""
    async with ChartMuseumServer(limit=3) as museum:
        mirror = runs.mirror(source.url, museum=museum)
        await runs.run(mirror)
        museum.limit = 0
        fill(source, NEW)
        await runs.run(mirror)
        assert versions(museum) == ["19", "20", "21", "22"]
        assert all("a server that keeps 4 versions" in reason for reason in reasons(await runs.run(mirror)))


@pytest.mark.parametrize("limit", [0, 5])
async def test_the_oldest_that_came_late(limit: int, runs: ChartRuns) -> None:
    """An upload that failed is made up for; should the server keep exactly as many as the others, that is put right."""
    async with ChartRepository() as repository, ChartMuseumServer(limit=limit) as museum:
        fill(repository, *MANY[:6])
        museum.faults.on("POST", "").status(403, b"quota")
        mirror = runs.mirror(repository.url, museum=museum)
        assert (await runs.run(mirror)).result is Result.PARTIAL
        assert versions(museum) == ["7", "8", "9", "10", "11"]
        second = await runs.run(mirror)
        if not limit:
            assert second.result is Result.SUCCESS
            assert versions(museum) == ["6", "7", "8", "9", "10", "11"]
            return
        assert "dropped app-1.7.0" in receipts(second)["museum", "index"].detail
        await runs.run(mirror)
        assert versions(museum) == ["7", "8", "9", "10", "11"]
        posts = museum.count("POST")
        assert reasons(await runs.run(mirror)) == {
            "the server keeps 5 versions of a chart, and there are newer ones; set `newest: 5`"
        }
        assert museum.count("POST") == posts


async def test_signed_charts_at_a_full_server(source: ChartRepository, runs: ChartRuns) -> None:
    """A signed chart costs the server nothing: in one form it would have dropped its oldest, and kept neither file."""
    source.entries.clear()
    fill(source, *MANY, signed=True)
    async with ChartMuseumServer(limit=3) as museum:
        mirror = runs.mirror(source.url, keys={"newest": 3}, museum=museum)
        await runs.run(mirror)
        fill(source, NEW, signed=True)
        assert (await runs.run(mirror)).result is Result.SUCCESS
        assert versions(museum) == ["20", "21", "22"]
        assert museum.files[f"{NEW.file}.prov"] == NEW.provenance(ShapeSigner())


async def test_a_late_patch_of_an_old_line(source: ChartRepository, runs: ChartRuns) -> None:
    """A late patch (1.8.9 after 1.21.0) comes where there is room, and costs nothing newer where there is none."""
    async with ChartMuseumServer() as free, ChartMuseumServer(limit=3) as full:
        mirror = runs.mirror(source.url, free=free, full=full)
        await runs.run(mirror)
        source.add(build_chart("app", "1.8.9"), created="2024-02-01T00:00:00Z")
        run = await runs.run(mirror)
        assert "app-1.8.9.tgz" in free.files
        assert versions(full) == ["19", "20", "21"]
        assert run.plan is not None
        steps = {step.target: step.action for step in run.plan.steps if step.item == "app-1.8.9"}
        assert steps == {"free": Action.COPY, "full": Action.REFUSE}


@pytest.mark.parametrize(
    ("there", "put", "lost"),
    [
        ({"1.0.0": 0, "1.1.0": 10}, "0.9.0", "1.0.0"),
        ({"1.0.0": 0, "1.1.0": 10}, "1.2.0", ""),
        ({"1.0.0": 0, "1.1.0": 10}, "1.0.1", ""),
        ({"1.1.0": 0, "1.0.0": 10}, "1.0.1", "1.1.0"),
        ({"1.9.0": 0, "1.10.0": 0, "1.8.0": 0}, "1.9.5", "1.10.0"),  # within a second by name
        ({"1.9.0": 0, "1.10.0": SAME / 2, "1.8.0": 9}, "1.9.5", "1.10.0"),  # perhaps in the same second
        ({"1.9.0": 0, "1.10.0": 2 * SAME, "1.8.0": 9}, "1.9.5", ""),
        ({"1.9.0": float("-inf"), "1.11.0": float("-inf")}, "1.10.0", "1.11.0"),  # nobody knows
    ],
)
def test_what_may_go_where_no_limit_is_known(there: dict[str, float], put: str, lost: str) -> None:
    """What came first goes, to the second, and within one by name; what is older than that is not put."""
    refusal = Retention({"app": there}).refusal(version_of(pack_chart("app", put)))
    assert (f"would drop app-{lost} for it" in refusal) if lost else not refusal


@pytest.mark.parametrize(
    ("there", "put", "first"),
    [
        ({"1.8.0": 0, "1.9.0": 5, "1.10.0": 9}, "1.11.0", ""),
        ({"1.8.0": 0, "1.9.0": 0, "1.10.0": 0}, "1.11.0", "1.8.0"),  # 1.10.0 would go: it is the first one by name
        ({"1.10.0": 0, "1.9.0": 5, "1.8.0": 9}, "1.11.0", "1.8.0"),
        ({"1.10.0": 0, "1.11.0": 5, "1.7.0": 9}, "1.9.0", "1.7.0"),  # what came back on the operator's word
    ],
)
def test_the_right_one_makes_way(there: dict[str, float], put: str, first: str) -> None:
    """Where the server would drop a newer version than it has to, the lowest is deleted first, if upstream has it."""
    ours = {f"app-{version}" for version in there}
    room = Retention({"app": there}, keeps=3, ours=ours)
    chart = version_of(pack_chart("app", put))
    assert (room.refusal(chart), room.makes_way(chart)) == ("", first)
    foreign = Retention({"app": there}, keeps=3)
    assert foreign.makes_way(chart) == ""
    assert ("which is newer" in foreign.refusal(chart)) == bool(first)


def test_room_that_another_chart_proves() -> None:
    """So many versions as one chart has, every other may have: the newest of those that lack come first."""
    room = Retention({"big": dict.fromkeys("12345", 0.0), "app": {"2.0.0": 0.0, "2.1.0": 9.0}})
    lacking = [version_of(pack_chart("app", f"1.{number}.0")) for number in range(5)]
    assert set(room.refused(lacking)) == {"app-1.0.0", "app-1.1.0"}


async def test_an_index_that_lags_is_no_limit(world: ChartWorld) -> None:
    """What an index shows late was not dropped: nothing is learned from it."""
    target = await world.target("chartmuseum", lag=4)
    charts = [pack_chart("app", f"1.{number}.0") for number in range(4)]
    for one in charts:
        await world.put(target, one)
    await target.finish(index_of(*charts))
    assert world.facts == {}


@pytest.mark.parametrize("signed", [False, True])
async def test_the_real_one(signed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ChartMuseum with a limit keeps the newest, whatever is put there in whatever order of runs."""
    require("chartmuseum")
    monkeypatch.undo()
    charts = [pack_chart("app", f"1.{number}.0") for number in range(7, 13)]
    async with open_chartmuseum(None, "--per-chart-limit=3") as server, open_chart_world(tmp_path) as world:
        for _ in range(3):
            museum = chartmuseum.Museum(wanted=[version_of(one) for one in charts])
            target = ChartMuseumTarget(
                server_index.ServedIndex(world.http, server.url, read_listing, world.facts), museum
            )
            await target.held(museum.wanted)
            refused = target.refused([version_of(one) for one in charts])
            for one in charts:
                if version_of(one).item not in refused:
                    with contextlib.suppress(GuardError):
                        await world.put(target, one, sign_chart(one) if signed else None)
            with contextlib.suppress(GuardError):
                await target.finish(index_of(*charts))
            there = {file.name for file in server.storage.iterdir() if file.suffix == ".tgz"}
            assert there == {"app-1.10.0.tgz", "app-1.11.0.tgz", "app-1.12.0.tgz"}
        assert world.facts == {chartmuseum.KEEPS: "3"}


@pytest.mark.parametrize("deletes", [True, False])
async def test_within_one_second(deletes: bool, runs: ChartRuns) -> None:
    """Versions that came within one second go by name: 1.10.0 before 1.9.0, unless 1.9.0 is deleted first."""
    async with ChartRepository() as repository, ChartMuseumServer(limit=3) as museum:
        museum.clock, museum.deletes = (lambda: 5.0), deletes
        fill(repository, *MANY[:6])  # 1.6.0 to 1.11.0
        mirror = runs.mirror(repository.url, museum=museum)
        run = await runs.run(mirror)
        assert run.result is Result.PARTIAL
        assert versions(museum) == (["9", "10", "11"] if deletes else ["8", "9", "10"])
        again = await runs.run(mirror)
        assert versions(museum) == (["9", "10", "11"] if deletes else ["8", "9", "10"])
        assert again.result is Result.PARTIAL


@pytest.mark.parametrize("known", [True, False])
async def test_the_next_one_after_those_of_one_second(known: bool, runs: ChartRuns) -> None:
    """A new version takes the place of the lowest, not of the first by name, also when that is wanted no more."""
    async with ChartRepository() as repository, ChartMuseumServer(limit=3) as museum:
        museum.clock = lambda: 5.0
        fill(repository, *(MANY[:6] if known else MANY[3:6]))  # up to 1.11.0
        mirror = runs.mirror(repository.url, keys={} if known else {"newest": 3}, museum=museum)
        await runs.run(mirror)
        mirror = runs.mirror(repository.url, keys={"newest": 3}, museum=museum)
        assert versions(museum) == ["9", "10", "11"]
        museum.clock = lambda: 9.0
        fill(repository, MANY[6])
        run = await runs.run(mirror)
        assert versions(museum) == (["10", "11", "12"] if known else ["9", "11", "12"])
        assert run.result is (Result.SUCCESS if known else Result.PARTIAL)
        assert (await runs.run(mirror)).result in (Result.SUCCESS, Result.NOOP)
        assert versions(museum) == ["10", "11", "12"]
