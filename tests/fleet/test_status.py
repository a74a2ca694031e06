"""`mirrord status` where no daemon runs: it reads the record of all replicas, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.commands import Desk
from tests.support.fleets import FleetWorld
from tests.support.quickreplica import shared_record

KEYS = {"S3_ACCESS": "a", "S3_SECRET": "s"}


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
async def test_replicas_are_listed_and_nothing_else_is_asked(
    fleet_world: FleetWorld, tmp_path: Path, used: bool
) -> None:
    """It lists the replicas and what they run, joins them not even for a moment, and asks the bucket nothing."""
    asked = list[Sequence[str]]()

    async def bucket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode().split())
        writer.close()

    server = await asyncio.start_server(bucket, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    desk = Desk(tmp_path, **KEYS)
    desk.configure(
        f"settings:\n  record: {shared_record(tmp_path, fleet_world.postgres)}\n"
        f"  blobs: {{url: 's3://bucket/prefix', endpoint: 'http://127.0.0.1:{port}', insecure: true, region: here,"
        " access_key: {env: S3_ACCESS}, secret_key: {env: S3_SECRET}}\n"
        "mirrors:\n- {name: app, kind: image, from: {repository: registry.invalid/app, tags: [v1]}, to: local}\n"
    )
    if used:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "mirrord.db").touch()
    running = {"app": {"trigger": "schedule", "started": "2026-11-28T12:00:00Z", "steps": 9, "done": 4}}
    signs = "SELECT replica FROM replicas"
    async with server, fleet_world.replica("one", running=running) as one:
        await one.sign()
        found = await desk.run("status", "--json")
        listed = await desk.run("status")
        left = fleet_world.postgres.sql(signs, database="mirrord")
    assert (found.status, asked, left) == (0, [], [("one",)])
    assert [(one["name"], one["alive"], one["running"]) for one in found.document["replicas"]] == [
        ("one", True, ["app"])
    ]
    assert (found.document["state"], found.document["replica"]) == ("offline", "")
    assert found.document["mirrors"][0]["running"]["replica"] == "one"
    assert "living replicas run the mirrors" in listed.out
    assert "replica one: " in listed.out
    assert "running at one, 4 of 9 done" in listed.out
    assert not (tmp_path / "state" / "replica").exists()
    assert not (tmp_path / "state" / "blobs").exists()


async def test_the_replica_of_this_directory_is_dead(fleet_world: FleetWorld, tmp_path: Path) -> None:
    """Whoever holds the directory knows that its replica has ended, before others do; what it ran runs no more."""
    desk = Desk(tmp_path)
    desk.configure(f"settings: {{record: {shared_record(tmp_path, fleet_world.postgres)}}}\nmirrors: []\n")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "replica").write_text("one\n")
    (tmp_path / "state" / "mirrord.db").touch()
    async with fleet_world.replica("one", running={"app": {}}) as one:
        await one.sign()
        found = (await desk.run("status", "--json")).document
    assert [(one["name"], one["alive"], one["running"]) for one in found["replicas"]] == [("one", False, [])]
