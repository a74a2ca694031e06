"""What `mirrord prune` removes of charts at targets, and above all what it does not."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from mirrord.model.keep import Keep
from mirrord.model.ledger import Settled
from mirrord.model.plan import Action
from mirrord.model.run import Outcome, Result
from mirrord.plan.restored import hold
from mirrord.syncer.restoring import FACTS
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm.transfer.directory import DirectoryTarget
from mirrord.syncers.helm.transfer.target import IndexFile
from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart, build_index
from mirrord.testing.distribution import Ask
from mirrord.testing.intake import Intake
from mirrord.testing.reply import Reply
from tests.support.chartprograms import helm, helms
from tests.support.chartpruning import OTHER, V1, V2, V3, PrunedCharts
from tests.support.chartregistry import put_chart
from tests.support.chartrestoring import restore
from tests.support.chartruns import CHARTS_AT, ChartRuns, open_chart_runs, place_of, site, sound
from tests.support.chartservers import ChartMuseumServer, CodingServer
from tests.support.pruning import done, going, stays
from tests.support.store import MemoryStore

Both = tuple[DockerRegistry, DockerRegistry]
LEFT = {"app-2.0.0", "app-3.0.0", "other-1.0.0"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both() -> AsyncIterator[Both]:
    """A registry that deletes manifests only, and one that deletes tags."""
    require("docker-registry", "registry3")
    async with DockerRegistry(access_log=True) as old, DockerRegistry(access_log=True, program="registry3") as new:
        yield old, new


async def tags(registry: Registry | DockerRegistry, chart: str = "app") -> set[str]:
    """Return the tags of a chart."""
    url = f"http://{registry.host}/v2/{CHARTS_AT}/{chart}/tags/list"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return set((await answer.json()).get("tags") or ())


@pytest.mark.asyncio(loop_scope="module")
async def test_what_upstream_lost_goes_after_a_second_look(both: Both, tmp_path: Path) -> None:
    """The first prune notes it, one a day later removes it everywhere but in `local`; helm still gets the rest."""
    old, new = both
    async with ChartRepository() as source, open_chart_runs(tmp_path) as runs:
        folder = tmp_path / "site"
        pruned = await PrunedCharts.open(runs, source, old=old, new=new, site=folder, local=LOCAL)
        pruned.lose(V1)
        await runs.run(pruned.mirror)
        first = await pruned.prune()
        assert (first.result, first.receipts) == (Result.NOOP, ())
        said = "upstream does not list it any more; a prune after 2024-06-18T12:00:00Z may remove it"
        assert stays(first.plan) == {(target, "app-1.0.0"): said for target in ("old", "new", "site")}
        assert await tags(old) == {"1.0.0", "2.0.0", "3.0.0"}
        runs.later(days=1)
        run = await pruned.prune()
        assert done(run) == {("old", "app-1.0.0"), ("new", "app-1.0.0"), ("site", "app-1.0.0")}
        assert {one.step.reason for one in run.receipts} == {
            "upstream does not list it any more; can be brought back from local"
        }
        assert [await tags(registry) for registry in both] == [{"2.0.0", "3.0.0"}] * 2
        shown = site(folder)
        assert sound(shown).keys() == LEFT
        assert {name for name in shown if name.endswith(".tgz")} == {f"charts/{item}.tgz" for item in LEFT}
        assert "app-1.0.0" in sound(runs.local())
        known = await runs.store.memory("app")
        assert {key for key in known if key[1] == "app-1.0.0"} == {(LOCAL, "app-1.0.0")}
        moves = {one.target: one for one in await runs.store.moves("app") if one.after is None}
        assert {target: (one.name, one.before, one.outcome) for target, one in moves.items()} == dict.fromkeys(
            ("old", "new", "site"), ("app:1.0.0", V1.digest, Settled.DONE)
        )
        (tmp_path / "got").mkdir()
        for binary in helms():
            async with helm(binary) as call:
                for registry in both:
                    place = f"{place_of(registry)}/app"
                    for version, status in (("2.0.0", 0), ("1.0.0", 1)):
                        pulled = await call("pull", place, "--version", version, "--plain-http", "-d", tmp_path / "got")
                        assert pulled.status == status, pulled
        runs.later(days=1)
        writes = len([hit for one in both for hit in one.hits() if hit.method not in ("GET", "HEAD")])
        assert (await pruned.prune()).receipts == ()
        assert (await runs.run(pruned.mirror)).result is Result.NOOP
        assert writes == len([hit for one in both for hit in one.hits() if hit.method not in ("GET", "HEAD")])


async def test_what_the_mirror_does_not_select_any_more(source: ChartRepository, runs: ChartRuns) -> None:
    """A version that `newest` leaves out by now goes as well, and the source can give it back."""
    async with Registry() as registry:
        pruned = await PrunedCharts.open(runs, source, registry=registry)
        pruned.select(newest=1)
        run = await pruned.twice()
        assert done(run) == {("registry", "app-1.0.0"), ("registry", "app-2.0.0")}
        assert {one.step.reason for one in run.receipts} == {
            "the mirror does not select it any more; can be brought back from the source"
        }
        assert await tags(registry) == {"3.0.0"}
        pruned.select()
        assert (await runs.run(pruned.mirror)).result is Result.SUCCESS
        assert await tags(registry) == {"1.0.0", "2.0.0", "3.0.0"}


@pytest.mark.parametrize(("answer", "left"), [(403, {"1.0.0", "3.0.0"}), (503, {"1.0.0", "3.0.0"}), (405, {"3.0.0"})])
async def test_what_the_source_does_not_give_stays(
    source: ChartRepository, runs: ChartRuns, answer: int, left: set[str]
) -> None:
    """S3 says 403 of an archive that is gone: it could not be brought back. A server without HEAD says nothing."""
    async with Registry() as registry:
        pruned = await PrunedCharts.open(runs, source, registry=registry)
        pruned.select(newest=1)
        source.faults.on("HEAD", "app-1.0.0.tgz", times=None).status(answer)
        await pruned.twice()
        assert await tags(registry) == left


async def test_charts_in_a_registry_as_source(runs: ChartRuns) -> None:
    """Of a source that is a registry, tags are what it lists; a repository that fails says nothing of its chart."""
    async with Registry() as upstream, Registry() as registry:
        for chart in (V1, V2, V3, OTHER):
            put_chart(upstream, chart.name, chart, chart.version)
        keys = {"charts": ["app", "other"]}
        mirror = runs.mirror(f"oci://{upstream.host}/team/charts", keys=keys, registry=registry, local=LOCAL)
        assert (await runs.run(mirror)).result is Result.SUCCESS
        pruned = PrunedCharts(runs, ChartRepository(), mirror)
        del upstream.tags["team/charts/app"]["1.0.0"]
        upstream.faults.on("GET", "/team/charts/other/tags/list", times=None).status(403)
        await pruned.plan()
        runs.later(days=2)
        run = await pruned.prune()
        assert {(one.step.target, one.step.item) for one in run.receipts} == {("registry", "app-1.0.0")}
        assert run.plan
        assert run.plan.missing[0].startswith("other: cannot be read now")
        assert await tags(registry) == {"2.0.0", "3.0.0"}
        assert await tags(registry, "other") == {"1.0.0"}
        narrow = {"charts": ["app", "other"], "versions": ">=3"}
        pruned.mirror = runs.mirror(f"oci://{upstream.host}/team/charts", keys=narrow, registry=registry, local=LOCAL)
        await runs.run(replace(pruned.mirror, allow=True))
        await pruned.plan()
        runs.later(days=2)
        reasons = {one.step.item: one.step.reason for one in (await pruned.prune()).receipts}
        left = "the mirror does not select it any more; can be brought back from local, the source"
        assert reasons == {"app-2.0.0": left}


@pytest.mark.parametrize("how", ["fails", "empty", "shrank", "charts"])
async def test_an_accident_removes_nothing(source: ChartRepository, runs: ChartRuns, how: str) -> None:
    """An index that fails, lists nothing, or lost too much; and a configuration that lost most of its charts."""
    charts = [build_chart("app", f"{number}.0.0") for number in range(1, 8)]
    pruned = await PrunedCharts.open(runs, source, [*charts, OTHER], site=runs.folder / "site", local=LOCAL)
    before = site(runs.folder / "site")
    if how == "fails":
        source.faults.on("GET", "/index.yaml", times=None).status(403)
    elif how == "empty":
        pruned.lose(*charts, OTHER)
    elif how == "shrank":
        pruned.lose(*charts[:2])  # more than a run accepts, and less than a prune
    else:
        pruned.select(charts=["other"])
    said = {
        "fails": "index.yaml",
        "empty": "upstream lost 8 of 8 versions",
        "shrank": "upstream lost 2 of 8 versions (app-1.0.0, app-2.0.0), more than max_loss of 20% allows; if this is",
        "charts": "the configuration no longer names 7 of 8 versions",
    }
    for _ in range(2):
        run = await pruned.prune()
        assert (run.receipts, run.result) == ((), Result.FAILED), run
        text = run.error or (run.plan and run.plan.first_missing) or ""
        assert said[how] in text, text
        runs.later(days=2)
    assert site(runs.folder / "site") == before
    if how == "shrank":  # a run that accepts it is all that is needed
        pruned.mirror = replace(pruned.mirror, allow=True)
        await runs.run(pruned.mirror)
        pruned.mirror = replace(pruned.mirror, allow=False)
        assert done(await pruned.twice()) == {("site", "app-1.0.0"), ("site", "app-2.0.0")}


async def test_what_upstream_lists_and_cannot_be_read_stays(source: ChartRepository, runs: ChartRuns) -> None:
    """An entry that is left out since it is wrong is still one that upstream lists."""
    pruned = await PrunedCharts.open(runs, source, site=runs.folder / "site", local=LOCAL)
    source.entries[0]["urls"] = 7
    source.publish()
    run = await pruned.twice()
    assert run.receipts == ()
    assert sound(site(runs.folder / "site")).keys() == {*LEFT, "app-1.0.0"}


async def test_what_others_have_there_stays(source: ChartRepository, runs: ChartRuns) -> None:
    """What others published stays without `--adopt`, which shows it first; charts that we do not have stay anyway."""
    async with Registry() as registry:
        folder = runs.folder / "site"
        beside = runs.mirror(source.url, name="beside", site=folder)
        theirs, foreign = build_chart("app", "9.0.0+build.1"), build_chart("foreign", "1.0.0")
        source.add(theirs)
        source.add(foreign)
        await runs.run(beside)
        for chart in (theirs, foreign):
            put_chart(registry, chart.name, chart, chart.version.replace("+", "_"))
        source.entries.clear()
        pruned = await PrunedCharts.open(runs, source, site=folder, registry=registry, local=LOCAL)
        why = "not written by this mirror; `--adopt` takes it over"
        both = {("site", "app-9.0.0+build.1"), ("registry", "app-9.0.0+build.1")}
        assert stays(await pruned.plan()) == dict.fromkeys(both, why)
        runs.later(days=2)
        assert (await pruned.prune()).receipts == ()
        assert going(await pruned.plan(adopt=True, irrecoverable=True)) == both
        pruned.others = [beside]
        claimed = stays(await pruned.plan(adopt=True, irrecoverable=True))["site", "app-9.0.0+build.1"]
        assert claimed == "mirror beside has it, too"
        pruned.others = []
        assert done(await pruned.prune(adopt=True, irrecoverable=True)) == both
        assert sound(site(folder)).keys() == {*LEFT, "app-1.0.0", "foreign-1.0.0"}
        assert await tags(registry) == {"1.0.0", "2.0.0", "3.0.0"}
        assert await tags(registry, "foreign") == {"1.0.0"}


async def test_what_somebody_else_moved_stays(source: ChartRepository, runs: ChartRuns) -> None:
    """A tag that another archive was pushed to is not ours any more; what was seen just before is not trusted."""
    async with Registry() as registry:
        keys = {"prune": {"after": "0s"}}
        pruned = await PrunedCharts.open(runs, source, keys=keys, registry=registry, local=LOCAL)
        other = build_chart("app", "1.0.0", metadata={"description": "theirs"})
        put_chart(registry, "app", other, "1.0.0")
        pruned.lose(V1)
        await pruned.plan()
        run = await pruned.prune()
        assert run.receipts == ()
        assert stays(run.plan) == {("registry", "app-1.0.0"): f"somebody else moved it: it is {other.digest} there"}
        assert "1.0.0" in await tags(registry)


async def test_what_is_listed_and_cannot_be_read_stays(
    source: ChartRepository, runs: ChartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server lists no digest and hands out no archive, or a tag is no chart any more: neither is called gone."""
    async with ChartMuseumServer() as museum, Registry() as registry:
        index, answer = museum.index, museum.answer

        async def closed(ask: Ask, intake: Intake) -> Reply:
            return Reply(403) if ask.method == "GET" and ask.path.endswith(".tgz") else await answer(ask, intake)

        monkeypatch.setattr(museum, "index", lambda **_: index(digests=False))
        pruned = await PrunedCharts.open(runs, source, museum=museum, registry=registry)
        monkeypatch.setattr(museum, "answer", closed)
        museum.times = {file: at + 1 for file, at in museum.times.items()}  # what was noted of it counts no more
        await push(build_image(["linux/amd64"], layers=1, seed="a"), registry, f"{CHARTS_AT}/app", ["1.0.0"])
        pruned.lose(V1)
        run = await pruned.twice()
        assert run.receipts == ()
        assert {target for target, item in stays(run.plan) if item == "app-1.0.0"} == {"museum", "registry"}
        assert {target for target, item in await runs.store.memory("app") if item == "app-1.0.0"} == {
            "museum",
            "registry",
        }


