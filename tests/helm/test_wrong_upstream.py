"""One version that is wrong upstream costs itself: it is left out, told, left alone for a while, and no failure."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from mirrord.model.plan import Action
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm.syncer import SYNCER
from mirrord.testing import Registry
from mirrord.testing.chart_repository import INDEX, ChartRepository
from mirrord.testing.charts import build_chart, build_index, member, pack
from tests.support.chartprograms import helm, helms
from tests.support.chartruns import ChartRuns, receipts, site, sound
from tests.support.chartservers import ChartMuseumServer, CodingServer
from tests.support.frontserver import open_front
from tests.support.signing import ShapeSigner

CILIUM, TETRAGON = build_chart("cilium", "1.18.0"), build_chart("tetragon", "1.2.0")
AGAIN = build_chart("tetragon", "1.2.0", metadata={"description": "packaged again"})
FILE = f"charts/{TETRAGON.file}"
SIGNER = ShapeSigner()


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as repository:
        repository.add(CILIUM)
        repository.add(TETRAGON)
        yield repository


async def counted(runs: ChartRuns) -> tuple[int, object]:
    """Return how many problems the status would count, and when the mirror was last a success."""
    (whole, *_) = await runs.store.standing()
    return whole.problems.count, whole.last_success


BAD: dict[str, Callable[[ChartRepository], object]] = {
    "listed and not there": lambda source: source.files.pop(FILE),
    "forbidden": lambda source: source.faults.on("GET", FILE, times=None).status(403),
    "no chart": lambda source: swap(source, pack([member("tetragon/values.yaml", b"{}")])),
    "of another name": lambda source: swap(source, build_chart("other", "1.2.0").data),
    "of another version": lambda source: swap(source, build_chart("tetragon", "1.3.0").data),
    "at a private address": lambda source: lead(source, "http://10.0.0.1/x.tgz"),
    "nowhere": lambda source: lead(source, "file:///x.tgz"),
}


def swap(source: ChartRepository, data: bytes) -> None:
    """Let upstream have other bytes, and say so in its index."""
    lying = replace(TETRAGON, data=data)
    source.entries[1] = lying.entry()
    source.files[FILE] = data
    source.publish()


def lead(source: ChartRepository, url: str) -> None:
    source.entries[1] = TETRAGON.entry(url)
    source.publish()


@pytest.mark.parametrize("bad", BAD)
async def test_a_version_that_cannot_be_had(bad: str, source: ChartRepository, runs: ChartRuns) -> None:
    """It is a counted problem at each look, costs no request while it is left alone, and heals by itself."""
    BAD[bad](source)
    async with CodingServer() as coding:
        mirror = runs.mirror(source.url, local=LOCAL, site=runs.folder / "site", coding=coding)
        run = await runs.run(mirror)
        assert run.result is Result.SUCCESS
        assert {receipt.step.item for receipt in run.receipts if receipt.outcome is Outcome.LEFT_OUT} == {
            "tetragon-1.2.0"
        }
        (problem,) = run.problems
        assert problem.startswith("tetragon-1.2.0: ")
        assert not problem.startswith("tetragon-1.2.0: tetragon-1.2.0: ")
        for shown in (runs.local(), site(runs.folder / "site")):
            assert sound(shown) == {"cilium-1.18.0": CILIUM.digest}
        assert set(coding.files) == {CILIUM.file}
        assert await counted(runs) == (1, runs.now)
        source.forget()
        runs.later(minutes=59)
        again = await runs.run(mirror)
        assert (again.result, again.problems) == (Result.NOOP, run.problems)
        assert [(one.path, one.status) for one in source.log] == [("/index.yaml", 304)]
        assert await counted(runs) == (1, runs.now)
        source.faults.clear()
        source.files[FILE] = TETRAGON.data
        source.entries[1] = TETRAGON.entry()
        source.publish()
        runs.later(minutes=1)
        healed = await runs.run(mirror)
        assert (healed.result, healed.problems) == (Result.SUCCESS, ())
        assert set(sound(runs.local())) == {"cilium-1.18.0", "tetragon-1.2.0"}
        assert set(coding.files) == {CILIUM.file, TETRAGON.file}


async def test_it_is_asked_for_ever_less_often(source: ChartRepository, runs: ChartRuns) -> None:
    """After an hour, then after twice as long, up to a day: in ten days with a run each hour, fifteen times."""
    source.files.pop(FILE)
    mirror = runs.mirror(source.url, local=LOCAL)
    asked = []
    for hour in range(240):
        source.forget()
        run = await runs.run(mirror)
        assert run.result in (Result.SUCCESS, Result.NOOP)
        assert len(run.problems) == 1
        if source.count("GET", "tgz$"):
            asked.append(hour)
        runs.later(hours=1)
    assert asked[:7] == [0, 1, 3, 7, 15, 31, 55]
    assert len(asked) <= 15


async def test_other_changes_do_not_ask_for_it(source: ChartRepository, runs: ChartRuns) -> None:
    """A new version of another chart is fetched at once, and the one that is left alone is not."""
    source.files.pop(FILE)
    mirror = runs.mirror(source.url, local=LOCAL)
    await runs.run(mirror)
    source.add(build_chart("cilium", "1.18.1"))
    source.forget()
    run = await runs.run(mirror)
    assert run.result is Result.SUCCESS
    assert len(run.problems) == 1
    assert [one.path for one in source.select("GET", "tgz$")] == ["/charts/cilium-1.18.1.tgz"]
    source.entries[1] = TETRAGON.entry("elsewhere.tgz")
    source.files["elsewhere.tgz"] = TETRAGON.data
    source.publish()
    assert (await runs.run(mirror)).problems == ()  # another place: asked for at once
    assert "tetragon-1.2.0" in sound(runs.local())


async def test_allow_asks_at_once(source: ChartRepository, runs: ChartRuns) -> None:
    """`sync --allow` asks for what is left alone; so does another configuration."""
    source.files.pop(FILE)
    mirror = runs.mirror(source.url, local=LOCAL)
    await runs.run(mirror)
    source.forget()
    assert len((await runs.run(replace(mirror, allow=True))).problems) == 1
    assert source.count("GET", "tgz$") == 1
    source.forget()
    assert len((await runs.run(runs.mirror(source.url, keys={"newest": 5}, local=LOCAL))).problems) == 1
    assert source.count("GET", "tgz$") == 1


@pytest.mark.parametrize("status", [401, 500, 503])
async def test_trouble_on_the_way_is_a_failure(status: int, source: ChartRepository, runs: ChartRuns) -> None:
    """A server in trouble, or one that wants credentials, says nothing about the version: the next run asks again."""
    source.faults.on("GET", FILE, times=None).status(status)
    mirror = runs.mirror(source.url, local=LOCAL)
    run = await runs.run(mirror)
    assert (run.result, run.problems) == (Result.PARTIAL, ())
    source.faults.clear()
    assert (await runs.run(mirror)).result is Result.SUCCESS
    assert set(sound(runs.local())) == {"cilium-1.18.0", "tetragon-1.2.0"}


async def test_nothing_at_all(source: ChartRepository, runs: ChartRuns) -> None:
    """When not one version can be had the run fails, and so does the next: a moved repository is no success."""
    for file in [file for file in source.files if file.endswith(".tgz")]:
        del source.files[file]
    mirror = runs.mirror(source.url, local=LOCAL)
    for _ in range(2):
        run = await runs.run(mirror)
        assert run.result is Result.FAILED
        assert len(run.problems) == 2
        assert INDEX not in runs.local()


async def test_a_digest_that_differs(source: ChartRepository, runs: ChartRuns) -> None:
    """Bytes that are not what the index says are the operator's to decide: partly done, told how, and left alone."""
    source.files[FILE] = AGAIN.data
    mirror = runs.mirror(source.url, local=LOCAL, site=runs.folder / "site")
    run = await runs.run(mirror)
    assert (run.result, run.problems) == (Result.PARTIAL, ())
    refused = receipts(run)[LOCAL, "tetragon-1.2.0"]
    assert (refused.outcome, refused.code) == (Outcome.REFUSED, "digest_mismatch")
    assert refused.detail.startswith(f"tetragon-1.2.0: its bytes are not {TETRAGON.digest[:19]}… as the index says; ")
    assert f'`accept: {{tetragon: {{1.2.0: "{AGAIN.digest}"}}}}`' in refused.detail
    there = next(entry for entry in await runs.store.standing() if entry.target == LOCAL)
    assert there.last is not None
    assert there.last.troubles == (refused.detail,)  # whole, also in the status
    assert '`skip: {tetragon: ["1.2.0"]}`' in refused.detail
    assert sound(runs.local()) == {"cilium-1.18.0": CILIUM.digest}
    source.forget()
    runs.later(minutes=59)
    again = await runs.run(mirror)
    assert again.result is Result.PARTIAL
    assert [(one.path, one.status) for one in source.log] == [("/index.yaml", 304)]
    assert again.plan is not None
    told = [step for step in again.plan.steps if step.action is Action.REFUSE]
    assert {step.target for step in told} == {LOCAL, "site"}
    assert all("asked for again from 2024-06-17 13:00 UTC on" in step.reason for step in told)
    source.add(build_chart("cilium", "1.18.1"))
    assert (await runs.run(mirror)).result is Result.PARTIAL
    source.entries[1] = AGAIN.entry()
    source.publish()
    assert (await runs.run(mirror)).result is Result.SUCCESS  # upstream put its index right
    assert sound(runs.local())["tetragon-1.2.0"] == AGAIN.digest


