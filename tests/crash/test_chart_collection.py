"""Collections of charts in `local`: what goes, and that the index never lists what is not there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from mirrord.failpoints import CRASH_STATUS
from mirrord.model.digest import Digest
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import Chart, build_chart
from tests.support.chartworld import sound
from tests.support.commands import Desk
from tests.support.localstore import files_in
from tests.support.signing import ShapeSigner

SIGNER = ShapeSigner()
VERSIONS = ("1.8.0", "1.9.0", "1.10.0", "1.10.1-rc.1", "1.10.1")
APP = {version: build_chart("app", version, {"salt": os.urandom(2000)}) for version in VERSIONS}
BASE = build_chart("base-2", "0.1.0")
ALL = (*APP.values(), BASE)


def items(charts: Iterable[Chart]) -> set[str]:
    return {f"{chart.name}-{chart.version}" for chart in charts}


NEWEST = items([APP["1.10.1-rc.1"], APP["1.10.1"], BASE])


class Kept:
    """A mirror of charts, all of them signed."""

    def __init__(self, desk: Desk, source: ChartRepository) -> None:
        self.desk, self.source, self.state = desk, source, desk.folder / "state"

    def configure(self, keep: str = "", more: str = "") -> None:
        keep = f"keep: {keep}, " if keep else ""
        self.desk.configure(
            "settings: {listen: '127.0.0.1:0'}\nmirrors:\n"
            f"  - {{name: app, kind: helm, from: '{self.source.url}', {keep}{more}to: local}}\n"
        )

    def shown(self) -> dict[str, bytes]:
        return dict(files_in(self.state / "repositories", self.state / "blobs", "_helm/app"))

    def listed(self) -> set[str]:
        """Return what the index lists; all of that is there, signed, and nothing else has a name."""
        shown = self.shown()
        found = set(sound(shown))
        archives = {name for name in shown if name.startswith("charts/")}
        assert archives == {f"charts/{item}.tgz{end}" for item in found for end in ("", ".prov")}
        return found

    def files(self) -> dict[str, int]:
        return {file.name: file.stat().st_size for file in (self.state / "blobs").glob("*/*/*")}

    async def gc(self, *options: str) -> dict[str, Any]:
        said = await self.desk.run("gc", "--json", *options)
        assert said.status == 0, said
        found: dict[str, Any] = said.document
        return found

    async def sync(self, *options: str) -> dict[str, Any]:
        said = await self.desk.run("sync", "--json", *options)
        assert said.status == 0, said
        (run,) = said.document["runs"]
        found: dict[str, Any] = run
        return found


@asynccontextmanager
async def kept(desk: Desk, *, more: str = "") -> AsyncIterator[Kept]:
    async with ChartRepository() as source:
        for chart in ALL:
            source.add(chart, prov=chart.provenance(SIGNER))
        world = Kept(desk, source)
        world.configure(more=more)
        assert (await world.sync())["result"] == "success"
        yield world


def gone(found: dict[str, Any]) -> set[str]:
    return {one["name"] for one in found["gone"]}


def names(charts: Iterable[Chart]) -> set[str]:
    return {f"charts/{item}.tgz{end}" for item in items(charts) for end in ("", ".prov")}


OLD = names([APP["1.8.0"], APP["1.9.0"], APP["1.10.0"]])


async def test_what_goes_is_said_before(desk: Desk) -> None:
    """A dry run changes nothing and says what goes, why, and how many bytes; a collection does just that."""
    async with kept(desk) as world:
        assert (await world.gc())["gone"] == []
        world.configure("{newest: 2}")
        before = world.files()
        dry = await world.gc("--dry-run")
        assert (world.files(), world.listed()) == (before, items(ALL))
        wet = await world.gc()
        assert gone(wet) == OLD
        assert {one["why"].partition(", came")[0] for one in wet["gone"]} == {
            "not among the newest 2 of app",
            "it is about a version that goes",
        }
        assert dry == {**wet, "dry": True}
        assert world.listed() == NEWEST
        after = world.files()
        sizes = {chart.digest.hex: len(chart.data) for chart in APP.values()}
        assert not {APP[version].digest.hex for version in VERSIONS[:3]} & after.keys()
        assert wet["freed"] == sum(one["size"] for one in wet["gone"])
        assert wet["freed"] == sum(size for name, size in before.items() if name not in after)
        assert wet["freed"] > sum(sizes[APP[version].digest.hex] for version in VERSIONS[:3])
        assert (await world.gc())["gone"] == []


async def test_dropped_versions_do_not_come_back(desk: Desk) -> None:
    """The next run leaves what was not kept, and says so; with wider rules it brings it again, and only that."""
    async with kept(desk, more="trust: 1s, ") as world:
        world.configure("{newest: 2}", "trust: 1s, ")
        await world.gc()
        reads = world.source.count("GET", "charts/")
        plan = (await desk.run("plan", "--json", "-v")).document
        assert "not kept: not among the newest 2 of app" in json.dumps(plan)
        assert (await world.sync())["result"] == "noop"
        assert world.source.count("GET", "charts/") == reads
        assert world.listed() == NEWEST
        world.configure("{newest: 3}", "trust: 1s, ")
        assert (await world.sync())["result"] == "success"
        assert world.listed() == NEWEST | items([APP["1.10.0"]])
        assert world.source.count("GET", "charts/") == reads + 2


async def test_a_new_version_lets_an_old_one_go(desk: Desk) -> None:
    """A run is followed by a collection; the history says so, and the mirror stands as its run left it."""
    async with kept(desk) as world:
        world.configure("{newest: 2}")
        await world.sync()
        assert world.listed() == NEWEST
        new = build_chart("app", "2.0.0")
        world.source.add(new, prov=new.provenance(SIGNER))
        await world.sync()
        assert world.listed() == items([APP["1.10.1"], new, BASE])
        (mirror,) = (await desk.run("status", "--json")).document["mirrors"]
        assert mirror["result"] == "success"
        runs = (await desk.run("runs", "app", "--json")).document
        assert [one["trigger"] for one in runs["runs"]].count("gc") == 2


async def test_what_the_configuration_names_stays(desk: Desk) -> None:
    """A version that `versions` or `accept` names exactly is kept whatever the rules are; a range pins nothing."""
    async with kept(desk) as world:
        accept = f"accept: {{app: {{1.9.0: '{APP['1.9.0'].digest}'}}}}, "
        world.configure("{newest: 1}", f"versions: {{app: '1.8.0 || >=1.9.0', '*': '>=0'}}, {accept}")
        await world.gc()
        assert world.listed() == items([APP["1.8.0"], APP["1.9.0"], APP["1.10.1"], BASE])


def make_old(world: Kept, charts: Iterable[Chart]) -> None:
    """Let all versions have come in 1970, and let these have been used then for the last time."""
    (log,) = (world.state / "repositories" / "_helm" / "app").glob("_links.jsonl")
    lines = [re.sub(r'"at":[0-9]+', '"at":1', line) for line in log.read_text().splitlines()[1:]]
    body = "".join(f"{line}\n" for line in lines)
    log.write_text(json.dumps({"log": "0", "size": len(body)}) + "\n" + body)
    blobs = world.state / "blobs" / "sha256"
    for chart in charts:
        os.utime(blobs / chart.digest.hex[:2] / chart.digest.hex, (0, 0))


async def test_what_clients_pull_stays(desk: Desk) -> None:
    """An archive that a client asked the daemon for counts as used, also after a restart; nobody uses the others."""
    async with kept(desk) as world:
        make_old(world, ALL)
        world.configure("{unused: 30d}")
        async with desk.serving() as server:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://{server.address}/helm/app/charts/app-1.8.0.tgz") as answer,
            ):
                assert answer.status == 200
            assert (await world.gc())["gone"] == []  # the daemon does not know who was reading when it began
        await world.gc()
        assert world.listed() == items([APP["1.8.0"]])


async def test_ages_and_uses(desk: Desk) -> None:
    """Versions go by when they came and by when clients asked for their archives; also all of them."""
    async with kept(desk) as world:
        make_old(world, (*list(APP.values())[:4], BASE))
        world.configure("{unused: 30d}")
        await world.gc()
        assert world.listed() == items([APP["1.10.1"]])
        world.configure("{days: 30}")
        await world.gc()
        assert world.listed() == set()
        assert (await world.sync())["result"] == "noop"


async def test_without_the_database(desk: Desk) -> None:
    """Ages and what was dropped are in the logs of `local`: a lost database changes nothing of either."""
    async with kept(desk) as world:
        for file in world.state.glob("mirrord.db*"):
            file.unlink()
        world.configure("{days: 1}")
        assert (await world.gc())["gone"] == []
        world.configure("{newest: 2}")
        assert gone(await world.gc()) == OLD
        for file in world.state.glob("mirrord.db*"):
            file.unlink()
        await world.sync()
        assert world.listed() == NEWEST


async def test_a_damaged_index_lets_nothing_go(desk: Desk) -> None:
    """Where the index cannot be read nobody knows what archives are, and all stay; a mirror that is gone, too."""
    async with kept(desk) as world:
        shown = files_in(world.state / "repositories", world.state / "blobs", "_helm/app")
        digest = Digest.of(shown["index.yaml"])
        file = world.state / "blobs" / "sha256" / digest.hex[:2] / digest.hex
        file.chmod(0o600)
        file.write_bytes(b"{")
        world.configure("{newest: 1}")
        assert (await world.gc())["gone"] == []
        desk.configure("settings: {local: {keep: {newest: 1}}}\nmirrors: []\n")
        assert (await world.gc())["gone"] == []


PLACES = (
    "links.written",
    "links.renamed",
    "ledger.intended",
    "ledger.settled",
    "store.linked",
    "gc.dropped",
    "gc.swept",
)


@pytest.mark.parametrize("how", ["exit", "fail"])
@pytest.mark.parametrize("place", PLACES)
async def test_crash(desk: Desk, place: str, how: str) -> None:
    """Killed or failed at any step, whatever is listed is whole; the next collection does the rest."""
    async with kept(desk) as world:
        world.configure("{newest: 2}")
        ended = await desk.run("gc", MIRRORD_FAILPOINTS=f"{place}={how}")
        assert ended.status == (CRASH_STATUS if how == "exit" else 1), ended
        assert world.listed() in (items(ALL), NEWEST)
        await world.gc()
        assert world.listed() == NEWEST
        await world.gc()
        assert not {APP[version].digest.hex for version in VERSIONS[:3]} & world.files().keys()
        assert (await world.sync())["result"] == "noop"
        assert world.listed() == NEWEST