async def test_what_an_index_does_not_list_any_more(source: ChartRepository, runs: ChartRuns) -> None:
    """Where somebody took a version and its archive out of a folder it is gone there, and the record says so."""
    folder = runs.folder / "site"
    pruned = await PrunedCharts.open(runs, source, site=folder, local=LOCAL)
    pruned.lose(V1)
    await pruned.plan()
    runs.later(days=2)
    (folder / "index.yaml").write_bytes(build_index([chart.entry() for chart in (V2, V3, OTHER)]))
    (folder / "charts" / V1.file).unlink()
    run = await pruned.prune()
    assert done(run) == {("site", "app-1.0.0")}
    assert run.receipts[0].step.reason == "gone there already"
    assert sound(site(folder)).keys() == LEFT
    assert ("site", "app-1.0.0") not in await runs.store.memory("app")


async def test_what_could_not_be_brought_back_stays(source: ChartRepository, runs: ChartRuns) -> None:
    """It stays when no other place keeps it; `local` and folders do not count where they may drop it by themselves."""
    async with Registry() as one, Registry() as two:
        pruned = await PrunedCharts.open(runs, source, one=one, two=two, site=runs.folder / "site", local=LOCAL)
        pruned.lose(V1)
        await pruned.plan()
        runs.later(days=2)
        plan = await pruned.plan()
        assert {step.reason.partition("; ")[2] for step in plan.active} == {"can be brought back from local"}
        lost = "no place is sure to keep its content, so it could not be brought back; `--irrecoverable` removes it"
        whole = pruned.mirror
        for mirror in (
            replace(whole, keep=Keep(newest=1)),
            replace(whole, spec=whole.spec.model_copy(update={"removed": "delete"})),
            replace(whole, targets=tuple(target for target in whole.targets if target.name != LOCAL)),
        ):
            pruned.mirror = mirror
            plan = await pruned.plan()
            assert {step.reason.partition("; ")[2] for step in plan.steps} == {lost}, plan
            assert not plan.active
        run = await pruned.prune(irrecoverable=True)
        assert done(run) == {("one", "app-1.0.0"), ("two", "app-1.0.0"), ("site", "app-1.0.0")}
        assert {one.step.reason.partition("; ")[2] for one in run.receipts} == {"cannot be brought back"}


