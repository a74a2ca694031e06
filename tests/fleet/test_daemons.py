"""Daemons that share a record: what is due runs at one of them, and each tells of both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mirrord.daemon.replica import QueuedRuns
from mirrord.daemon.runtime import now
from mirrord.events import RunSkipped
from mirrord.record.fleet import Fleet
from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk, Served
from tests.support.fleets import ALIVE, FleetWorld, hurry, until
from tests.support.quickreplica import replica, shared_record

IMAGE = build_image(["linux/amd64"], layer_size=1000, seed="fleet")


async def get(address: str, path: str) -> str:
    async with aiohttp.ClientSession() as client, client.get(f"http://{address}{path}") as answer:
        return await answer.text()


async def status(address: str) -> dict[str, Any]:
    return dict(json.loads(await get(address, "/status")))


async def told_by_all(daemons: Sequence[Served]) -> bool:
    """Whether both tell of both by metrics and page, with the same configuration, and say that one leads."""
    for daemon in daemons:
        found = await status(daemon.address)
        names = [replica["name"] for replica in found["replicas"]]
        assert found["replica"] in names
        assert len({replica["configuration"] for replica in found["replicas"]} - {""}) == 1
        series, page = await get(daemon.address, "/metrics"), await get(daemon.address, "/")
        assert all(f'mirrord_replica_up{{replica="{name}"}} 1.0' in series for name in names)
        assert all(f"</svg>{name}</h3>" in page for name in names)
        assert "mirrord_replica_configurations 1.0" in series
        leading = [name for name in names if f'mirrord_replica_leading{{replica="{name}"}} 1.0' in series]
        if leading != [replica["name"] for replica in found["replicas"] if replica["leads"]] or len(leading) != 1:
            return False
    return True


async def test_two_daemons(fleet_world: FleetWorld, tmp_path: Path) -> None:
    """A mirror that is due runs once, by its schedule, and none skips it; both say how it stands, and who leads."""
    server = fleet_world.postgres
    record = shared_record(tmp_path, server)
    async with Registry() as source:
        await push(IMAGE, source, "up/app", ["main"])
        mirror = f"{{name: app, kind: image, from: {{repository: '{source.host}/up/app:main'}}, to: local, every: 1h}}"
        async with AsyncExitStack() as stack:
            daemons = []
            for name in ("one", "two"):
                (tmp_path / name).mkdir()
                desk = Desk(tmp_path / name)
                desk.configure(f"settings: {{listen: '127.0.0.1:0', record: {record}}}\nmirrors: [{mirror}]\n")
                daemons.append(await stack.enter_async_context(desk.serving()))

            async def seen_by_all() -> bool:
                found = [await status(daemon.address) for daemon in daemons]
                results = [one["mirrors"][0]["result"] for one in found]
                there = [[replica["alive"] for replica in one["replicas"]] for one in found]
                return results == ["success"] * 2 and there == [[True, True]] * 2

            await until(seen_by_all)
            await until(lambda: told_by_all(daemons))
            names = {(await status(daemon.address))["replica"] for daemon in daemons}
            for daemon in daemons:
                listed = json.loads(await get(daemon.address, "/api/v1/mirrors/app/runs"))["runs"]
                assert [run["replica"] in names for run in listed] == [True]
                assert f"<td>{listed[0]['replica']}</td>" in await get(daemon.address, "/mirrors/app")
                assert "runs_skipped_total{" not in await get(daemon.address, "/metrics")
            leading = "SELECT count(*) FROM leases WHERE mirror = '~lead' AND boot <> ''"
            assert server.sql(leading, database="mirrord") == [(1,)]
        assert source.count("GET", "/blobs/") == len(IMAGE.blobs)
    ran = "SELECT mirror, trigger, result FROM runs"
    assert server.sql(ran, database="mirrord") == [("app", "schedule", "success")]


async def test_what_is_taken_down_at_one_is_denied_at_both(fleet_world: FleetWorld, tmp_path: Path) -> None:
    """They read one file: nobody has to reload the other one."""
    denied = tmp_path / "denied.yaml"
    denied.touch()
    mirrors = "mirrors: [{name: app, kind: image, from: {repository: up.test/app}, to: local}]"
    async with AsyncExitStack() as stack:
        daemons = [
            await stack.enter_async_context(
                replica(tmp_path / name, fleet_world.postgres, mirrors, f"denied: {denied}", pace=ALIVE)
            )
            for name in ("one", "two")
        ]

        async def denied_at_both() -> bool:
            found = [(await status(daemon.address))["mirrors"][0]["health"] for daemon in daemons]
            return found == ["denied"] * 2

        assert not await denied_at_both()
        taken = await Desk(tmp_path / "one").run("takedown", "app", "--reason", "ticket 4711")
        assert "ticket 4711" in taken.out, taken
        await until(denied_at_both)


async def test_a_replica_that_stops_hands_the_lead_on(
    fleet_world: FleetWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one leads at once, while runs of the one that stops may take minutes to end."""
    monkeypatch.setattr("mirrord.daemon.replica.Fleet", partial(Fleet, pace=ALIVE))
    record = shared_record(tmp_path, fleet_world.postgres)
    changes = list[tuple[str, bool]]()
    async with AsyncExitStack() as stack:
        found = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            desk = Desk(tmp_path / name)
            desk.configure(f"settings: {{record: {record}}}\nmirrors: []\n")
            runtime = await stack.enter_async_context(desk.opened())
            assert runtime.fleet
            fleet, queued = runtime.fleet, QueuedRuns(runtime, runtime.fleet, now)

            async def lead(fleet: Fleet = fleet) -> None:
                changes.append((fleet.me.name, fleet.leads))

            await stack.enter_async_context(queued.working(lead, follow))
            found.append((fleet, queued))
            await until(lambda: changes)
        (one, ending), (two, _) = found
        assert (one.leads, two.leads) == (True, False)
        await ending.resign()
        assert [leads for name, leads in changes if name == one.me.name] == [True, False]
        await until(lambda: two.leads)
        assert not one.leads


