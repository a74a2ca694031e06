"""ChartMuseum through all that happens to a version: the real one, and a double that answers as it does."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from mirrord.commands import Lift, Takedown
from mirrord.model.ledger import Settled
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm.transfer import server_index
from mirrord.testing import require
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.chartfiles import pack_chart, sign_chart
from tests.support.chartprograms import ChartMuseum, open_chartmuseum
from tests.support.chartpruning import V1, V2, V3, PrunedCharts
from tests.support.chartrestoring import restore
from tests.support.chartruns import ChartRuns
from tests.support.chartservers import ChartMuseumServer
from tests.support.pruning import done
from tests.support.verifying import opened

ONE = pack_chart("crane", "1.0.0")
AGAIN = pack_chart("crane", "1.0.0", description="packaged again")
LEFT = {"app-2.0.0", "app-3.0.0", "other-1.0.0"}
PLUS = pack_chart("crane", "1.1.0+b.1")
ASKED: list[tuple[str, str, bytes | None]] = [
    ("GET", "/charts/crane-1.0.0.tgz", None),
    ("DELETE", "/api/charts/crane/1.0.0", None),
    ("POST", "/api/prov", sign_chart(ONE)),
    ("POST", "/api/prov", sign_chart(ONE)),
    ("POST", "/api/charts", ONE),
    ("POST", "/api/charts", AGAIN),
    ("GET", "/charts/crane-1.0.0.tgz", None),
    ("POST", "/api/charts?force", AGAIN),
    ("POST", "/api/charts", PLUS),
    ("POST", "/api/prov", b"no provenance"),
    ("HEAD", "/charts/crane-1.0.0.tgz", None),
    ("GET", "/charts/crane-1.0.0.tgz", None),
    ("GET", "/charts/crane-1.1.0+b.1.tgz", None),
    ("DELETE", "/api/charts/crane/1.1.0%2Bb.1", None),
    ("DELETE", "/api/charts/crane/1.0.0", None),
    ("GET", "/charts/crane-1.0.0.tgz.prov", None),
    ("GET", "/charts/crane-1.0.0.tgz", None),
]


@pytest.fixture
async def museum() -> AsyncIterator[ChartMuseum]:
    require("chartmuseum")
    async with open_chartmuseum() as server:
        yield server


def there(museum: ChartMuseum) -> set[str]:
    return {file.name.removesuffix(".tgz") for file in museum.storage.iterdir()}


async def answers(url: str) -> list[tuple[str, str, int, bytes]]:
    """Ask all of `ASKED`; a form is what mirrord sends. Where files are is the server's own."""
    found = []
    async with aiohttp.ClientSession() as session:
        for method, path, body in ASKED:
            data: aiohttp.FormData | bytes | None = body
            if body is not None and path.startswith("/api/charts"):
                data = aiohttp.FormData()
                data.add_field("chart", body, filename="a.tgz", content_type="application/octet-stream")
            async with session.request(method, url + path, data=data) as answer:
                told = re.sub(rb"remove /\S*/", b"remove /", await answer.read())
                found.append((method, path, answer.status, told))
    return found


@pytest.mark.parametrize("options", [(), ("--disable-delete",), ("--disable-force-overwrite",)])
async def test_the_double_answers_as_the_real_one(options: tuple[str, ...]) -> None:
    """Status and body of each answer that mirrord depends on are those of the real server."""
    require("chartmuseum")
    double = ChartMuseumServer(force="--disable-force-overwrite" not in options)
    double.deletes = "--disable-delete" not in options
    async with AsyncExitStack() as stack:
        real = await stack.enter_async_context(open_chartmuseum(None, *options))
        await stack.enter_async_context(double)
        assert await answers(double.url) == await answers(real.url)


async def test_pruned_and_brought_back(museum: ChartMuseum, source: ChartRepository, runs: ChartRuns) -> None:
    """A version goes with its provenance, `restore` brings both back, and runs leave it there."""
    source.files[f"charts/{V1.file}.prov"] = sign_chart(V1.data)
    pruned = await PrunedCharts.open(runs, source, museum=f"chartmuseum+{museum.url}", local=LOCAL)
    whole = {"app-1.0.0", "app-1.0.0.tgz.prov", "app-2.0.0", "app-3.0.0", "other-1.0.0"}
    assert there(museum) == whole
    pruned.lose(V1)
    assert done(await pruned.twice()) == {("museum", "app-1.0.0")}
    await runs.run(pruned.mirror)
    assert there(museum) == {"app-2.0.0", "app-3.0.0", "other-1.0.0"}
    run = await restore(runs, pruned.mirror, "app-1.0.0")
    assert run.result is Result.SUCCESS, [one.detail for one in run.receipts]
    assert there(museum) == whole
    assert done(await pruned.twice()) == set()
    await runs.run(pruned.mirror)
    assert there(museum) == whole