async def test_what_somebody_replaced_in_a_folder_meanwhile_stays(
    source: ChartRepository, runs: ChartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at its index and the new one another archive came: it is theirs."""
    folder = runs.folder / "site"
    pruned = await PrunedCharts.open(runs, source, site=folder, local=LOCAL)
    pruned.lose(V1)
    await pruned.plan()
    runs.later(days=2)
    theirs = build_chart("app", "1.0.0", metadata={"description": "theirs"})
    finish = DirectoryTarget.finish

    async def replaced(target: DirectoryTarget, index: IndexFile) -> None:
        file = folder / "index.yaml"
        file.write_text(file.read_text().replace(V1.digest.hex, theirs.digest.hex))
        (folder / "charts" / theirs.file).write_bytes(theirs.data)
        await finish(target, index)

    monkeypatch.setattr(DirectoryTarget, "finish", replaced)
    (receipt,) = (await pruned.prune()).receipts
    assert (receipt.outcome, receipt.code) == (Outcome.FAILED, "busy")
    assert sound(site(folder)).keys() == {*LEFT, "app-1.0.0"}


async def test_the_source_counts_only_by_name(source: ChartRepository, runs: ChartRuns) -> None:
    """A blob that a registry has not collected yet, and an archive that an index lists and is gone, are no way back."""
    async with Registry() as upstream, Registry() as one, Registry() as two:
        for chart in (V1, V2, V3):
            put_chart(upstream, chart.name, chart, chart.version)
        mirror = runs.mirror(f"oci://{upstream.host}/team/charts", keys={"charts": ["app"]}, registry=one)
        assert (await runs.run(mirror)).result is Result.SUCCESS
        of_registry = PrunedCharts(runs, source, mirror)
        del upstream.tags["team/charts/app"]["1.0.0"]
        of_index = await PrunedCharts.open(runs, source, registry=two)
        of_index.select(newest=1)
        del source.files[f"charts/{V1.file}"]
        for pruned, expected in ((of_registry, set()), (of_index, {("registry", "app-2.0.0")})):
            await pruned.plan()
            runs.later(days=2)
            assert going(await pruned.plan()) == expected


async def test_another_target_keeps_it(source: ChartRepository, runs: ChartRuns) -> None:
    """What goes everywhere at once is kept by none of the targets; what stays at one can be brought back from there."""
    async with Registry() as one, Registry() as two:
        pruned = await PrunedCharts.open(runs, source, one=one, two=two)
        pruned.lose(V1)
        await pruned.plan()
        runs.later(days=2)
        assert not (await pruned.plan()).active
        assert runs.services.facts
        await runs.services.facts.note("app", FACTS, hold({}, {("two", "app:1.0.0"): V1.digest}, runs.now))
        run = await pruned.prune()
        assert done(run) == {("one", "app-1.0.0")}
        assert run.receipts[0].step.reason.endswith("; can be brought back from two")


async def test_a_target_that_is_away_fails_alone(source: ChartRepository, runs: ChartRuns) -> None:
    """Others are pruned; what was noted of it stays noted, so that it is pruned once it is back."""
    async with Registry() as one, Registry() as two:
        pruned = await PrunedCharts.open(runs, source, one=one, two=two, site=runs.folder / "site", local=LOCAL)
        pruned.lose(V1)
        await pruned.plan()
        runs.later(days=2)
        two.faults.on("GET", "/tags/list", times=2).status(403)
        (runs.folder / "site" / "index.yaml").rename(runs.folder / "aside")
        (runs.folder / "site" / "index.yaml").write_text("no index")
        run = await pruned.prune()
        assert {(one.step.target, one.step.item) for one in run.receipts} == {("one", "app-1.0.0")}
        assert run.plan
        refused = {step.target: step.code for step in run.plan.steps if step.action is Action.REFUSE}
        assert refused == {"two": "denied", "site": "content"}
        shutil.move(runs.folder / "aside", runs.folder / "site" / "index.yaml")
        assert done(await pruned.prune()) == {("two", "app-1.0.0"), ("site", "app-1.0.0")}
        assert sound(site(runs.folder / "site")).keys() == LEFT


async def test_a_removal_that_fails_stops_no_other_one(source: ChartRepository, runs: ChartRuns) -> None:
    """A registry that does not delete: its version stays, is refused, and counts as there."""
    async with Registry() as one, Registry() as two:
        pruned = await PrunedCharts.open(runs, source, one=one, two=two, local=LOCAL)
        pruned.lose(V1)
        two.faults.on("DELETE", "/manifests/", times=None).status(405)
        run = await pruned.twice()
        ends = {one.step.target: one.outcome for one in run.receipts}
        assert ends == {"one": Outcome.DONE, "two": Outcome.REFUSED}
        assert await tags(two) == {"1.0.0", "2.0.0", "3.0.0"}
        assert ("two", "app-1.0.0") in await runs.store.memory("app")


async def test_what_was_restored_stays(source: ChartRepository, runs: ChartRuns) -> None:
    """A version that `restore` set back is wanted until it is released."""
    keys = {"removed": "delete", "max_loss": 1}
    async with Registry() as registry:
        pruned = await PrunedCharts.open(runs, source, keys=keys, registry=registry, local=LOCAL)
        pruned.lose(V1)
        await runs.run(pruned.mirror)
        assert (await restore(runs, pruned.mirror, "app-1.0.0")).result is Result.SUCCESS
        assert (await pruned.twice()).receipts == ()
        assert await tags(registry) == {"1.0.0", "2.0.0", "3.0.0"}


async def test_nothing_without_the_database(source: ChartRepository, runs: ChartRuns) -> None:
    """A ledger that was lost says of nothing that it is ours."""
    async with Registry() as registry:
        pruned = await PrunedCharts.open(runs, source, registry=registry, site=runs.folder / "site", local=LOCAL)
        pruned.lose(V1, V2)
        await pruned.plan()
        runs.later(days=2)
        runs.store = MemoryStore()
        run = await pruned.prune(irrecoverable=True)
        assert run.receipts == ()
        assert await tags(registry) == {"1.0.0", "2.0.0", "3.0.0"}
        assert sound(site(runs.folder / "site")).keys() == {*LEFT, "app-1.0.0"}
        assert V3.version in await tags(registry)


async def test_coding_has_no_api_for_it(source: ChartRepository, runs: ChartRuns) -> None:
    """The plan says so, and nothing is asked of it."""
    async with CodingServer() as coding:
        pruned = await PrunedCharts.open(runs, source, coding=coding, local=LOCAL)
        pruned.lose(V1)
        await pruned.plan()
        runs.later(days=2)
        (step,) = (await pruned.plan()).steps
        assert (step.action, step.code) == (Action.REFUSE, "unsupported")
        assert step.reason.endswith("Coding has no API by which mirrord deletes charts; delete it there by hand")
        assert (await pruned.prune()).receipts == ()
        assert "app-1.0.0.tgz" in coding.files


async def test_what_is_known_of_others_stays_known(
    source: ChartRepository, runs: ChartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose index has no digests: what was fetched to know the other versions is not fetched anew."""
    async with ChartMuseumServer() as museum:
        index = museum.index
        monkeypatch.setattr(museum, "index", lambda **_: index(digests=False))
        pruned = await PrunedCharts.open(runs, source, museum=museum)
        pruned.lose(V1)
        assert done(await pruned.twice(irrecoverable=True)) == {("museum", "app-1.0.0")}
        museum.wire.exchanges.clear()
        assert (await runs.run(pruned.mirror)).result is Result.NOOP
        assert [one.path for one in museum.log if one.method == "GET"] == ["/index.yaml"]
