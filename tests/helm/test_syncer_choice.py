"""What a chart mirror takes of an index, in which form it shows it, and what it does not believe."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm.names import spec_of
from mirrord.syncers.helm.plan.choice import selected
from mirrord.syncers.helm.spec import HelmSpec
from mirrord.syncers.helm.upstream import poll as polling
from mirrord.testing import Registry
from mirrord.testing.chart_repository import INDEX, ChartRepository
from mirrord.testing.charts import build_chart, build_index
from tests.support.chartruns import ChartRuns, open_chart_runs, receipts, site, sound
from tests.support.chartservers import ChartMuseumServer, CodingServer

VERSIONS = ("1.0.0", "v1.1.0", "1.2.0", "2.0.0", "2.1.0-rc.1", "2.1.0-rc.2")
DAY = "2024-06-{:02}T12:00:00Z"


def fill(source: ChartRepository) -> None:
    """Give the source versions of `app`, one a day, and two other charts, one of them deprecated."""
    for day, version in enumerate(VERSIONS, 1):
        source.add(build_chart("app", version), created=DAY.format(day))
    source.add(build_chart("app-extra", "1.0.0"), created=DAY.format(1))
    source.add(build_chart("old", "1.0.0", metadata={"deprecated": True}), created=DAY.format(1))


ALL = {f"app-{version}" for version in VERSIONS}
EXTRA = {"app-extra-1.0.0"}
OTHERS = EXTRA | {"old-1.0.0"}
CHOICES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "all": ({}, ALL | OTHERS),
    "globs": ({"charts": ["app"]}, ALL),
    "globs with star": ({"charts": ["app*"]}, ALL | {"app-extra-1.0.0"}),
    "excluded": ({"exclude": ["*-extra", "old"]}, ALL),
    "excluded of globs": ({"charts": ["app*"], "exclude": ["app"]}, {"app-extra-1.0.0"}),
    "skipped": ({"skip": {"app": ["1.0.0", "v1.1.0"], "old": ["1.0.0"]}}, ALL - {"app-1.0.0", "app-v1.1.0"} | EXTRA),
    "range of one": ({"versions": {"app": "^2"}}, {"app-2.0.0"} | OTHERS),
    "range of one and of others": ({"versions": {"*": ">1", "app": "^2"}}, {"app-2.0.0"}),
    "range of a glob": ({"versions": {"app-*": ">1", "app": "^2", "app*": ">3"}}, {"app-2.0.0", "old-1.0.0"}),
    "newest": ({"newest": 1}, {"app-2.0.0"} | OTHERS),
    "newest 2 of one": ({"newest": 2, "charts": ["app"]}, {"app-2.0.0", "app-1.2.0"}),
    "newest with pre-releases": ({"newest": 1, "prereleases": True, "charts": ["app"]}, {"app-2.1.0-rc.2"}),
    "stable only": ({"prereleases": False, "charts": ["app"]}, ALL - {"app-2.1.0-rc.1", "app-2.1.0-rc.2"}),
    "range": ({"versions": ">=1.1 <2", "charts": ["app"]}, {"app-v1.1.0", "app-1.2.0"}),
    "range and newest": ({"versions": "^1", "newest": 1, "charts": ["app"]}, {"app-1.2.0"}),
    "not deprecated": ({"deprecated": False}, ALL | {"app-extra-1.0.0"}),
    "min age": ({"min_age": "13d", "charts": ["app"]}, ALL - {"app-2.1.0-rc.1", "app-2.1.0-rc.2"}),
    "min age and newest": ({"min_age": "14d", "newest": 1, "charts": ["app"]}, {"app-1.2.0"}),
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("kind", ["classic", "oci"])
async def test_what_is_taken(choice: str, kind: str, source: ChartRepository, runs: ChartRuns) -> None:
    """Charts, ranges, newest, age and the rest choose alike from an index and from the tags of a registry."""
    keys, wanted = CHOICES[choice]
    fill(source)
    if kind == "classic":
        assert (await runs.run(runs.mirror(source.url, keys=keys, local=LOCAL))).result is Result.SUCCESS
        assert set(sound(runs.local())) == wanted
        return
    async with Registry() as registry:
        await runs.run(runs.mirror(source.url, name="first", registry=registry))
        named = {"charts": ["app", "app-extra", "old"], **keys}
        if "*" in "".join(named["charts"]):
            named["charts"] = ["app", "app-extra"]
        mirror = runs.mirror(f"oci://{registry.host}/team/charts", keys=named, local=LOCAL)
        assert (await runs.run(mirror)).result is Result.SUCCESS
        assert set(sound(runs.local())) == wanted
        registry.wire.exchanges.clear()
        assert (await runs.run(mirror)).result is Result.NOOP
        asked = [name for name in named["charts"] if selected(name, spec_of(mirror))]
        assert registry.count("*", "") == registry.count("GET", "/tags/list") == len(asked)


async def test_nothing_wanted_is_told(source: ChartRepository, runs: ChartRuns) -> None:
    """A version that is no longer wanted stays unless `removed: delete`; the plan says why it is there."""
    fill(source)
    await runs.run(runs.mirror(source.url, keys={"charts": ["app"]}, local=LOCAL))
    plan = await runs.plan(runs.mirror(source.url, keys={"charts": ["app"], "newest": 1}, local=LOCAL))
    assert {step.reason for step in plan.steps if step.item == "app-1.0.0"} == {
        "no longer wanted; kept (`removed: keep`)"
    }
    keys = {"charts": ["app"], "newest": 1, "removed": "delete"}
    assert (await runs.run(runs.mirror(source.url, keys=keys, local=LOCAL))).result is Result.SUCCESS
    assert set(sound(runs.local())) == {"app-2.0.0"}


async def test_a_version_of_the_last_year_stops_nothing(source: ChartRepository, runs: ChartRuns) -> None:
    """A version whose time is so late that none can be added to it is too young, for ever; the others are taken."""
    source.add(build_chart("app", "1.0.0"), created=DAY.format(1))
    source.add(build_chart("late", "1.0.0"), created="9999-12-31T23:59:59Z")
    run = await runs.run(runs.mirror(source.url, keys={"min_age": "1d"}, local=LOCAL))
    assert run.result is Result.SUCCESS, run
    assert set(sound(runs.local())) == {"app-1.0.0"}


def test_min_age_has_an_end() -> None:
    """An age beyond ten years is a mistake, and one of a billion would be no date."""
    with pytest.raises(ValidationError, match="is outside 0s to 3660d"):
        HelmSpec.model_validate({"min_age": "999999999999d"})


async def test_min_age_ripens(source: ChartRepository, runs: ChartRuns) -> None:
    """A version that is too young today is taken when it is old enough, although the index did not change since."""
    fill(source)
    mirror = runs.mirror(source.url, keys={"min_age": "13d", "charts": ["app"]}, local=LOCAL, trust=90 * 86400)
    await runs.run(mirror)
    assert "app-2.1.0-rc.1" not in sound(runs.local())
    runs.later(hours=23)
    source.forget()
    assert (await runs.run(mirror)).result is Result.NOOP
    assert [exchange.status for exchange in source.log] == [304]
    runs.later(hours=1)
    assert (await runs.run(mirror)).result is Result.SUCCESS
    assert set(sound(runs.local())) == ALL - {"app-2.1.0-rc.2"}
    runs.later(hours=24)
    await runs.run(mirror)
    assert set(sound(runs.local())) == ALL
    source.forget()
    runs.later(hours=24)
    assert (await runs.run(mirror)).result is Result.NOOP
    assert len(source.log) == 1


def index_of(*charts: tuple[str, str]) -> bytes:
    return build_index(build_chart(*chart).entry() for chart in charts)


FULL = [("app", f"1.{number}.0") for number in range(10)]
ACCIDENTS = {
    "empty": (b"", "content"),
    "48 half UTF-16": ("entries: {}".encode("utf-16"), "content"),
    "26 a page": (b"<!DOCTYPE html><html>sign in</html>", "content"),
    "54 cut in a line": (index_of(*FULL)[:900], "content"),
    "54 cut at a boundary": (index_of(*FULL)[: index_of(*FULL).index(b"  - apiVersion: v2", 300)], ""),
    "49 no entries": (b"apiVersion: v1\nentries: {}\ngenerated: 2024-01-01T00:00:00Z\n", ""),
    "49 entries: null": (b"apiVersion: v1\nentries: null\ngenerated: 2024-01-01T00:00:00Z\n", ""),
    "54 lost a third": (index_of(*FULL[:7]), ""),
    "48 alias bomb": (b"a: &a [x]\nb: &b [*a,*a,*a]\napiVersion: v1\nentries: *b\n", "content"),
    "48 deep": (b"apiVersion: v1\nentries: " + b"[" * 5000, "content"),
}


@pytest.mark.parametrize("accident", ACCIDENTS)
@pytest.mark.parametrize("removed", ["keep", "delete"])
async def test_54_accidents(accident: str, removed: str, source: ChartRepository, runs: ChartRuns) -> None:
    """An index that is none, or lost too much, changes nothing anywhere; the run says why; a sound one goes on."""
    data, code = ACCIDENTS[accident]
    for chart in FULL:
        source.add(build_chart(*chart))
    async with CodingServer() as coding:
        mirror = runs.mirror(
            source.url, keys={"removed": removed}, local=LOCAL, site=runs.folder / "site", coding=coding
        )
        await runs.run(mirror)
        before = runs.local(), site(runs.folder / "site"), dict(coding.files)
        sane, source.files[INDEX] = source.files[INDEX], data
        for _ in range(2):
            run = await runs.run(mirror)
            assert run.result is Result.FAILED
            assert run.code == code
            reasons = [step.reason for step in run.plan.steps] if run.plan else []
            assert code or all("max_loss" in reason and "--allow" in reason for reason in reasons)
            assert code or {step.code for step in (run.plan.steps if run.plan else ())} == {"guard"}
            assert run.error or len(reasons) == 3
            assert (runs.local(), site(runs.folder / "site"), dict(coding.files)) == before
        source.files[INDEX] = sane
        source.add(build_chart("app", "2.0.0"))
        assert (await runs.run(mirror)).result is Result.SUCCESS
        assert len(sound(runs.local())) == 11


@pytest.mark.parametrize("removed", ["keep", "delete"])
async def test_the_guard_gives_way(removed: str, source: ChartRepository, runs: ChartRuns) -> None:
    """`sync --allow` goes on in spite of the guard, once; what is left then is the new normal."""
    for chart in FULL:
        source.add(build_chart(*chart))
    mirror = runs.mirror(source.url, keys={"removed": removed}, local=LOCAL)
    await runs.run(mirror)
    source.files[INDEX] = index_of(*FULL[:3])
    assert (await runs.run(mirror)).result is Result.FAILED
    allowed = type(mirror)(mirror.name, mirror.kind, mirror.spec, mirror.targets, deadline=60.0, allow=True)
    assert (await runs.run(allowed)).result in (Result.SUCCESS, Result.NOOP)
    assert len(sound(runs.local())) == (10 if removed == "keep" else 3)
    assert (await runs.run(mirror)).result is Result.NOOP


async def test_the_guard_without_notes(source: ChartRepository, runs: ChartRuns) -> None:
    """Lost notes are no way around the guard: nothing is deleted while nobody knows what was listed before."""
    for chart in FULL:
        source.add(build_chart(*chart))
    mirror = runs.mirror(source.url, keys={"removed": "delete"}, local=LOCAL)
    await runs.run(mirror)
    for note in runs.notes():
        note.unlink()
    source.files[INDEX] = index_of(FULL[0])
    for _ in range(3):
        await runs.run(mirror)
        assert len(sound(runs.local())) == 10
        runs.later(days=2)


async def test_without_a_baseline_nothing_is_deleted(source: ChartRepository, runs: ChartRuns) -> None:
    """A run that knows nothing of earlier ones deletes nothing, says so, and notes with what the next one compares."""
    for chart in FULL:
        source.add(build_chart(*chart))
    await runs.run(runs.mirror(source.url, keys={"removed": "delete"}, local=LOCAL))
    for note in runs.notes():
        note.unlink()
    source.files[INDEX] = index_of(*FULL[1:])
    fewer = runs.mirror(source.url, keys={"removed": "delete", "max_loss": 1, "newest": 1}, local=LOCAL)
    run = await runs.run(fewer)
    assert len(sound(runs.local())) == 10
    assert any("this one deletes nothing" in remark for remark in run.remarks)
    run = await runs.run(fewer)  # the next one, however soon
    assert len(sound(runs.local())) < 10
    assert not any("this one deletes nothing" in remark for remark in run.remarks)


async def test_json(source: ChartRepository, runs: ChartRuns) -> None:
    """`index: json` publishes the same list as JSON, under the same name."""
    fill(source)
    await runs.run(runs.mirror(source.url, keys={"index": "json"}, local=LOCAL, site=runs.folder / "site"))
    for shown in (runs.local(), site(runs.folder / "site")):
        assert set(json.loads(shown[INDEX])["entries"]) == {"app", "app-extra", "old"}
        assert set(sound(shown)) == ALL | OTHERS


@pytest.mark.parametrize("down", [False, True])
async def test_another_configuration_looks_at_everything(down: bool, source: ChartRepository, runs: ChartRuns) -> None:
    """Other keys mean another result from the same index: it is read again, and written anew, also after a failure."""
    fill(source)
    folder = runs.folder / "site"
    async with CodingServer() as coding:
        before = runs.mirror(source.url, keys={"newest": 1}, local=LOCAL, site=folder, coding=coding)
        await runs.run(before)
        after = runs.mirror(source.url, keys={"newest": 2, "index": "json"}, local=LOCAL, site=folder, coding=coding)
        if down:
            (folder / INDEX).unlink()
            (folder / INDEX).mkdir()
            assert (await runs.run(after)).result is Result.PARTIAL
            (folder / INDEX).rmdir()
        assert (await runs.run(after)).result is Result.SUCCESS
        for shown in (runs.local(), site(folder)):
            assert {"app-2.0.0", "app-1.2.0"} < set(sound(shown))
            assert shown[INDEX].startswith(b"{")
        assert (await runs.run(after)).result is Result.NOOP


async def test_only_the_format_changes_while_a_target_is_down(source: ChartRepository, runs: ChartRuns) -> None:
    """A target that missed a change of format gets it later, although nothing else is new."""
    fill(source)
    folder = runs.folder / "site"
    await runs.run(runs.mirror(source.url, local=LOCAL, site=folder))
    mirror = runs.mirror(source.url, keys={"index": "json"}, local=LOCAL, site=folder)
    kept = (folder / INDEX).read_bytes()
    (folder / INDEX).unlink()
    (folder / INDEX).mkdir()
    assert (await runs.run(mirror)).result is not Result.SUCCESS
    (folder / INDEX).rmdir()
    (folder / INDEX).write_bytes(kept)
    assert (await runs.run(mirror)).result is Result.SUCCESS
    assert site(folder)[INDEX].startswith(b"{")
    assert (await runs.run(mirror)).result is Result.NOOP


async def test_what_is_beside_the_index_follows(source: ChartRepository, runs: ChartRuns) -> None:
    """Public keys, annotations and artifacthub-repo.yml are published, and published anew when only they changed."""
    fill(source)
    mirror = runs.mirror(source.url, local=LOCAL, site=runs.folder / "site")
    await runs.run(mirror)
    for turn in (b"one", b"two"):
        source.files |= {"artifacthub-repo.yml": b"repositoryID: " + turn, "pubkey.gpg": turn, "team.asc": turn}
        source.files[INDEX] = build_index(source.entries, publicKeys=["team.asc"], annotations={"by": turn.decode()})
        assert (await runs.run(mirror)).result is Result.SUCCESS
        for shown in (runs.local(), site(runs.folder / "site")):
            assert [shown[name] for name in ("pubkey.gpg", "team.asc")] == [turn, turn]
            assert b"by: " + turn in shown[INDEX]
            assert b"publicKeys:\n- team.asc" in shown[INDEX]
        assert (await runs.run(mirror)).result is Result.NOOP


async def test_a_server_that_says_500_for_what_is_not_there(source: ChartRepository, runs: ChartRuns) -> None:
    """Side files are optional: a server that fails instead of saying 404 costs nothing but them."""
    fill(source)
    source.faults.on("GET", "pubkey|artifacthub", times=None).status(500)
    assert (await runs.run(runs.mirror(source.url, local=LOCAL))).result is Result.SUCCESS
    assert set(sound(runs.local())) == ALL | OTHERS


async def test_another_etag_for_the_same_bytes(
    source: ChartRepository, runs: ChartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ETag that changed without the bytes is learned: the next poll is answered with 304 again."""
    fill(source)
    mirror = runs.mirror(source.url, local=LOCAL)
    source.faults.on("GET", INDEX).header("ETag", '"other"')
    await runs.run(mirror)
    monkeypatch.setattr(polling, "read_index", lambda _data: pytest.fail("was parsed"))
    source.forget()
    for _ in range(2):
        assert (await runs.run(mirror)).result is Result.NOOP
    assert [exchange.status for exchange in source.log] == [200, 304]


