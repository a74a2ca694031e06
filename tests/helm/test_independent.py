"""One archive or one target that fails costs nothing but itself, at targets of every kind."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

import pytest

from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm.transfer.directory import DirectoryTarget
from mirrord.syncers.helm.upstream.fetch import ChartSource
from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import Chart, build_chart
from tests.support.chartruns import ChartRuns, Place, receipts, site, sound
from tests.support.chartservers import ChartMuseumServer, CodingServer

GOOD = [build_chart("app", "1.0.0"), build_chart("app", "1.2.0"), build_chart("base", "0.1.0")]
BAD = build_chart("app", "1.1.0")
SERVERS = {"coding": CodingServer, "museum": ChartMuseumServer, "registry": Registry}
KINDS = (LOCAL, "site", *SERVERS)


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as repository:
        for number, chart in enumerate((GOOD[0], BAD, *GOOD[1:])):
            repository.add(chart, created=f"2024-01-0{number + 1}T00:00:00Z")
        yield repository


@contextlib.asynccontextmanager
async def place_for(kind: str, runs: ChartRuns) -> AsyncIterator[Place]:
    """Give a target of a kind."""
    if kind in SERVERS:
        async with SERVERS[kind]() as server:
            yield server
    else:
        yield LOCAL if kind == LOCAL else runs.folder / "site"


def there(place: Place, runs: ChartRuns) -> set[str]:
    """Return the items that a target has, and lists where it is ours to list."""
    if isinstance(place, Registry):
        return {f"{name.rpartition('/')[2]}-{tag}" for name, tags in place.tags.items() for tag in tags}
    if isinstance(place, CodingServer | ChartMuseumServer):
        return items(place.files)
    shown = runs.local() if place == LOCAL else site(runs.folder / "site")
    assert {f"charts/{item}.tgz" for item in sound(shown)} == {name for name in shown if name.endswith(".tgz")}
    return set(sound(shown))


def items(files: Iterable[str]) -> set[str]:
    return {file.removesuffix(".tgz") for file in files if file.endswith(".tgz")}


def of(*charts: Chart) -> set[str]:
    return {f"{chart.name}-{chart.version}" for chart in charts}


UPSTREAM: dict[str, Callable[[ChartRepository], object]] = {
    "missing": lambda source: source.files.pop(f"charts/{BAD.file}"),
    "other bytes": lambda source: source.files.update({f"charts/{BAD.file}": GOOD[0].data}),
    "503": lambda source: source.faults.on("GET", f"{BAD.file}$", times=None).status(503),
    "hangs up": lambda source: source.faults.on("GET", f"{BAD.file}$", times=None).close_mid_header(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", UPSTREAM)
async def test_one_archive_that_cannot_be_had(wrong: str, kind: str, source: ChartRepository, runs: ChartRuns) -> None:
    """All others are published, the index says so, and the one comes when it can be had."""
    UPSTREAM[wrong](source)
    async with place_for(kind, runs) as place:
        mirror = runs.mirror(source.url, also={kind: place})
        run = await runs.run(mirror)
        assert there(place, runs) == of(*GOOD)
        assert {item for (_, item), receipt in receipts(run).items() if not receipt.good} == of(BAD)
        index = receipts(run).get((kind, "index"))  # which a registry has none of
        assert (index and index.detail) == (None if kind == "registry" else "index lists 3 versions")
        source.faults.clear()
        source.files[f"charts/{BAD.file}"] = BAD.data
        runs.later(days=2)
        again = await runs.run(mirror)
        assert (again.result, again.read) == (Result.SUCCESS, len(BAD.data))
        assert there(place, runs) == of(*GOOD, BAD)


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("status", [400, 403, 413, 507])
async def test_one_archive_that_a_server_refuses(
    status: int, kind: str, source: ChartRepository, runs: ChartRuns
) -> None:
    """A server that does not take one archive gets all others, and that one the next time."""
    async with place_for(kind, runs) as place:
        assert isinstance(place, Registry | CodingServer | ChartMuseumServer)
        method, path = ("PUT", "/manifests/1.1.0$") if kind == "registry" else ("POST", "")
        place.faults.on(method, path).status(status, b"no")
        mirror = runs.mirror(source.url, also={kind: place})
        runs.parallel = 1
        run = await runs.run(mirror)
        assert run.result is Result.PARTIAL
        assert len([receipt for receipt in run.receipts if not receipt.good]) == 1
        index = receipts(run).get((kind, "index"))  # which a registry has none of
        assert (index and index.outcome) is (None if kind == "registry" else Outcome.DONE)
        assert len(there(place, runs)) == 3
        assert (await runs.run(mirror)).result is Result.SUCCESS
        assert there(place, runs) == of(*GOOD, BAD)


async def test_a_bug_that_one_archive_brings_out(
    source: ChartRepository, runs: ChartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody foresaw is that archive's failure, short and without a page of text."""
    place = ChartSource._place

    async def broken(self: ChartSource, chart: object, same: object) -> object:
        if "1.1.0" in str(chart):
            raise ZeroDivisionError("by 0")
        return await place(self, chart, same)  # type: ignore[arg-type]  # as it was

    monkeypatch.setattr(ChartSource, "_place", broken)
    run = await runs.run(runs.mirror(source.url, local=LOCAL))
    assert set(sound(runs.local())) == of(*GOOD)
    assert [receipt.detail for receipt in run.receipts if not receipt.good] == ["a bug: ZeroDivisionError('by 0')"]


@pytest.mark.parametrize("verb", ["held", "finish"])
async def test_a_bug_that_one_target_brings_out(
    verb: str, source: ChartRepository, runs: ChartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody foresaw at one target is that target's failure; the others are served."""

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("by 0")

    monkeypatch.setattr(DirectoryTarget, verb, broken)
    run = await runs.run(runs.mirror(source.url, local=LOCAL, site=runs.folder / "site"))
    assert set(sound(runs.local())) == of(*GOOD, BAD)
    assert {key for key, receipt in receipts(run).items() if not receipt.good} == {("site", "index")}
    assert "ZeroDivisionError" in receipts(run)["site", "index"].detail