async def test_a_digest_that_differs_is_told_where_the_version_lacks(source: ChartRepository, runs: ChartRuns) -> None:
    """A target that has the version of before is whole, with every run; only the other one waits for the operator."""
    async with CodingServer() as one, CodingServer() as two:
        two.faults.on("POST", "", times=None).status(403, b"quota")
        mirror = runs.mirror(source.url, one=one, two=two)
        assert (await runs.run(mirror)).result is Result.PARTIAL
        two.faults.clear()
        source.files[FILE] = AGAIN.data
        for _ in range(3):
            run = await runs.run(mirror)
            assert run.result is Result.PARTIAL
            assert run.plan is not None
            refused = {one.step.target for one in run.receipts if one.outcome is Outcome.REFUSED}
            refused |= {step.target for step in run.plan.steps if step.action is Action.REFUSE}
            assert refused == {"two"}


async def test_accept(source: ChartRepository, runs: ChartRuns) -> None:
    """The digest that the operator accepts is trusted in place of the index's, and is what is published; no other."""
    source.files[FILE] = AGAIN.data
    await runs.run(runs.mirror(source.url, local=LOCAL))
    mirror = runs.mirror(source.url, keys={"accept": {"tetragon": {"1.2.0": str(AGAIN.digest)}}}, local=LOCAL)
    run = await runs.run(mirror)
    assert (run.result, run.problems) == (Result.SUCCESS, ())
    assert sound(runs.local())["tetragon-1.2.0"] == AGAIN.digest
    assert (await runs.run(mirror)).result is Result.NOOP
    source.files[FILE] = build_chart("tetragon", "1.2.0", metadata={"description": "a third time"}).data
    for text in (str(AGAIN.digest), str(CILIUM.digest)):
        keys = {"accept": {"tetragon": {"1.2.0": text}}}
        other = await runs.run(runs.mirror(source.url, name="other", keys=keys, local=LOCAL))
        assert other.result is Result.PARTIAL