async def test_plus_and_underscore(source: ChartRepository, runs: ChartRuns) -> None:
    """Build metadata survives the way into a registry and back: `+` is `_` in tags only."""
    for version in ("1.0.0+up.1", "1.0.0+up.2", "2.0.0-a.b+c.d"):
        source.add(build_chart("app", version))
    async with Registry() as registry, ChartMuseumServer() as museum:
        await runs.run(runs.mirror(source.url, name="there", registry=registry, museum=museum))
        assert set(registry.tags["team/charts/app"]) == {"1.0.0_up.1", "1.0.0_up.2", "2.0.0-a.b_c.d"}
        back = runs.mirror(f"oci://{registry.host}/team/charts/app", name="back", local=LOCAL)
        run = await runs.run(back)
        assert run.result is Result.SUCCESS
        wanted = sound(runs.local("back"))
        assert wanted == {f"app-{entry['version']}": f"sha256:{entry['digest']}" for entry in source.entries}
        assert set(museum.files) == {f"{item}.tgz" for item in wanted}


async def test_56_two_replicas(source: ChartRepository, runs: ChartRuns, tmp_path_factory: Any) -> None:
    """Two mirrord that publish to one folder at a time lose no entry: the later one notices, and comes again."""
    source.add(build_chart("app", "1.0.0"))
    async with ChartRepository() as second, open_chart_runs(tmp_path_factory.mktemp("b")) as others:
        second.add(build_chart("base", "1.0.0"))
        folder = runs.folder / "site"
        slow = source.faults.on("GET", "tgz$").hold()
        running = asyncio.create_task(runs.run(runs.mirror(source.url, site=folder)))
        await slow.reached.wait()
        assert (await others.run(others.mirror(second.url, site=folder))).result is Result.SUCCESS
        slow.release()
        run = await running
        assert receipts(run)["site", "index"].code == "busy"
        assert set(sound(site(folder))) == {"base-1.0.0"}
        again = await runs.run(runs.mirror(source.url, site=folder))
        assert (again.result, again.read) == (Result.SUCCESS, 0)
        assert set(sound(site(folder))) == {"app-1.0.0", "base-1.0.0"}


