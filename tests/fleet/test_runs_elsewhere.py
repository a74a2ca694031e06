"""What one replica runs is shown, followed and cancelled at another one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk, Served
from tests.support.fleets import ALIVE, QUICK, FleetWorld, until
from tests.support.quickreplica import replica

ONE, TWO = (build_image(["linux/amd64"], layer_size=2000, seed=seed) for seed in ("one", "two"))


@dataclass
class Machine:
    """A replica, and where its operator types commands."""

    served: Served
    desk: Desk

    @property
    def name(self) -> str:
        return (self.desk.folder / "state" / "replica").read_text().strip()

    async def running(self) -> dict[str, Any]:
        """Return how far the run of the mirror is, as it says; nothing where none runs."""
        async with aiohttp.ClientSession() as client, client.get(f"http://{self.served.address}/status") as answer:
            return json.loads(await answer.text())["mirrors"][0]["running"] or {}


@dataclass
class Pair:
    """Two replicas with a mirror of two images; nobody gets the second one."""

    one: Machine
    two: Machine
    source: Registry

    async def half_done(self) -> None:
        """Wait until the first replica has one image, and the second one says so."""

        async def seen() -> bool:
            found = await self.two.running()
            return (found.get("replica"), found.get("done"), found.get("steps")) == (self.one.name, 1, 2)

        await until(seen)


@pytest.fixture
async def pair(request: pytest.FixtureRequest, fleet_world: FleetWorld, tmp_path: Path) -> AsyncIterator[Pair]:
    async with Registry() as source, Registry() as target, AsyncExitStack() as stack:
        for image, tag in ((ONE, "v1"), (TWO, "v2")):
            await push(image, source, "a", [tag])
        for digest in TWO.blobs:
            source.faults.on("GET", f"/blobs/{digest}", times=None).hold()
        mirror = f"{{name: app, kind: image, from: {{repository: {source.host}/a, tags: [v1, v2]}}, to: [hub]}}"
        configuration = f"targets: {{hub: {{kind: image, to: {target.host}/m}}}}\nmirrors: [{mirror}]\n"
        found = []
        for name in ("one", "two"):
            one = replica(tmp_path / name, fleet_world.postgres, configuration, pace=getattr(request, "param", QUICK))
            served = await stack.enter_async_context(one)
            found.append(Machine(served, Desk(tmp_path / name)))
        yield Pair(found[0], found[1], source)


@pytest.mark.parametrize("pair", [ALIVE], indirect=True, ids=[""])
async def test_cancel(pair: Pair) -> None:
    """The replica that runs it ends it, for whoever waits there, too; the one that was asked says how it ended."""
    syncing = asyncio.create_task(pair.one.desk.run("sync", "app", "--json"))
    await pair.half_done()
    folder = pair.one.desk.folder
    (folder / "alone").mkdir()
    alone = await Desk(folder / "alone").run("status", "--config", folder / "conf.d", "--json")
    assert alone.document["mirrors"][0]["running"]["replica"] == pair.one.name
    said = await pair.two.desk.run("cancel", "app", "--json")
    [run] = said.document["runs"]
    assert (said.status, run["result"], run["trigger"], run["replica"]) == (0, "interrupted", "command", pair.one.name)
    synced = await syncing
    assert (synced.status, synced.document["runs"][0]["counts"]) == (130, {"done": 1})
    again = await pair.two.desk.run("cancel", "app")
    assert (again.status, again.out) == (0, "app: nothing runs\n")


async def test_sync_while_another_replica_runs_it(pair: Pair) -> None:
    """It says who has the mirror and how far that is, and then runs by itself, also when that replica is killed."""
    first = asyncio.create_task(pair.one.desk.run("sync", "app"))
    await pair.half_done()
    async with pair.two.desk.started("sync", "app") as second:
        assert second.stderr
        line = (await second.stderr.readline()).decode()
        assert line.startswith(f"app: waits for {pair.one.name}, which has it: 1/2 steps")
        pair.one.served.process.kill()
        assert (await first).status == 69
        pair.source.faults.clear()
        out, _ = await second.communicate()
    assert (second.returncode, out.decode().partition(" in ")[0]) == (0, "app: success")


async def test_a_deferred_run_goes_on(fleet_world: FleetWorld, tmp_path: Path) -> None:
    """A run that a registry sent away goes on at its time at another replica, when the one that ran it was killed."""
    server = fleet_world.postgres
    async with Registry() as source, AsyncExitStack() as stack:
        await push(ONE, source, "a", ["v1"])
        source.faults.on("*", "/v2/a/", times=None).status(429, headers={"Retry-After": "7200"})
        mirror = f"{{name: app, kind: image, from: {{repository: {source.host}/a, tags: [v1]}}, to: local, every: 1d}}"
        found = []
        for name in ("one", "two"):
            served = await stack.enter_async_context(replica(tmp_path / name, server, f"mirrors: [{mirror}]\n"))
            found.append(Machine(served, Desk(tmp_path / name)))
        until_then = "SELECT until FROM standing WHERE mirror = 'app' AND target = '' AND until IS NOT NULL"
        await until(lambda: server.sql(until_then, database="mirrord"))
        ran = server.sql("SELECT replica FROM leases WHERE mirror = 'app'", database="mirrord")[0][0]
        killed, lives = found if found[0].name == ran else found[::-1]
        killed.served.process.kill()
        source.faults.clear()
        # Two hours later:
        server.sql("UPDATE queued_runs SET at = at - interval '2 hours'", database="mirrord")
        soon = int((datetime.now(UTC) + timedelta(seconds=1)).timestamp() * 1_000_000)
        server.sql(f"UPDATE standing SET until = {soon} WHERE mirror = 'app' AND target = ''", database="mirrord")
        await lives.served.logged("run.finished")
    assert server.sql("SELECT result FROM runs ORDER BY id", database="mirrord") == [("deferred",), ("success",)]