@pytest.mark.parametrize("held", [False, True])
async def test_skip(held: bool, source: ChartRepository, runs: ChartRuns) -> None:
    """A version that is skipped is not wanted: no problem, not asked for; one that is there stays."""
    if held:
        await runs.run(runs.mirror(source.url, local=LOCAL))
    source.files[FILE] = AGAIN.data
    source.forget()
    mirror = runs.mirror(source.url, keys={"skip": {"tetragon": ["1.2.0"]}}, local=LOCAL)
    run = await runs.run(mirror)
    assert run.result is Result.SUCCESS
    assert (run.problems, source.count("GET", FILE)) == ((), 0)
    assert ("tetragon-1.2.0" in sound(runs.local())) == held


async def test_what_has_no_effect_is_remarked(source: ChartRepository, runs: ChartRuns) -> None:
    """`skip: {tetragon: ["v1.2.0"]}` takes nothing away: each look says so, but not of what is listed or unreadable."""
    odd(source)
    skip = {"tetragon": ["v1.2.0", "1.2.0"], "odd": ["1.0.0"], "gone": ["1.0.0"]}
    accept = {"tetragon": {"1.2.1": str(AGAIN.digest)}}
    versions = {"tetragon": "*", "nope": ">=1", "tetra*": ">=1", "odd": ">=1", "x*": ">=1"}
    mirror = runs.mirror(source.url, keys={"skip": skip, "accept": accept, "versions": versions}, local=LOCAL)
    tail = "has it and upstream does not; write it as upstream does, or take it out"
    named = [("tetragon-v1.2.0", "skip"), ("gone-1.0.0", "skip"), ("tetragon-1.2.1", "accept")]
    for result in (Result.SUCCESS, Result.NOOP):
        run = await runs.run(mirror)
        assert (run.result, run.problems) == (result, ())
        none = [text for text in run.remarks if text.partition(": ")[2].startswith("`versions` has it and upstream")]
        assert [text.partition(":")[0] for text in none] == ["nope", "x*"]
        assert [text for text in run.remarks if text not in none] == [f"{item}: `{key}` {tail}" for item, key in named]