async def test_what_runs_again_after_its_lease_was_lost(fleet_world: FleetWorld, tmp_path: Path) -> None:
    """A mirror goes to the queue, and one that each replica runs runs here, when the run that lost it has ended.

    The lead is no mirror, and what people ask for is copied by whoever leads.
    """
    server = fleet_world.postgres
    desk = Desk(tmp_path)
    desk.configure(
        f"settings: {{record: {shared_record(tmp_path, server)}}}\n"
        "asking: {to: [local], allow: ['docker.io/**']}\n"
        "mirrors:\n- {name: code, kind: git, from: 'https://git.invalid/code', to: local}\n"
        "- {name: app, kind: image, from: {repository: registry.invalid/app, tags: [v1]}, to: local}\n"
    )
    async with desk.opened() as runtime:
        assert runtime.fleet
        queued = QueuedRuns(runtime, runtime.fleet, now)
        await queued._queue.open()  # and nothing takes runs of it
        names = ("~lead", "asked", "gone", "code", "app")
        async with runtime.runner.leases.hold("code"):
            told = [await runtime.fleet.lost(name) for name in names]
        assert told == [True, True, True, False, True]
        assert [await runtime.fleet.lost(name) for name in names] == [True] * 5  # one run that waits is enough
        server.sql("UPDATE queued_runs SET state = 'running'", database="mirrord")
        assert not await runtime.fleet.lost("app"), "it may have looked before the late write"
        await until(lambda: server.sql("SELECT 1 FROM runs", database="mirrord"))
        await queued._queue.close()
    assert server.sql("SELECT mirror, trigger FROM runs", database="mirrord") == [("code", "schedule")]
    assert server.sql("SELECT mirror FROM queued_runs", database="mirrord") == [("app",)]


async def test_a_run_that_cannot_begin_is_owed(fleet_world: FleetWorld, tmp_path: Path) -> None:
    """While the database is away no run begins, and none counts as carried out."""
    server, desk = fleet_world.postgres, Desk(tmp_path)
    desk.configure(
        f"settings: {{record: {shared_record(tmp_path, server)}}}\n"
        "mirrors: [{name: app, kind: image, from: {repository: registry.invalid/app, tags: [v1]}, to: local}]\n"
    )
    async with desk.opened() as runtime:
        assert runtime.fleet
        queued = QueuedRuns(runtime, runtime.fleet, now)
        hurry(runtime.fleet, 0.2)
        server.stop()
        try:
            assert not await queued._carry_out("app", "schedule")
        finally:
            server.start()
    assert server.sql("SELECT count(*) FROM runs", database="mirrord") == [(0,)]


async def test_what_is_due_while_the_database_is_away(
    fleet_world: FleetWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for no other tick, which may come a day later, and is said once; what another replica ran is over."""
    monkeypatch.setattr("mirrord.daemon.replica._SOON", 0.1)
    server, desk, told = fleet_world.postgres, Desk(tmp_path), list[RunSkipped]()
    names = {"app", "hourly"}
    desk.configure(
        f"settings: {{record: {shared_record(tmp_path, server)}}}\n"
        "mirrors:\n- {name: app, kind: image, from: {repository: registry.invalid/app, tags: [v1]}, to: local}\n"
        "- {name: hourly, kind: image, from: {repository: registry.invalid/b, tags: [v1]}, to: local, every: 1h}\n"
    )
    async with desk.opened() as runtime:
        assert runtime.fleet
        runtime.events.listen(lambda event: told.append(event) if isinstance(event, RunSkipped) else None)
        queued = QueuedRuns(runtime, runtime.fleet, now)
        await queued._queue.open()
        queued.clock.start([])
        a_minute_ago = "VALUES ('hourly', 'schedule', 'ended', '', now() - interval '1 min')"
        server.sql(f"INSERT INTO queued_runs (mirror, trigger, state, prefers, at) {a_minute_ago}", database="mirrord")
        asked, answered, defer = list[str](), set[str](), queued._queue.defer

        async def counted(name: str, trigger: str = "schedule", *, quiet: float = 0.0, sticky: bool = False) -> bool:
            asked.append(name)
            made = await defer(name, trigger, quiet=quiet, sticky=sticky)
            answered.add(name)
            return made

        monkeypatch.setattr(queued._queue, "defer", counted)
        hurry(runtime.fleet, 0.2)
        server.stop()
        try:
            await asyncio.gather(*map(queued.tick, names))
            await until(lambda: all(asked.count(name) > 2 for name in names))
        finally:
            server.start()
        await until(lambda: answered == names)
        queued.clock.stop()
        await queued._queue.close()
    assert {event.mirror for event in told} == names
    assert len(told) == 2
    rows = "SELECT mirror, state FROM queued_runs ORDER BY mirror"
    assert server.sql(rows, database="mirrord") == [("app", "queued"), ("hourly", "ended")]


async def follow(*_: object) -> tuple[()]:
    return ()
