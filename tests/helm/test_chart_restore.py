"""Chart versions set back to earlier archives by the ledger, from wherever these still are, and held until released."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.repositories import ManifestRef
from mirrord.errors import UsageError
from mirrord.model.plan import Action
from mirrord.model.run import Result, Run
from mirrord.names.denied import Denied, DeniedEntry
from mirrord.syncer.restoring import FACTS
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.syncers.helm.plan.restored import version_of
from mirrord.syncers.helm.transfer.earlier import keep_earlier
from mirrord.syncers.helm.upstream.archive_places import SOURCE
from mirrord.syncers.helm.upstream.kept_archives import KeptArchives
from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.chartfiles import sign_chart
from tests.support.chartrestoring import earlier_of, plan_restore, release, restore, undo
from tests.support.chartruns import ChartRuns, receipts, site, sound
from tests.support.chartservers import ChartMuseumServer

ONE, TWO = build_chart("app", "1.0.0"), build_chart("app", "2.0.0")
AGAIN = build_chart("app", "1.0.0", metadata={"description": "packaged again"})
THIRD = build_chart("app", "1.0.0", metadata={"description": "packaged once more"})
KEYS = {"removed": "delete", "changed": "replace", "max_loss": 1}


@pytest.fixture
async def museum() -> AsyncIterator[ChartMuseumServer]:
    async with ChartMuseumServer() as server:
        yield server


async def moved(source: ChartRepository, runs: ChartRuns, mirror: Mirror) -> Run:
    """Mirror `1.0.0`, then let upstream replace it and add `2.0.0`."""
    source.add(ONE, prov=sign_chart(ONE.data))
    assert (await runs.run(mirror)).result is Result.SUCCESS
    source.entries.clear()
    source.add(AGAIN, prov=sign_chart(AGAIN.data))
    source.add(TWO)
    runs.later(days=1)
    run = await runs.run(mirror)
    assert run.result is Result.SUCCESS
    return run


async def test_a_version_gets_its_earlier_archive_and_keeps_it(source: ChartRepository, runs: ChartRuns) -> None:
    """Restored everywhere, with its index; no sync moves it until it is released, and each says so."""
    async with Registry() as registry:
        mirror = runs.mirror(source.url, keys=KEYS, registry=registry, local=LOCAL, site=runs.folder / "s")
        await moved(source, runs, mirror)
        (backup,) = await earlier_of(runs, mirror)
        assert (backup.name, backup.item) == (f"app-1.0.0@{ONE.digest}", "app-1.0.0")
        assert backup.where == "local, registry"
        await source.stop()
        planned = await plan_restore(runs, mirror, "app-1.0.0")
        assert {step.reason for step in planned.active if step.item != "index"} == {
            f"restored from local or registry: it is {AGAIN.digest} there"
        }
        runs.later(hours=1)
        run = await restore(runs, mirror, "app-1.0.0")
        assert (run.result, run.trigger) == (Result.SUCCESS, "restore"), receipts(run)
        with pytest.raises(UsageError, match="its name stands for it already at local, registry, site"):
            await restore(runs, mirror, f"app-1.0.0@{ONE.digest}")
        await source.start()
        for days in (0, 1, 2):
            shown = [sound(runs.local()), sound(site(runs.folder / "s"))]
            assert shown == [{"app-1.0.0": ONE.digest, "app-2.0.0": TWO.digest}] * 2
            assert runs.local()["charts/app-1.0.0.tgz"] == ONE.data
            runs.later(days=days)
            run = await runs.run(mirror)
            assert run.result is Result.NOOP, receipts(run)
            assert (
                f"app-1.0.0 was restored and stays {ONE.digest} at local, registry, site; the source has "
                f"{AGAIN.digest}; `mirrord restore app app-1.0.0 --release` lets the source decide again"
            ) in run.remarks
        await release(runs, mirror, "app-1.0.0")
        assert (await runs.run(mirror)).result is Result.SUCCESS
        assert sound(runs.local()) == {"app-1.0.0": AGAIN.digest, "app-2.0.0": TWO.digest}


async def test_the_provenance_goes_with_it(source: ChartRepository, runs: ChartRuns) -> None:
    """It is that of the restored archive, from whichever place has it; one of another archive is none."""
    async with Registry() as registry:
        mirror = runs.mirror(source.url, keys={"changed": "replace"}, registry=registry, local=LOCAL)
        await moved(source, runs, mirror)
        assert (await restore(runs, mirror, "app-1.0.0")).result is Result.SUCCESS
        assert runs.local()["charts/app-1.0.0.tgz.prov"] == sign_chart(ONE.data)
        await release(runs, mirror, "app-1.0.0")
        runs.later(days=1)
        await runs.run(mirror)
        assert runs.services.repositories
        await runs.services.repositories.publish("_helm/app/earlier", {}, {}, exactly=True)
        assert (await restore(runs, mirror, "app-1.0.0")).result is Result.SUCCESS
        assert "charts/app-1.0.0.tgz.prov" not in runs.local()
        source.files["charts/old/app-1.0.0.tgz"] = ONE.data
        source.files["charts/old/app-1.0.0.tgz.prov"] = sign_chart(ONE.data)
        source.entries.clear()
        source.add(ONE, "charts/old/app-1.0.0.tgz")
        await release(runs, mirror, "app-1.0.0")
        runs.later(days=1)
        await runs.run(mirror)
        source.entries.clear()
        source.add(AGAIN, prov=sign_chart(AGAIN.data))
        runs.later(days=1)
        await runs.run(mirror)
        source.entries.append(ONE.entry("charts/old/app-1.0.0.tgz"))
        source.publish()
        assert (await restore(runs, mirror, f"app-1.0.0@{ONE.digest[:14]}")).result is Result.SUCCESS
        assert sound(runs.local())["app-1.0.0"] == ONE.digest
        assert runs.local()["charts/app-1.0.0.tgz.prov"] == sign_chart(ONE.data)


async def test_a_removed_version_comes_back_and_stays(source: ChartRepository, runs: ChartRuns) -> None:
    """What upstream withdrew and `removed: delete` took away is back, and not removed again before it is released."""
    mirror = runs.mirror(source.url, keys=KEYS, local=LOCAL, site=runs.folder / "s")
    source.add(ONE)
    source.add(TWO)
    await runs.run(mirror)
    source.entries.pop(0)
    source.publish()
    runs.later(days=1)
    await runs.run(mirror)
    assert sound(runs.local()) == {"app-2.0.0": TWO.digest}
    (backup,) = await earlier_of(runs, mirror)
    assert (backup.item, backup.where) == ("app-1.0.0", "local")
    runs.later(hours=1)
    assert (await restore(runs, mirror, "app-1.0.0")).result is Result.SUCCESS
    runs.later(days=1)
    assert (await runs.run(mirror)).result is Result.NOOP
    for shown in (runs.local(), site(runs.folder / "s")):
        assert sound(shown) == {"app-1.0.0": ONE.digest, "app-2.0.0": TWO.digest}
    await release(runs, mirror, "app-*")
    runs.later(days=1)
    await runs.run(mirror)
    assert sound(runs.local()) == sound(site(runs.folder / "s")) == {"app-2.0.0": TWO.digest}


async def test_a_run_is_undone(source: ChartRepository, runs: ChartRuns) -> None:
    """What it replaced goes back, what it added is removed where the index is ours; both last."""
    mirror = runs.mirror(source.url, keys=KEYS, local=LOCAL, site=runs.folder / "s")
    run = await moved(source, runs, mirror)
    runs.later(hours=1)
    undone = await undo(runs, mirror, run)
    assert undone.result is Result.SUCCESS, receipts(undone)
    for days in (0, 1):
        runs.later(days=days)
        assert (await runs.run(mirror)).result is Result.NOOP
        assert sound(runs.local()) == sound(site(runs.folder / "s")) == {"app-1.0.0": ONE.digest}


async def test_each_target_goes_back_to_what_it_had(source: ChartRepository, runs: ChartRuns) -> None:
    """One that was behind when the run came gets its own archive again, and not the one of the other target."""
    both = runs.mirror(source.url, keys=KEYS, local=LOCAL, site=runs.folder / "s")
    alone = runs.mirror(source.url, keys=KEYS, local=LOCAL)
    for chart, mirror in ((ONE, both), (AGAIN, alone), (THIRD, both)):
        source.entries.clear()
        source.add(chart)
        runs.later(days=1)
        run = await runs.run(mirror)
        assert run.result is Result.SUCCESS
    runs.later(hours=1)
    undone = await undo(runs, both, run)
    assert undone.result is Result.SUCCESS, receipts(undone)
    assert sound(runs.local()) == {"app-1.0.0": AGAIN.digest}
    assert sound(site(runs.folder / "s")) == {"app-1.0.0": ONE.digest}


async def test_a_chartmuseum_gets_it_from_the_store(
    source: ChartRepository, museum: ChartMuseumServer, runs: ChartRuns
) -> None:
    """A server that makes its own index is sent the archive, with its provenance, by `?force`."""
    mirror = runs.mirror(source.url, keys={"changed": "replace"}, museum=museum, local=LOCAL)
    await moved(source, runs, mirror)
    run = await restore(runs, mirror, "app-1.0.0")
    assert run.result is Result.SUCCESS, receipts(run)
    assert museum.files["app-1.0.0.tgz"] == ONE.data
    runs.later(days=1)
    assert (await runs.run(mirror)).result is Result.NOOP
    assert museum.files["app-1.0.0.tgz"] == ONE.data


@pytest.mark.parametrize("damage", ["gone", "wrong"])
async def test_the_next_place_is_asked_when_the_first_one_fails(
    damage: str, source: ChartRepository, runs: ChartRuns
) -> None:
    """A copy in `local` that is lost or damaged since it was looked at costs nothing but a read elsewhere."""
    async with Registry() as registry:
        mirror = runs.mirror(source.url, keys={"changed": "replace"}, registry=registry, local=LOCAL)
        await moved(source, runs, mirror)
        (file,) = (one for one in (runs.folder / "blobs").rglob(f"*{ONE.digest.hex[:60]}*") if one.is_file())
        file.chmod(0o600)
        if damage == "gone":
            file.unlink()
        else:
            data = bytes(file.stat().st_size)
            file.unlink()
            file.write_bytes(data)
        run = await restore(runs, mirror, "app-1.0.0")
        assert run.result is Result.SUCCESS, [one.detail for one in run.receipts]
        assert registry.tags["team/charts/app"]["1.0.0"]
        assert sound(runs.local())["app-1.0.0"] == ONE.digest


async def test_what_is_nowhere_is_refused(source: ChartRepository, runs: ChartRuns) -> None:
    """The step says who was asked; nothing is held, and the next sync goes on as before."""
    mirror = runs.mirror(source.url, keys={"changed": "replace"}, site=runs.folder / "s")
    await moved(source, runs, mirror)
    await runs.services.blobs.remove(ONE.digest) if runs.services.blobs else None
    run = await restore(runs, mirror, "app-1.0.0")
    (step,) = (step for step in (run.plan.steps if run.plan else ()) if step.item != "index")
    assert (step.action, step.code) == (Action.REFUSE, "missing")
    assert step.reason == f"{ONE.digest} is nowhere: not at site, the source"
    runs.later(days=1)
    run = await runs.run(mirror)
    assert run.result is Result.NOOP, (run.plan, run.receipts)
    assert sound(site(runs.folder / "s"))["app-1.0.0"] == AGAIN.digest


async def test_an_entry_with_a_wrong_url_hides_no_other_archive(source: ChartRepository, runs: ChartRuns) -> None:
    """One archive that cannot be had at a place does not make the place unknown for all others."""
    mirror = runs.mirror(source.url, site=runs.folder / "s")
    source.add(ONE, "ftp://files.example/app-1.0.0.tgz")
    source.add(TWO)
    asked = [version_of("app:1.0.0", str(ONE.digest)), version_of("app:2.0.0", str(TWO.digest))]
    found, unknown = await KeptArchives(mirror, runs.services).where(asked)
    assert found == {ONE.digest: [], TWO.digest: [SOURCE]}
    assert not any(unknown.values())


async def test_what_may_not_be_read_is_not_said_to_be_gone(source: ChartRepository, runs: ChartRuns) -> None:
    """The index lists it in a registry that lets nobody in: whether it is there is unknown."""
    mirror = runs.mirror(source.url, site=runs.folder / "s")
    async with Registry() as registry:
        source.add(ONE, f"oci://{registry.host}/team/app:1.0.0")
        registry.faults.on("*", "/manifests/", times=None).status(403)
        found, unknown = await KeptArchives(mirror, runs.services).where([version_of("app:1.0.0", str(ONE.digest))])
    assert (found, {*unknown[ONE.digest]}) == ({ONE.digest: []}, {SOURCE})


@pytest.mark.parametrize("status", [400, 403])
async def test_one_archive_that_a_place_refuses_hides_no_other(
    source: ChartRepository, runs: ChartRuns, status: int
) -> None:
    """What a registry says of one archive counts for that one; that it lets nobody in counts for all, and is enough."""
    source.add(TWO)
    async with Registry() as registry:
        mirror = runs.mirror(source.url, registry=registry)
        await runs.run(mirror)
        fault = registry.faults.on("HEAD", f"/blobs/{ONE.digest}", times=None).status(status)
        asked = [version_of("app:1.0.0", str(ONE.digest)), version_of("app:2.0.0", str(TWO.digest))]
        found, unknown = await KeptArchives(mirror, runs.services).where(asked)
        assert found == {ONE.digest: [], TWO.digest: ["registry", SOURCE]}
        assert {digest: set(why) for digest, why in unknown.items()} == {ONE.digest: {"registry"}, TWO.digest: set()}
        assert fault.hits == 1


async def test_what_an_index_shows_besides_stays(source: ChartRepository, runs: ChartRuns) -> None:
    """A restore does not ask upstream, and leaves keys, annotations and files beside the index as they are."""
    source.files["artifacthub-repo.yml"] = b"repositoryID: 1\n"
    source.files["pubkey.gpg"] = b"key"
    mirror = runs.mirror(source.url, keys={"changed": "replace"}, local=LOCAL, site=runs.folder / "s")
    await moved(source, runs, mirror)
    before = runs.local()
    assert (await restore(runs, mirror, "app-1.0.0")).result is Result.SUCCESS
    assert runs.local().keys() == before.keys()
    assert runs.local()["artifacthub-repo.yml"] == site(runs.folder / "s")["artifacthub-repo.yml"]


async def test_what_local_shows_no_more_stays_for_thirty_days(source: ChartRepository, runs: ChartRuns) -> None:
    """Archive and provenance have names of their own until then, by digest; then the next run forgets them."""
    mirror = runs.mirror(source.url, keys=KEYS, local=LOCAL)
    await moved(source, runs, mirror)
    repositories = runs.services.repositories
    assert repositories
    names = {f"{ONE.digest.hex}.tgz", f"{ONE.digest.hex}.tgz.prov"}
    place = await repositories.state("_helm/app/earlier")
    assert place
    assert place.tags.keys() == names
    now = datetime.now(UTC)  # which the store's own clock says
    for days, stays in ((29, True), (31, False)):
        source.add(build_chart("app", f"3.{days}.0"))
        runs.now = now + timedelta(days=days)
        assert (await runs.run(mirror)).result is Result.SUCCESS
        place = await repositories.state("_helm/app/earlier")
        assert place
        assert (names <= place.tags.keys()) is stays


async def test_the_thirty_days_begin_again(tmp_path: Path) -> None:
    """An archive that was shown once more meanwhile is kept for thirty days after it was replaced for the last time."""
    now = 1_000_000.0
    repositories, store = DiskRepositories(tmp_path / "r", clock=lambda: now), DiskStore(tmp_path / "b")
    await store.put(ONE.digest, ONE.data)
    links = {ONE.digest: ManifestRef("application/gzip", len(ONE.data))}
    for days in (0, 40, 29):
        now += days * 86400
        await repositories.publish("_helm/app", links, {"app-1.0.0.tgz": ONE.digest}, exactly=True)
        if days != 29:
            await keep_earlier(repositories, store, "_helm/app", {}, now=now)
        await repositories.publish("_helm/app", {}, {}, exactly=True)
        await keep_earlier(repositories, store, "_helm/app", {}, now=now + 1)
        place = await repositories.state("_helm/app/earlier")
        assert place
        assert place.tags == {f"{ONE.digest.hex}.tgz": ONE.digest}


async def test_nothing_of_a_mirror_that_was_taken_down_is_restored(source: ChartRepository, runs: ChartRuns) -> None:
    """Plan and run say why, and nothing is held for a time after a lift."""
    mirror = runs.mirror(source.url, keys=KEYS, local=LOCAL)
    await moved(source, runs, mirror)
    denied = Denied([DeniedEntry(1, "a claim", mirror=mirror.name)])
    runs.services = replace(runs.services, denied=denied)
    planned, run = await plan_restore(runs, mirror, "app-1.0.0"), await restore(runs, mirror, "app-1.0.0")
    assert planned.code == run.code == "taken_down"
    assert planned.error.endswith(": a claim")
    assert runs.services.facts
    assert await runs.services.facts.recall(mirror.name, FACTS) == {}