def odd(source: ChartRepository, *, good: str = "") -> None:
    """Publish an index with an entry that helm would not take."""
    entries = [*source.entries, {**build_chart("odd", "1.0.0").entry(), "urls": "no list"}]
    source.files[INDEX] = build_index(entries) + good.encode()


async def test_what_the_reader_left_out_stays_a_problem(source: ChartRepository, runs: ChartRuns) -> None:
    """An entry that is left out is counted at each look, also when the index is as it was; the result does not flap."""
    odd(source)
    mirror = runs.mirror(source.url, local=LOCAL)
    results = []
    for _ in range(3):
        run = await runs.run(mirror)
        results.append(run.result)
        assert [problem.partition(":")[0] for problem in run.problems] == ["odd 1.0.0"]
        assert await counted(runs) == (1, runs.now)
        runs.later(hours=6)
    assert results == [Result.SUCCESS, Result.NOOP, Result.NOOP]
    source.publish()
    assert (await runs.run(mirror)).problems == ()
    assert await counted(runs) == (0, runs.now)


async def test_what_was_put_right_is_no_problem(source: ChartRepository, runs: ChartRuns) -> None:
    """An entry twice, a second document: a remark at each look, no problem, and never anything but a good result."""
    twice = build_index([*source.entries, source.entries[0]])
    source.files[INDEX] = twice + b"---\na: b\n"
    mirror = runs.mirror(source.url, local=LOCAL)
    for result in (Result.SUCCESS, Result.NOOP):
        run = await runs.run(mirror)
        assert (run.result, run.problems) == (result, ())
        assert [remark.partition(":")[0] for remark in run.remarks] == ["index.yaml", "cilium 1.18.0"]


@pytest.mark.parametrize(
    "keys",
    [{"charts": ["c*"]}, {"exclude": ["o*"]}, {"skip": {"odd": ["1.0.0"]}}, {"versions": {"odd": ">1"}}],
    ids=str,
)
async def test_what_is_not_wanted_is_no_problem(
    keys: dict[str, object], source: ChartRepository, runs: ChartRuns
) -> None:
    """What is wrong with a version that nobody wants is told to nobody."""
    odd(source)
    assert len((await runs.run(runs.mirror(source.url, local=LOCAL))).problems) == 1
    assert (await runs.run(runs.mirror(source.url, keys=keys, local=LOCAL))).problems == ()


async def test_an_entry_that_cannot_be_read_any_more(source: ChartRepository, runs: ChartRuns) -> None:
    """What upstream still lists, in a form that nobody can read, is not deleted as if it were gone."""
    source.add(build_chart("odd", "1.0.0"))
    mirror = runs.mirror(source.url, keys={"removed": "delete"}, local=LOCAL)
    await runs.run(mirror)
    del source.entries[2]
    odd(source)
    run = await runs.run(mirror)
    assert len(run.problems) == 1
    assert "odd-1.0.0" in sound(runs.local())
    source.publish()
    await runs.run(mirror)
    assert "odd-1.0.0" not in sound(runs.local())


async def test_drift_is_remembered(source: ChartRepository, runs: ChartRuns) -> None:
    """Bytes that upstream replaced are remarked at each look while ours stay (`changed: keep`), and in the plan."""
    mirror = runs.mirror(source.url, local=LOCAL)
    await runs.run(mirror)
    source.entries[1] = AGAIN.entry()
    source.files[FILE] = AGAIN.data
    source.publish()
    for _ in range(3):
        run = await runs.run(mirror)
        assert run.result is Result.NOOP
        (remark,) = run.remarks
        assert remark.startswith(
            f"tetragon-1.2.0: upstream changed its digest from {TETRAGON.digest} to {AGAIN.digest}"
        )
        assert (await runs.plan(mirror)).remarks == run.remarks
        runs.later(hours=6)


