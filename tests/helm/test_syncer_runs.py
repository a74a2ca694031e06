"""Whole runs of chart mirrors: what is asked for, what is published, and what one thing that goes wrong costs."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mirrord.model.digest import Digest
from mirrord.model.plan import Action
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm.plan.steps import INDEX_ITEM
from mirrord.syncers.helm.transfer import server_index
from mirrord.syncers.helm.upstream import poll as polling
from mirrord.testing import Registry
from mirrord.testing.chart_repository import INDEX, ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.exchange import Moment, Wire
from mirrord.testing.servers import DockerRegistry, require
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.secret import Credential, Secret
from tests.support.auth import Auth
from tests.support.chartruns import ChartRuns, open_chart_runs, receipts, site, sound
from tests.support.chartservers import ChartMuseumServer, CodingServer
from tests.support.localstore import place_in
from tests.support.signing import ShapeSigner

A1, A2, B1 = build_chart("app", "1.0.0"), build_chart("app", "1.1.0"), build_chart("base", "0.1.0")
SIGNER = ShapeSigner()


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    async with ChartRepository(path="/stable") as repository:
        repository.add(A1, prov=A1.provenance(SIGNER))
        repository.add(B1)
        yield repository


def codes(run: Any) -> dict[tuple[str, str], str]:
    """Return what went wrong, by target and item."""
    return {key: receipt.code for key, receipt in receipts(run).items() if not receipt.good}


async def test_sizes_are_recorded(source: ChartRepository, runs: ChartRuns) -> None:
    """Each chart is recorded with the bytes of its archive, at a real registry as at others; an index has no size."""
    require("docker-registry")
    async with DockerRegistry() as registry:
        mirror = runs.mirror(source.url, local=LOCAL, site=runs.folder / "site", registry=registry)
        sizes = {"app-1.0.0": len(A1.data), "base-0.1.0": len(B1.data)}
        expected = {(target, item): size for target in ("local", "site", "registry") for item, size in sizes.items()}
        for _ in range(2):
            assert (await runs.run(mirror)).result in (Result.SUCCESS, Result.NOOP)
            found = {key: seen.size for key, seen in (await runs.store.memory("app")).items()}
            assert {key: size for key, size in found.items() if size is not None} == expected
            assert {item for (_, item), size in found.items() if size is None} <= {INDEX_ITEM}
            runs.later(days=1)
        assert (await runs.store.standing("app"))[0].size == sum(sizes.values())


async def test_first_run(source: ChartRepository, runs: ChartRuns) -> None:
    """A first run reads index, side files, and each archive once, and all targets have all of it, signatures too."""
    async with CodingServer() as coding, ChartMuseumServer() as museum, Registry() as registry:
        mirror = runs.mirror(
            source.url, local=LOCAL, site=runs.folder / "site", coding=coding, museum=museum, registry=registry
        )
        run = await runs.run(mirror)
        assert run.result is Result.SUCCESS, run
        assert [source.count("GET", f"charts/{chart.file}$") for chart in (A1, B1)] == [1, 1]
        assert source.count("GET", INDEX) == 1
        assert source.count("*", "") == 7  # and two .prov, artifacthub-repo.yml, pubkey.gpg
        assert run.read == len(A1.data) + len(B1.data)
        wanted = {"app-1.0.0": A1.digest, "base-0.1.0": B1.digest}
        for shown in (runs.local(), site(runs.folder / "site")):
            assert sound(shown) == wanted
            assert shown[f"charts/{A1.file}.prov"] == A1.provenance(SIGNER)
        assert coding.files == {A1.file: A1.data, B1.file: B1.data}
        assert museum.files == {**coding.files, f"{A1.file}.prov": A1.provenance(SIGNER)}
        assert set(registry.tags["team/charts/app"]) == {"1.0.0"}
        assert {"app-1.0.0", "base-0.1.0", "index"} == {receipt.step.item for receipt in run.receipts}


@pytest.mark.parametrize("tagged", [True, False], ids=["304", "200 with the same bytes"])
async def test_nothing_to_do(
    tagged: bool, source: ChartRepository, runs: ChartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing new is one request at the source, none at any target, and the index is not even parsed."""
    source.tags = tagged
    async with CodingServer() as coding, ChartMuseumServer() as museum, Registry() as registry:
        mirror = runs.mirror(source.url, local=LOCAL, coding=coding, museum=museum, registry=registry)
        assert (await runs.run(mirror)).result is Result.SUCCESS
        source.forget()
        before = [coding.count("*"), museum.count("*"), registry.count("*", "")]
        monkeypatch.setattr(polling, "read_index", lambda _data: pytest.fail("was parsed"))
        runs.later(hours=6)
        run = await runs.run(mirror)
        assert run.result is Result.NOOP
        assert [exchange.status for exchange in source.log] == [304 if tagged else 200]
        assert [coding.count("*"), museum.count("*"), registry.count("*", "")] == before
        assert run.plan is not None
        assert {step.action for step in run.plan.steps} == {Action.KEEP}


