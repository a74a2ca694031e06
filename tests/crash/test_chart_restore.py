"""`mirrord restore` of charts: by the program, killed and failed at every place, without a database, pulled by helm."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final

import pytest

from mirrord import failpoints
from mirrord.commands import Restore, Sync
from mirrord.errors import MirrordError
from mirrord.failpoints import CRASH_STATUS, NAMES
from mirrord.model.digest import Digest
from mirrord.model.run import Result, Run
from mirrord.testing import DockerRegistry, require
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import Chart, build_chart
from tests.support.chartprograms import helm, open_chartmuseum
from tests.support.chartruns import site, sound
from tests.support.chartworld import read_entries
from tests.support.commands import Desk
from tests.support.localstore import files_in
from tests.support.signing import ShapeSigner
from tests.support.walking import leftovers

SIGNER = ShapeSigner()
OLD = build_chart("app", "1.0.0", {"salt": os.urandom(2000)})
NEW = build_chart("app", "1.0.0", {"salt": os.urandom(2000)})
TWO = build_chart("app", "2.0.0")
PLACES = (
    "restore.held",
    "ledger.intended",
    "links.written",
    "links.renamed",
    "ledger.settled",
    "record.receipts",
    "record.days",
)
"""What a restore of charts passes where it can be stopped."""
NAMED = Restore("app", ("app-1.0.0",))
BACK: Final[Mapping[str, tuple[Restore, list[Mapping[str, Digest]]]]] = {
    "name": (NAMED, [{"app-1.0.0": OLD.digest, "app-2.0.0": TWO.digest}] * 2),
    "run": (Restore("app", run=2), [{"app-1.0.0": OLD.digest}] * 2),
    "release": (replace(NAMED, release=True), [{"app-1.0.0": NEW.digest, "app-2.0.0": TWO.digest}] * 2),
}
"""What is done, and what both places have then."""
MORE: Final = frozenset({"facts.noted", "spool.verified", "store.linked"})
"""What is passed besides; `spool.chunk` where an archive comes from the source."""


class Work:
    """A mirror of charts to `local` and a folder; upstream has replaced one version."""

    def __init__(self, desk: Desk, source: ChartRepository) -> None:
        self.desk, self.source, self.state = desk, source, desk.folder / "state"

    async def sync(self) -> Run:
        (run,) = await self.desk.carry_out(Sync(("app",)))
        return run

    async def prepare(self, how: str) -> Restore:
        """Return what is to be done, once that means something."""
        if how == "release":
            assert (await self.desk.carry_out(NAMED)).result is Result.SUCCESS
        return BACK[how][0]

    async def converge(self, how: str) -> None:
        """Once more: it is done, or nothing was begun, and the same command does it; then all rests."""
        assert {shown["app-1.0.0"] for shown in self.shown()} <= {OLD.digest, NEW.digest}
        assert (await self.sync()).result in (Result.SUCCESS, Result.NOOP)
        command, wanted = BACK[how]
        if self.shown() != wanted:
            assert (await self.desk.carry_out(command)).result is Result.SUCCESS
        assert self.shown() == wanted
        assert (await self.sync()).result is Result.NOOP
        assert self.shown() == wanted
        assert leftovers(self.state) == []

    def shown(self) -> list[Mapping[str, Digest]]:
        """Return what the indexes list; all of that is there, and is what they say."""
        return [sound(self.local()), sound(self.site())]

    def local(self) -> Mapping[str, bytes]:
        return files_in(self.state / "repositories", self.state / "blobs", "_helm/app")

    def site(self) -> Mapping[str, bytes]:
        return site(self.desk.folder / "site")


def listed(first: Chart) -> list[Mapping[str, Digest]]:
    return [{"app-1.0.0": first.digest, "app-2.0.0": TWO.digest}] * 2


@asynccontextmanager
async def replaced(desk: Desk, more: str = "", targets: str = "") -> AsyncIterator[Work]:
    async with ChartRepository() as source:
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"targets: {{site: {{kind: helm, to: {desk.folder}/site}}{targets}}}\n"
            f"mirrors: [{{name: app, kind: helm, from: '{source.url}', changed: replace, trust: 0s, "
            f"to: [local, site{more}]}}]\n"
        )
        work = Work(desk, source)
        source.add(OLD, prov=OLD.provenance(SIGNER))
        assert (await work.sync()).result is Result.SUCCESS
        source.entries.clear()
        source.add(NEW, prov=NEW.provenance(SIGNER))
        source.add(TWO, prov=TWO.provenance(SIGNER))
        assert (await work.sync()).result is Result.SUCCESS
        yield work


async def test_from_the_list_to_the_release(desk: Desk) -> None:
    """The list names versions, digests and places; what is planned is done without the source; release undoes it."""
    async with replaced(desk) as work:
        (backup,) = (await desk.run("restore", "app", "--json")).document["backups"]
        assert (backup["name"], backup["item"]) == (f"app-1.0.0@{OLD.digest}", "app-1.0.0")
        assert backup["where"] == "local"
        await work.source.stop()
        planned = await desk.run("restore", "app", "app-1.0.0", "--dry-run")
        assert (planned.status, "restored from local" in planned.out) == (0, True), planned
        assert work.shown() == listed(NEW)
        assert (await desk.run("restore", "app", "app-3.0.0")).status == 64
        done = await desk.run("restore", "app", f"app-1.0.0@{OLD.digest[:14]}")
        assert done.status == 0, done
        assert work.shown() == listed(OLD)
        await work.source.start()
        synced = await desk.run("sync", "app")
        assert "`mirrord restore app app-1.0.0 --release` lets the source decide again" in synced.out, synced
        assert work.shown() == listed(OLD)
        assert (await desk.run("gc")).status == 0
        assert work.shown() == listed(OLD)
        assert (await desk.run("restore", "app", "app-1.0.0", "--release")).status == 0
        assert work.shown() == listed(NEW)


@pytest.mark.parametrize("how", ["exit", "fail"])
@pytest.mark.parametrize("place", PLACES)
async def test_stopped_while_it_restores(desk: Desk, place: str, how: str) -> None:
    """Wherever it ends, no index lists what is not there; the next run of either kind completes what was held.

    Both places are written at once, so that a kill at one may come between the two renames of the other, a folder:
    its archive is whole then, and may be the old or the new one.
    """
    async with replaced(desk) as work:
        stopped = await desk.run("restore", "app", "app-1.0.0", MIRRORD_FAILPOINTS=f"{place}={how}:0")
        assert how == "fail" or stopped.status == CRASH_STATUS, stopped
        for shown in (work.local(), work.site()) if how == "fail" else (work.local(),):
            assert sound(shown)["app-1.0.0"] in (OLD.digest, NEW.digest)
            assert sound(shown)["app-2.0.0"] == TWO.digest
        folder = work.site()
        listed_there = read_entries(folder["index.yaml"])
        assert listed_there.keys() == {"app-1.0.0", "app-2.0.0"}
        assert {listed_there["app-1.0.0"], Digest.of(folder["charts/app-1.0.0.tgz"])} <= {OLD.digest, NEW.digest}
        assert listed_there["app-2.0.0"] == Digest.of(folder["charts/app-2.0.0.tgz"]) == TWO.digest
        run = await desk.run("sync", "app")
        assert run.status == 0, run
        assert work.shown() == listed(OLD)


@pytest.mark.parametrize(
    ("how", "place"),
    [
        *(
            ("run", place)
            for place in ("restore.held", "store.linked", "links.written", "ledger.settled", "record.days")
        ),
        *(("release", place) for place in ("facts.noted", "spool.verified", "links.renamed")),
    ],
)
async def test_failed_in_this_process(desk: Desk, place: str, how: str) -> None:
    """Where a restore, an undoing, or a release fails: no index lists what is not there, and the next run goes on."""
    async with replaced(desk) as work:
        command = await work.prepare(how)
        failpoints.arm(place, failpoints.fail)
        with suppress(MirrordError, OSError):
            await desk.carry_out(command)
        failpoints.disarm()
        await work.converge(how)


@pytest.mark.parametrize(("how", "place"), [("run", "restore.held"), ("release", "facts.noted")])
async def test_killed_in_another_way(desk: Desk, place: str, how: str) -> None:
    """The process ends there at once."""
    words = {"run": ("--run", "2"), "release": ("app-1.0.0", "--release")}[how]
    async with replaced(desk) as work:
        await work.prepare(how)
        stopped = await desk.run("restore", "app", *words, MIRRORD_FAILPOINTS=f"{place}=exit:0")
        assert stopped.status == CRASH_STATUS, stopped
        await work.converge(how)


@pytest.mark.parametrize("how", BACK)
async def test_no_place_is_missing(desk: Desk, how: str) -> None:
    """The lists above name all that is passed, so that a new failpoint is in them from its first day."""
    found = set[str]()
    async with replaced(desk) as work:
        command = await work.prepare(how)
        for name in NAMES:
            failpoints.arm(name, partial(found.add, name))
        assert (await desk.carry_out(command)).result is Result.SUCCESS
        failpoints.disarm()
        assert work.shown() == BACK[how][1]
    passed = {*PLACES, *MORE}
    assert found == ((passed | {"spool.chunk"}) - {"restore.held"} if how == "release" else passed)


async def test_a_folder_that_was_left_between_two_renames(desk: Desk) -> None:
    """Its archive is replaced already, and its index is not: the next run puts that right."""
    async with replaced(desk) as work:
        stopped = await desk.run("restore", "app", "app-1.0.0", MIRRORD_FAILPOINTS="restore.held=exit:0")
        assert stopped.status == CRASH_STATUS, stopped
        (desk.folder / "site" / "charts" / "app-1.0.0.tgz").write_bytes(OLD.data)
        run = await desk.run("sync", "app")
        assert run.status == 0, run
        assert work.shown() == listed(OLD)


async def test_without_its_database_nothing_is_restored_or_deleted(desk: Desk) -> None:
    """The ledger went with it: the command says so, and changes nothing."""
    async with replaced(desk) as work:
        for file in work.state.glob("mirrord.db*"):
            file.unlink()
        said = await desk.run("restore", "app", "app-1.0.0")
        assert (said.status, "the database was lost" in said.err) == (64, True), said
        assert (await desk.run("restore", "app", "--run", "2")).status == 64
        assert work.shown() == listed(NEW)


async def pulled(desk: Desk, target: str, *words: str) -> Digest:
    """Return what helm pulls from a real server after a restore without the source."""
    async with replaced(desk, ", there", target) as work, helm("helm3") as run:
        await work.source.stop()
        done = await desk.run("restore", "app", "app-1.0.0")
        assert done.status == 0, done
        assert work.shown() == listed(OLD)
        (desk.folder / "pulled").mkdir()
        got = await run("pull", *words, "--version", "1.0.0", "--destination", desk.folder / "pulled")
        assert got.status == 0, got
        return Digest.of((desk.folder / "pulled" / "app-1.0.0.tgz").read_bytes())


async def test_helm_gets_it_from_a_registry(desk: Desk) -> None:
    """The tag stands for the old archive again."""
    require("docker-registry", "helm3")
    async with DockerRegistry() as registry:
        place = f"oci://{registry.host}/charts"
        target = f", there: {{kind: helm, to: '{place}'}}"
        assert await pulled(desk, target, f"{place}/app", "--plain-http") == OLD.digest


async def test_helm_gets_it_from_a_chartmuseum(desk: Desk) -> None:
    """It was replaced there by force, and its index says so."""
    require("chartmuseum", "helm3")
    async with open_chartmuseum() as museum:
        target = f", there: {{kind: helm, to: '{museum.url}', api: chartmuseum}}"
        assert await pulled(desk, target, "app", "--repo", museum.url) == OLD.digest