async def test_a_provenance_that_comes_later(source: ChartRepository, runs: ChartRuns) -> None:
    """A provenance that could not be had is asked for again after a while, by itself; a chart server is left alone."""
    prov = TETRAGON.provenance(SIGNER)
    source.files[f"{FILE}.prov"] = prov
    source.faults.on("GET", f"{FILE}.prov", times=None).status(503)
    async with ChartMuseumServer() as museum:
        mirror = runs.mirror(source.url, local=LOCAL, site=runs.folder / "site", museum=museum)
        for result in (Result.SUCCESS, Result.NOOP):
            run = await runs.run(mirror)
            assert run.result is result
            assert len(run.problems) == 1
        source.faults.clear()
        source.forget()
        posted = museum.count("POST")
        runs.later(hours=1)
        run = await runs.run(mirror)
        assert (run.result, run.problems) == (Result.SUCCESS, ())
        assert source.count("GET", "tgz$") == 0  # our own store has the archive
        for shown in (runs.local(), site(runs.folder / "site")):
            assert shown[f"{FILE}.prov"] == prov
        assert museum.count("POST") == posted
        assert (await runs.run(mirror)).result is Result.NOOP


async def test_a_name_that_no_registry_has(source: ChartRepository, runs: ChartRuns) -> None:
    """A chart that cannot be a repository is a problem of that target, told once, and everywhere else it is there."""
    for number in range(3):
        source.add(build_chart("Upper", f"1.{number}.0"))
    async with Registry() as registry:
        mirror = runs.mirror(source.url, local=LOCAL, registry=registry)
        for result in (Result.SUCCESS, Result.NOOP):
            run = await runs.run(mirror)
            assert run.result is result
            (problem,) = run.problems
            assert problem.startswith("Upper: cannot be at registry: a registry has no such repository (lower case")
        assert len(sound(runs.local())) == 5
        assert set(registry.tags) == {"team/charts/cilium", "team/charts/tetragon"}


async def test_a_server_that_makes_its_own_index(source: ChartRepository, runs: ChartRuns) -> None:
    """That a chart is not found there under the name that upstream lists it by is told."""
    text = build_index(source.entries).decode().replace("\n  cilium:\n", "\n  other:\n")
    source.files[INDEX] = text.encode()
    async with CodingServer() as coding:
        run = await runs.run(runs.mirror(source.url, local=LOCAL, coding=coding))
        assert run.problems == (
            "cilium: upstream lists it as 'other', and coding, which makes its own index, as 'cilium'",
        )


async def test_damaged_notes(source: ChartRepository, runs: ChartRuns) -> None:
    """Notes that say nothing cost a request, and nothing else."""
    source.files.pop(FILE)
    mirror = runs.mirror(source.url, local=LOCAL)
    await runs.run(mirror)
    for note in runs.notes():
        found = json.loads(note.read_bytes())
        note.write_text(
            json.dumps({key: value if not key or note.stem == "app" else "{" for key, value in found.items()})
        )
    run = await runs.run(mirror)
    assert run.result in (Result.NOOP, Result.SUCCESS)
    assert "cilium-1.18.0" in sound(runs.local())


@pytest.mark.parametrize(
    "binary", helms() or [pytest.param("", marks=pytest.mark.skip(reason="helm is not installed"))]
)
async def test_helm_pulls_what_was_accepted(binary: str, source: ChartRepository, runs: ChartRuns) -> None:
    """Real helm finds the accepted bytes under the digest that they have."""
    source.files[FILE] = AGAIN.data
    keys = {"accept": {"tetragon": {"1.2.0": str(AGAIN.digest)}}}
    await runs.run(runs.mirror(source.url, keys=keys, local=LOCAL))
    async with open_front(runs.services, SYNCER) as url, helm(binary) as call:
        assert (await call("repo", "add", "mirror", f"{url}/helm/app")).status == 0
        pulled = await call("pull", "mirror/tetragon", "--destination", runs.folder)
        assert pulled.status == 0, pulled.output
        assert (runs.folder / TETRAGON.file).read_bytes() == AGAIN.data