async def test_new_version(source: ChartRepository, runs: ChartRuns) -> None:
    """A new version costs its own archive and nothing else, also with many targets: they share one download."""
    async with CodingServer() as coding, ChartMuseumServer() as museum:
        mirror = runs.mirror(source.url, local=LOCAL, site=runs.folder / "site", coding=coding, museum=museum)
        await runs.run(mirror)
        source.forget()
        posted = coding.count("POST"), museum.count("POST")
        source.add(A2)
        run = await runs.run(mirror)
        assert run.result is Result.SUCCESS
        assert run.read == len(A2.data)
        assert run.plan is not None
        assert {step.item for step in run.plan.active} == {"app-1.1.0", "index"}
        assert sorted(exchange.path for exchange in source.select("GET", "charts/")) == [
            f"/stable/charts/{A2.file}",
            f"/stable/charts/{A2.file}.prov",
        ]
        assert source.sent("charts/") == len(A2.data)
        assert (coding.count("POST"), museum.count("POST")) == (posted[0] + 1, posted[1] + 1)
        for shown in (runs.local(), site(runs.folder / "site")):
            assert set(sound(shown)) == {"app-1.0.0", "app-1.1.0", "base-0.1.0"}


@pytest.mark.parametrize("removed", ["keep", "delete"])
async def test_removed_upstream(removed: str, source: ChartRepository, runs: ChartRuns) -> None:
    """A version that upstream withdrew stays, listed and with its file; `removed: delete` takes both away."""
    for number in range(8):
        source.add(build_chart("many", f"1.{number}.0"))
    keys = {"removed": removed}
    async with CodingServer() as coding:
        mirror = runs.mirror(source.url, keys=keys, local=LOCAL, site=runs.folder / "site", coding=coding)
        await runs.run(mirror)
        source.entries.pop(0)
        source.publish()
        run = await runs.run(mirror)
        assert run.plan is not None
        assert run.result in (Result.SUCCESS, Result.NOOP)
        for shown in (runs.local(), site(runs.folder / "site")):
            assert ("app-1.0.0" in sound(shown)) == (removed == "keep")
            assert (f"charts/{A1.file}" in shown) == (f"charts/{A1.file}.prov" in shown) == (removed == "keep")
        assert A1.file in coding.files
        told = [step.reason for step in run.plan.steps if (step.target, step.item) == ("coding", "app-1.0.0")]
        assert ("`mirrord prune`" in told[0]) == (removed == "delete")


@pytest.mark.parametrize("changed", ["keep", "replace", "fail"])
async def test_changed_upstream(changed: str, source: ChartRepository, runs: ChartRuns) -> None:
    """Another digest under the same version is told, and taken only when `changed: replace` says so."""
    again = build_chart("app", "1.0.0", metadata={"description": "packaged again"})
    async with CodingServer(overwrite=True) as coding, ChartMuseumServer() as museum, Registry() as registry:
        folder = runs.folder / "site"
        mirror = runs.mirror(
            source.url,
            keys={"changed": changed},
            local=LOCAL,
            coding=coding,
            museum=museum,
            registry=registry,
            site=folder,
        )
        await runs.run(mirror)
        source.entries.clear()
        source.add(again, prov=again.provenance(SIGNER))
        source.add(B1)
        run = await runs.run(mirror)
        assert run.plan is not None
        reasons = [step.reason for step in run.plan.steps if step.item == "app-1.0.0"]
        assert all(A1.digest in reason and again.digest in reason for reason in reasons)
        assert (run.result is Result.PARTIAL) == (changed == "fail")
        now = again if changed == "replace" else A1
        for shown in (runs.local(), site(runs.folder / "site")):
            assert sound(shown)["app-1.0.0"] == now.digest
            assert shown[f"charts/{A1.file}.prov"] == now.provenance(SIGNER)
        assert coding.files[A1.file] == museum.files[A1.file] == now.data
        kept = json.loads(registry.manifests["team/charts/app"][registry.tags["team/charts/app"]["1.0.0"]][1])
        assert now.digest in {layer["digest"] for layer in kept["layers"]}