async def test_without_state(source: ChartRepository, tmp_path: Path) -> None:
    """Without a state directory there is no memory, and a second run still has nothing to do."""
    fill(source)
    async with open_chart_runs(tmp_path, state=False) as runs:
        mirror = runs.mirror(source.url, site=tmp_path / "site")
        assert (await runs.run(mirror)).result is Result.SUCCESS
        again = await runs.run(mirror)
        assert (again.result, again.read) == (Result.NOOP, 0)


async def test_the_same_bytes(source: ChartRepository, runs: ChartRuns) -> None:
    """The same charts become the same index to the byte, in whatever order and layout upstream wrote them."""
    fill(source)
    await runs.run(runs.mirror(source.url, local=LOCAL, site=runs.folder / "site"))
    first = runs.local()[INDEX]
    source.entries.reverse()
    source.files[INDEX] = json.dumps({"apiVersion": "v1", "entries": _by_name(source.entries)}).encode()
    run = await runs.run(runs.mirror(source.url, local=LOCAL, site=runs.folder / "site"))
    assert run.result is Result.NOOP
    assert runs.local()[INDEX] == site(runs.folder / "site")[INDEX] == first


def _by_name(entries: list[dict[str, object]]) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for entry in entries:
        found.setdefault(str(entry["name"]), []).append(entry)
    return found


async def test_one_of_several_versions_may_go(source: ChartRepository, runs: ChartRuns) -> None:
    """A small repository that withdraws one version is no accident, unless `max_loss: 0` says that any loss is one."""
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        source.add(build_chart("app", version))
    strict = runs.mirror(source.url, name="strict", keys={"max_loss": 0}, local=LOCAL)
    mirror = runs.mirror(source.url, keys={"removed": "delete"}, local=LOCAL)
    for one in (mirror, strict):
        await runs.run(one)
    source.entries.pop(0)
    source.publish()
    assert (await runs.run(mirror)).result is Result.SUCCESS
    assert set(sound(runs.local())) == {"app-1.1.0", "app-1.2.0"}
    assert (await runs.run(strict)).result is Result.FAILED
