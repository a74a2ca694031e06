"""Replicas that are killed in a run: the history shows that run, with the replica, when somebody takes over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirrord.record.cut_off import CutOff
from mirrord.record.fleet import Fleet
from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk
from tests.support.fleets import ALIVE, FleetWorld
from tests.support.quickreplica import replica

IMAGE = build_image(["linux/amd64"], layer_size=2000, seed="cut off")


async def test_a_replica_that_was_killed(fleet_world: FleetWorld, tmp_path: Path) -> None:
    """Whoever takes its mirror over writes the run down as interrupted, with its replica; it is no failure."""
    async with Registry() as source, AsyncExitStack() as stack:
        await push(IMAGE, source, "a", ["v1"])
        mirror = f"{{name: app, kind: image, from: {{repository: {source.host}/a, tags: [v1]}}, to: local}}"
        found = []
        for name in ("one", "two"):
            served = await stack.enter_async_context(
                replica(tmp_path / name, fleet_world.postgres, f"mirrors: [{mirror}]")
            )
            found.append((served, Desk(tmp_path / name), (tmp_path / name / "state/replica").read_text().strip()))
        (one, first, dead), (two, second, alive) = found

        async def listed(desk: Desk) -> Sequence[tuple[str, str, str]]:
            runs = (await desk.run("runs", "app", "--json")).document["runs"]
            return [(run["trigger"], run["result"], run["replica"]) for run in runs]

        held = source.faults.on("GET", "/blobs/", times=None).hold()
        async with first.started("sync", "app"), asyncio.timeout(60):
            await held.reached.wait()
            one.process.kill()
            await one.process.wait()
        source.faults.clear()
        assert (await second.run("sync", "app")).status == 0
        assert await listed(second) == [("command", "success", alive), ("command", "interrupted", dead)]
        said = await two.logged("run.cut_off")
        assert (said["mirror"], said["replica"]) == ("app", dead)
        [standing] = (await second.run("status", "--json")).document["mirrors"]
        assert (standing["result"], standing["consecutive_failures"]) == ("success", 0)


async def test_whoever_takes_a_lease_hears_of_the_run(fleet_world: FleetWorld) -> None:
    """Once, with when it began and the last sign of life; not of one that ended, and not of what is no run."""
    heard, began = list[CutOff](), datetime(2026, 11, 21, tzinfo=UTC)

    async def hear(found: CutOff) -> None:
        heard.append(found)

    async with fleet_world.replica("b") as other, AsyncExitStack() as stack:
        other.cut_off = hear
        async with fleet_world.replica("a", beating=False) as killed:
            killed.now = lambda: began
            async with killed.hold("ended", trigger="schedule"):
                pass
            await stack.enter_async_context(killed.hold("m", trigger="schedule"))
            await stack.enter_async_context(killed.hold("n"))
            async with fleet_world.replica("a") as fresh:
                [left] = fresh.left
                assert (left.mirror, left.trigger, left.began, left.replica) == ("m", "schedule", began, "a")
                for mirror in ("m", "n", "ended", "m"):
                    async with other.hold(mirror):
                        pass
                assert heard == [left]
            async with fleet_world.replica("a") as fresh:
                assert fresh.left == []
            stack.pop_all()


async def test_whoever_takes_a_lease_is_cancelled(fleet_world: FleetWorld) -> None:
    """The run is recorded all the same, and the mirror is free at once: nobody hears of a run that never began."""
    reached, go, heard = asyncio.Event(), asyncio.Event(), list[CutOff]()

    async def hear(found: CutOff) -> None:
        reached.set()
        await go.wait()
        heard.append(found)

    async def run(other: Fleet) -> None:
        async with other.hold("m", trigger="command"):
            pytest.fail("it was cancelled")

    patient = replace(ALIVE, beat=20.0)  # so long a release may take
    async with fleet_world.replica("b", pace=patient) as other, AsyncExitStack() as stack:
        other.cut_off = hear
        async with fleet_world.replica("a", beating=False) as killed:
            await stack.enter_async_context(killed.hold("m", trigger="schedule"))
            async with fleet_world.replica("a"):
                task = asyncio.create_task(run(other))
                await reached.wait()
                task.cancel()
                go.set()
                await asyncio.wait([task])
            stack.pop_all()
        assert task.cancelled()
        assert [(found.trigger, found.replica) for found in heard] == [("schedule", "a")]
        rows = fleet_world.postgres.sql("SELECT boot, trigger FROM leases WHERE mirror = 'm'", database="mirrord")
        assert rows == [("", "")]