@pytest.mark.parametrize("right", [0, 1, None])
async def test_50_one_version_twice(right: int | None, source: ChartRepository, runs: ChartRuns) -> None:
    """Two entries of one version: the archive's bytes tell which is published; when they fit neither, none is."""
    lies = [str(Digest.of(b"one").hex), str(Digest.of(b"two").hex)]
    truth = A2.digest.hex
    for number in (0, 1):
        source.entries.append({**A2.entry(digest=truth if number == right else lies[number]), "home": f"h{number}"})
    source.files[f"charts/{A2.file}"] = A2.data
    source.publish()
    run = await runs.run(runs.mirror(source.url, local=LOCAL))
    listed = sound(runs.local())
    assert set(listed) - {"app-1.1.0"} == {"app-1.0.0", "base-0.1.0"}
    if right is None:
        assert codes(run) == {(LOCAL, "app-1.1.0"): "digest_mismatch"}
        return
    assert listed["app-1.1.0"] == A2.digest
    assert f"home: h{right}".encode() in runs.local()[INDEX]
    for entry in reversed(source.entries[-2:]):  # their order flips between revisions: that is no news
        source.entries.remove(entry)
        source.entries.insert(0, entry)
    source.publish()
    assert (await runs.run(runs.mirror(source.url, local=LOCAL))).receipts == ()


@pytest.mark.parametrize("lie", [build_chart("app", "1.2.0"), build_chart("other", "1.1.0")], ids=["version", "name"])
async def test_53_chart_yaml_says_otherwise(lie: Any, source: ChartRepository, runs: ChartRuns) -> None:
    """An archive whose Chart.yaml is another chart's is not taken, although its digest is right."""
    source.entries.append({**A2.entry(), "digest": lie.digest.hex})
    source.files[f"charts/{A2.file}"] = lie.data
    source.publish()
    run = await runs.run(runs.mirror(source.url, local=LOCAL))
    assert codes(run) == {(LOCAL, "app-1.1.0"): "content"}
    assert set(sound(runs.local())) == {"app-1.0.0", "base-0.1.0"}


async def test_one_target_down(source: ChartRepository, runs: ChartRuns) -> None:
    """A target that is down is told; the others are served, and it is served when it is back, without being asked."""
    async with CodingServer() as coding:
        mirror = runs.mirror(source.url, local=LOCAL, coding=coding)
        coding.faults.on("*", "", times=None).status(500)
        run = await runs.run(mirror)
        assert run.result is Result.PARTIAL
        assert codes(run) == {("coding", "index"): "server"}
        assert set(sound(runs.local())) == {"app-1.0.0", "base-0.1.0"}
        coding.faults.clear()
        source.forget()
        again = await runs.run(mirror)
        assert again.result is Result.SUCCESS
        assert set(coding.files) == {A1.file, B1.file}
        assert again.read == source.sent("tgz$") == 0  # our own store has them


async def test_a_target_that_fails_in_the_middle(source: ChartRepository, runs: ChartRuns) -> None:
    """A target that takes one archive and refuses the other fails for that one only, and gets it the next time."""
    async with CodingServer() as coding:
        mirror = runs.mirror(source.url, local=LOCAL, coding=coding)
        coding.faults.on("POST", "", times=1).status(403, b"quota")
        [((target, refused), code)] = codes(await runs.run(mirror)).items()  # whichever came first
        assert (target, code) == ("coding", "denied")
        assert set(coding.files) == {f"{item}.tgz" for item in {"app-1.0.0", "base-0.1.0"} - {refused}}
        assert (await runs.run(mirror)).result is Result.SUCCESS
        assert set(coding.files) == {A1.file, B1.file}


