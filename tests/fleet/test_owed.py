"""Runs that a replica cannot carry out now stay owed: the database goes away, or it does not know the mirror yet."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mirrord.daemon.replica import QueuedRuns
from mirrord.daemon.runtime import now
from mirrord.events import RunFinished
from mirrord.model.run import Result, Run
from mirrord.record import postgresql
from mirrord.record.fleet import Fleet
from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk
from tests.support.fleets import ALIVE, FleetWorld, until
from tests.support.quickreplica import shared_record

IMAGE = build_image(["linux/amd64"], layer_size=2000, seed="owed")


async def test_a_run_that_failed_since_the_database_was_away(
    fleet_world: FleetWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs again without another tick; what fails for another reason does not."""
    monkeypatch.setattr("mirrord.daemon.replica.Fleet", partial(Fleet, pace=ALIVE))
    monkeypatch.setattr(postgresql, "_PAUSE", 0.1)
    server, desk, ended = fleet_world.postgres, Desk(tmp_path), list[Run]()
    async with Registry() as source, Registry() as target:
        await push(IMAGE, source, "a", ["v1"])
        desk.configure(
            f"settings: {{record: {shared_record(tmp_path, server)}}}\n"
            f"targets: {{hub: {{kind: image, to: {target.host}/m}}}}\n"
            f"mirrors:\n- {{name: app, kind: image, from: {{repository: {source.host}/a, tags: [v1]}}, to: [hub]}}\n"
            f"- {{name: gone, kind: image, from: {{repository: {source.host}/gone, tags: [v1]}}, to: [hub]}}\n"
        )
        async with desk.opened() as runtime:
            fleet = runtime.fleet
            assert fleet
            runtime.events.listen(lambda event: ended.append(event.run) if isinstance(event, RunFinished) else None)
            held = source.faults.on("GET", "/blobs/").hold()
            queued = QueuedRuns(runtime, fleet, now)
            async with queued.working(lead, follow):
                await queued._queue.defer("app")
                async with asyncio.timeout(60):
                    await held.reached.wait()
                fleet.database = replace(fleet.database, patience=0.5)
                monkeypatch.setattr(postgresql, "PATIENCE", 0.5)
                server.stop()
                try:
                    await until(lambda: fleet.missed)
                    held.release()
                    await until(lambda: ended)
                finally:
                    fleet.database = replace(fleet.database, patience=30.0)
                    monkeypatch.setattr(postgresql, "PATIENCE", 30.0)
                    server.start()
                assert ended[0].codes == {"storage"}
                await until(lambda: ended[-1].result is Result.SUCCESS)
                assert {run.result for run in ended[:-1]} == {Result.FAILED}
                before = len(ended)
                await queued._queue.defer("gone")
                open_ones = "SELECT count(*) FROM queued_runs WHERE state <> 'ended'"
                await until(lambda: len(ended) > before and server.sql(open_ones, database="mirrord") == [(0,)])
                assert len(ended) == before + 1


async def test_a_run_of_a_mirror_that_only_some_replicas_have_yet(
    fleet_world: FleetWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was not reloaded yet gives it back; it ends when nobody has the mirror any more."""
    monkeypatch.setattr("mirrord.daemon.replica.Fleet", partial(Fleet, pace=ALIVE))
    server, ended = fleet_world.postgres, list[Run]()
    given_back = (
        "SELECT count(*) FROM queued_runs WHERE mirror = 'fresh' AND state = 'queued' AND job IS NULL AND boot = '{}'"
    )
    states = "SELECT DISTINCT state FROM queued_runs WHERE mirror = 'fresh'"
    async with Registry() as source, Registry() as target, AsyncExitStack() as kept, AsyncExitStack() as reloaded:
        await push(IMAGE, source, "a", ["v1"])
        replicas = list[QueuedRuns]()
        for folder, names, stack in (("old", ["app"], kept), ("new", ["app", "fresh"], reloaded)):
            (tmp_path / folder).mkdir()
            desk = Desk(tmp_path / folder)
            mirrors = "".join(
                f"- {{name: {name}, kind: image, from: {{repository: {source.host}/a, tags: [v1]}}, to: [hub]}}\n"
                for name in names
            )
            desk.configure(
                f"settings: {{record: {shared_record(tmp_path / folder, server)}}}\n"
                f"targets: {{hub: {{kind: image, to: {target.host}/m}}}}\nmirrors:\n{mirrors}"
            )
            runtime = await stack.enter_async_context(desk.opened())
            runtime.events.listen(lambda event: ended.append(event.run) if isinstance(event, RunFinished) else None)
            assert runtime.fleet
            replicas.append(QueuedRuns(runtime, runtime.fleet, now))
        old, new = replicas
        by_old = given_back.format(old._fleet.me.boot)
        async with old.working(lead, follow):
            await old._queue.defer("fresh")
            await until(lambda: server.sql(by_old, database="mirrord") == [(1,)])
            async with new.working(lead, follow):
                await until(lambda: server.sql(states, database="mirrord") == [("ended",)])
            assert [(run.mirror, run.result) for run in ended] == [("fresh", Result.SUCCESS)]
            await old._queue.defer("fresh")
            server.sql("UPDATE queued_runs SET at = at - interval '1 hour'", database="mirrord")
            await until(lambda: server.sql(by_old, database="mirrord") == [(1,)])
            await reloaded.aclose()
            await until(lambda: server.sql(states, database="mirrord") == [("ended",)])
        assert len(ended) == 1


async def lead() -> None:
    pass


async def follow(*_: object) -> tuple[()]:
    return ()