async def test_an_index_that_does_not_hear_of_it(
    museum: ChartMuseum, source: ChartRepository, runs: ChartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody took out of its storage is listed for ever, and gone all the same; the rest is deleted."""
    monkeypatch.setattr(server_index, "PAUSES", (0.0,) * 7)
    pruned = await PrunedCharts.open(runs, source, museum=f"chartmuseum+{museum.url}", local=LOCAL)
    pruned.select(versions=">=3")
    (museum.storage / V1.file).unlink()
    assert done(await pruned.twice()) == {("museum", item) for item in ("app-1.0.0", "app-2.0.0", "other-1.0.0")}
    assert there(museum) == {"app-3.0.0"}


async def test_one_that_does_not_delete(source: ChartRepository, runs: ChartRuns) -> None:
    """Nothing is taken for gone, and it is said why."""
    require("chartmuseum")
    async with open_chartmuseum(None, "--disable-delete") as museum:
        pruned = await PrunedCharts.open(runs, source, museum=f"chartmuseum+{museum.url}", local=LOCAL)
        pruned.lose(V1)
        (receipt,) = (await pruned.twice()).receipts
        assert "`--disable-delete`" in receipt.detail
        assert "app-1.0.0" in there(museum)


async def test_taken_down(museum: ChartMuseum, source: ChartRepository, tmp_path: Path) -> None:
    """A version that was taken down is deleted, stays away in runs, and comes back after a lift."""
    for chart in (V2, V3):
        source.add(chart, prov=sign_chart(chart.data))
    denied = tmp_path / "denied.yaml"
    denied.touch()
    text = (
        f"settings: {{denied: {denied}}}\n"
        f"targets: {{museum: {{kind: helm, to: '{museum.url}', api: chartmuseum}}}}\n"
        f"mirrors: [{{name: charts, kind: helm, from: '{source.url}', to: [museum, local], changed: replace}}]\n"
    )
    both = {f"app-{n}.0.0{end}" for n in (2, 3) for end in ("", ".tgz.prov")}
    async with opened(tmp_path, text) as one:
        assert (await one.sync("charts")).result is Result.SUCCESS
        assert there(museum) == both
        taken = await one.dispatcher.carry_out(Takedown("charts", "ticket 4711", "app-2.0.0"))
        assert not taken.left
        assert there(museum) == {"app-3.0.0", "app-3.0.0.tgz.prov"}
        await one.sync("charts")
        assert there(museum) == {"app-3.0.0", "app-3.0.0.tgz.prov"}
        await one.dispatcher.carry_out(Lift("charts", "app-2.0.0"))
        assert (await one.sync("charts")).result is Result.SUCCESS
        assert there(museum) == both
        source.entries.clear()
        again = build_chart("app", "2.0.0", metadata={"description": "packaged again"})
        for chart in (again, V3):
            source.add(chart, prov=sign_chart(chart.data))
        run = await one.sync("charts")
        assert run.result is Result.SUCCESS, [one.detail for one in run.receipts if one.bad]
        assert (museum.storage / again.file).read_bytes() == again.data
        assert (museum.storage / f"{again.file}.prov").read_bytes() == sign_chart(again.data)


@pytest.mark.parametrize("lag", [0, 2])
async def test_a_chartmuseum(source: ChartRepository, runs: ChartRuns, lag: int) -> None:
    """A version goes by one DELETE, with its provenance; it counts once the index, made in the background, agrees."""
    async with ChartMuseumServer("/org/repo") as museum:
        pruned = await PrunedCharts.open(runs, source, museum=museum, local=LOCAL)
        museum.files["app-1.0.0.tgz.prov"] = b"name: app\nversion: 1.0.0\n"
        museum.lag = lag
        pruned.lose(V1)
        run = await pruned.twice()
        assert done(run) == {("museum", "app-1.0.0")}
        assert museum.files.keys() == {f"{item}.tgz" for item in LEFT}
        deletes = [one.path for one in museum.log if one.method == "DELETE"]
        assert deletes == ["/api/org/repo/charts/app/1.0.0"]
        moves = [one for one in await runs.store.moves("app") if one.after is None]
        assert [(one.name, one.outcome) for one in moves] == [("app:1.0.0", Settled.DONE)]
        assert (await pruned.prune()).receipts == ()
        assert (await runs.run(pruned.mirror)).result in {Result.NOOP, Result.SUCCESS}
        assert museum.files.keys() == {f"{item}.tgz" for item in LEFT}


async def test_a_chartmuseum_that_does_not_delete(source: ChartRepository, runs: ChartRuns) -> None:
    """With `--disable-delete` it answers as if nothing were there: its index says what is true."""
    async with ChartMuseumServer() as museum:
        pruned = await PrunedCharts.open(runs, source, museum=museum, local=LOCAL)
        museum.deletes = False
        pruned.lose(V1)
        run = await pruned.twice()
        assert [(one.outcome, "`--disable-delete`" in one.detail) for one in run.receipts] == [(Outcome.REFUSED, True)]
        assert "app-1.0.0.tgz" in museum.files
        assert ("museum", "app-1.0.0") in await runs.store.memory("app")
        museum.deletes = True
        assert done(await pruned.prune()) == {("museum", "app-1.0.0")}


async def test_a_chartmuseum_whose_index_is_late(
    source: ChartRepository, runs: ChartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that lists for ever what was deleted (of several servers each makes its own) hides no deletion."""
    monkeypatch.setattr(server_index, "PAUSES", (0.0,) * 7)
    async with ChartMuseumServer() as museum:
        pruned = await PrunedCharts.open(runs, source, museum=museum, local=LOCAL)
        museum.lag = 10**6
        pruned.lose(V1)
        assert done(await pruned.twice()) == {("museum", "app-1.0.0")}
        assert ("museum", "app-1.0.0") not in await runs.store.memory("app")
        assert done(await pruned.twice()) == set()


async def test_a_chartmuseum_that_only_says_that_it_deleted(
    source: ChartRepository, runs: ChartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is still there after all is a failure that names it, and not "does not delete"."""
    monkeypatch.setattr(server_index, "PAUSES", (0.0,) * 7)
    async with ChartMuseumServer() as museum:
        pruned = await PrunedCharts.open(runs, source, museum=museum, local=LOCAL)
        museum.keeps = True
        pruned.lose(V1)
        (receipt,) = (await pruned.twice()).receipts
        assert (receipt.outcome, receipt.code) == (Outcome.FAILED, "content")
        assert receipt.detail.endswith("app-1.0.0: said that it was deleted, and still has it")
        assert ("museum", "app-1.0.0") in await runs.store.memory("app")