async def test_a_target_that_takes_nothing_of_what_upstream_has(source: ChartRepository, runs: ChartRuns) -> None:
    """Where one archive is gone upstream and the target refuses the other, its index says what the target did."""
    del source.files[f"charts/{B1.file}"]
    async with CodingServer() as coding:
        coding.faults.on("POST", "", times=None).status(403, b"policy")
        run = await runs.run(runs.mirror(source.url, coding=coding))
        assert "could be stored there; no index is written" in receipts(run)["coding", "index"].detail


@pytest.mark.parametrize("status", [409, 403])
async def test_a_target_that_takes_nothing(
    status: int, source: ChartRepository, runs: ChartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that refuses every chart has failed, its index too; a 409 of what no index shows is not waited for long."""
    monkeypatch.setattr(server_index, "PAUSES", (0.0,) * 7)
    async with CodingServer() as coding:
        coding.faults.on("POST", "", times=None).status(status, b"policy")
        run = await runs.run(runs.mirror(source.url, coding=coding))
        code = "denied" if status == 403 else "refused"
        assert run.result is Result.FAILED
        assert codes(run) == dict.fromkeys([("coding", item) for item in ("app-1.0.0", "base-0.1.0", "index")], code)
        nothing = "none of the wanted versions (2) could be stored there; no index is written"
        assert nothing in receipts(run)["coding", "index"].detail
        assert coding.count("POST") == 2
        assert coding.count("GET", "index.yaml") == (1 if status == 403 else 1 + 2 * (1 + server_index.SOON))
        coding.faults.clear()
        assert (await runs.run(runs.mirror(source.url, coding=coding))).result is Result.SUCCESS


async def test_oldest_first(runs: ChartRuns) -> None:
    """ChartMuseum dates by arrival: it sees the oldest first, one after the other, also with parallel batches."""
    charts = [build_chart("app", f"1.{number}.0", {"pad": b"x" * (9 - number) * 9000}) for number in range(9)]
    runs.parallel = 6
    async with ChartRepository() as source, ChartMuseumServer() as museum:
        for number, chart in reversed(list(enumerate(charts))):
            source.add(chart, created=f"2024-01-0{number + 1}T00:00:00Z")
        slow = source.faults.on("GET", "app-1.0.0.tgz$").hold()
        source.faults.on("GET", "app-1.5.0.tgz$").do(slow.release)
        run = await runs.run(runs.mirror(source.url, museum=museum))
        assert run.result is Result.SUCCESS
        assert [file for file in museum.files if file.endswith(".tgz")] == [chart.file for chart in charts]
        posts = museum.select("POST", "")
        ends = [post.at(Moment.ENDED) for post in posts]
        assert all(end < post.at(Moment.STARTED) for end, post in zip(ends, posts[1:], strict=False))


async def test_oldest_first_when_the_oldest_fails(runs: ChartRuns) -> None:
    """An archive that cannot be had holds up nobody who waits behind it."""
    charts = [build_chart("app", f"1.{number}.0") for number in range(5)]
    async with ChartRepository() as source, ChartMuseumServer() as museum:
        for number, chart in enumerate(charts):
            source.add(chart, created=f"2024-01-0{number + 1}T00:00:00Z")
        del source.files[f"charts/{charts[0].file}"], source.files[f"charts/{charts[3].file}"]
        slow = source.faults.on("GET", "app-1.2.0.tgz$").hold()
        source.faults.on("GET", "app-1.4.0.tgz.prov$").do(slow.release)
        run = await runs.run(runs.mirror(source.url, museum=museum))
        assert set(codes(run)) == {("museum", "app-1.0.0"), ("museum", "app-1.3.0")}
        assert [file for file in museum.files if file.endswith(".tgz")] == [charts[n].file for n in (1, 2, 4)]


@pytest.mark.parametrize("url", ["charts/{}", "{here}/charts/{}", "/stable/charts/{}"])
@pytest.mark.parametrize("passing", [False, True])
async def test_11_and_12_credentials(url: str, passing: bool, tmp_path: Path) -> None:
    """The repository's credentials go to its own origin by every kind of URL, and to no other host unless told so."""
    wire, auth = Wire(), Auth(basic=("ann", "s3cret"))
    async with ChartRepository(path="/stable", auth=auth, wire=wire) as source, ChartRepository(wire=wire) as other:
        source.add(A1, url.format(A1.file, here=source.url))
        source.add(B1, f"{other.url}/{B1.file}")
        other.files[B1.file] = B1.data
        book = HostBook({source.host: HostPolicy(source.host, Credential("ann", Secret("s3cret")))})
        async with open_chart_runs(tmp_path, book=book) as runs:
            run = await runs.run(runs.mirror(source.url, keys={"pass_credentials": passing}, local=LOCAL))
            assert run.result is Result.SUCCESS, run
            basic = f"Basic {base64.b64encode(b'ann:s3cret').decode()}"
            assert source.count("GET", A1.file) >= 1
            sent = {exchange.headers.get("authorization") for exchange in other.log}
            assert sent == ({basic} if passing else {None})
            assert "s3cret" not in str(run)


async def test_11_another_host_wants_credentials(runs: ChartRuns) -> None:
    """When the other host says 401, the message names the host, and the key that would send it credentials."""
    async with ChartRepository() as source, ChartRepository(auth=Auth(basic=("a", "b"))) as other:
        source.add(A1, f"{other.url}/{A1.file}")
        run = await runs.run(runs.mirror(source.url, local=LOCAL))
        (failed,) = [receipt for receipt in run.receipts if not receipt.good]
        assert failed.outcome is Outcome.REFUSED
        assert other.host in failed.detail
        assert "pass_credentials" in failed.detail


@pytest.mark.parametrize("kind", ["local", "site"])
async def test_a_lost_file_is_healed(kind: str, source: ChartRepository, runs: ChartRuns) -> None:
    """An archive that is gone from our own disk is fetched again, and only that one."""
    mirror = runs.mirror(source.url, trust=3600, also={kind: LOCAL if kind == "local" else runs.folder / "site"})
    await runs.run(mirror)
    place = place_in(runs.folder / "blobs", A1.digest) if kind == "local" else runs.folder / "site" / "charts" / A1.file
    assert place is not None
    place.unlink()
    source.forget()
    runs.later(hours=2)
    run = await runs.run(mirror)
    assert run.result is Result.SUCCESS
    assert run.read == len(A1.data)
    assert set(sound(runs.local() if kind == "local" else site(runs.folder / "site"))) == {"app-1.0.0", "base-0.1.0"}


@pytest.mark.parametrize("lost", ["index.yaml", "charts/app-1.0.0.tgz.prov"])
async def test_a_lost_small_file_is_healed(lost: str, source: ChartRepository, runs: ChartRuns) -> None:
    """The index, or a provenance, that is gone from our own disk comes back."""
    mirror = runs.mirror(source.url, trust=3600, local=LOCAL)
    await runs.run(mirror)
    before = runs.local()
    place = place_in(runs.folder / "blobs", Digest.of(before[lost]))
    assert place is not None
    place.unlink()
    runs.later(hours=2)
    await runs.run(mirror)
    assert runs.local() == before


async def test_lost_notes_converge(source: ChartRepository, runs: ChartRuns) -> None:
    """Without its notes the syncer asks for everything once, changes nothing, and knows it all again."""
    mirror = runs.mirror(source.url, local=LOCAL, site=runs.folder / "site")
    await runs.run(mirror)
    before = runs.local(), site(runs.folder / "site")
    for note in runs.notes():
        note.write_bytes(b"{damaged" if note.stem == "app.helm" else b"[]")
    source.forget()
    run = await runs.run(mirror)
    assert run.read == 0
    assert all(receipt.good for receipt in run.receipts)
    assert (runs.local(), site(runs.folder / "site")) == before
    source.forget()
    assert (await runs.run(mirror)).result is Result.NOOP
    assert len(source.log) == 1
