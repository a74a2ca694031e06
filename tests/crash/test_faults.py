"""What a crash or a broken disk leaves at targets and in the record (research/reliability.md §3.1, F2 and F36)."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from mirrord.testing import Image, Registry, build_image, push
from tests.support.commands import Desk
from tests.support.walking import leftovers

PAGE = 4096


@pytest.fixture
async def source() -> AsyncIterator[Registry]:
    async with Registry() as registry:
        yield registry


@pytest.fixture
async def target() -> AsyncIterator[Registry]:
    async with Registry() as registry:
        yield registry


async def set_up(desk: Desk, source: Registry, target: Registry, *tags: str) -> Image:
    image = build_image(["linux/amd64"], layers=1, layer_size=300_000)
    await push(image, source, "up/app", tags)
    desk.configure(
        "settings: {listen: '127.0.0.1:0'}\n"
        f"targets: {{one: {{kind: image, to: {target.host}/m}}}}\n"
        f"mirrors: [{{name: app, kind: image, from: {{repository: {source.host}/up/app, tags: ['*']}}, "
        "to: [one, local], every: 6h}]\n"
    )
    return image


async def test_f2_killed_in_the_middle_of_an_upload(desk: Desk, source: Registry, target: Registry) -> None:
    """F2: kill -9 while a target has half a layer: nothing is named, and the next run sends it in a session of its own.

    What the registry got of the first session stays there until it clears uploads away: the one who knew of it is dead.
    """
    image = await set_up(desk, source, target, "v1")
    gate = target.faults.on("PUT", "/blobs/uploads/", times=None).hold()
    async with desk.started("sync") as process:
        await gate.reached.wait()
        process.kill()
        assert await process.wait() == -signal.SIGKILL
    assert target.tags == {}
    target.faults.clear()
    gate.release()
    begun = target.count("POST", "/blobs/uploads/")
    again = await desk.run("sync")
    assert again.status == 0, again
    assert target.tags == {"m/app": {"v1": image.digest}}
    assert target.count("POST", "/blobs/uploads/") > begun
    assert leftovers(desk.folder / "state") == []


@pytest.mark.parametrize("damage", ["flipped", "truncated"])
async def test_f36_a_damaged_record_is_rebuilt_from_the_targets(
    desk: Desk, source: Registry, target: Registry, damage: str
) -> None:
    """F36: pages of the database are damaged: moved aside and told; the daemon serves, and writes nothing anew."""
    image = await set_up(desk, source, target, *(f"v{number}" for number in range(40)))
    assert (await desk.run("sync")).status == 0
    _damage(desk.folder / "state" / "mirrord.db", damage)
    written = sum(entry.method not in ("GET", "HEAD") for entry in target.log)
    async with desk.serving() as served:
        assert ".corrupt-" in (await served.logged("daemon.notice"))["message"]
        assert (await served.logged("run.finished"))["result"] in ("noop", "success")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{served.address}/readyz") as answer:
                assert answer.status == 200
            async with session.get(f"http://{served.address}/v2/app/manifests/v7") as answer:
                assert answer.headers["Docker-Content-Digest"] == image.digest
            async with asyncio.timeout(20):  # the run is logged a moment before it is shown
                while await _items(session, served.address) != 40:
                    pass
        served.process.send_signal(signal.SIGTERM)
        assert await served.process.wait() == 0
    assert sum(entry.method not in ("GET", "HEAD") for entry in target.log) == written
    assert list((desk.folder / "state").glob("mirrord.db.corrupt-*"))
    after = await desk.run("status", "--json")
    assert after.status == 0, after


async def _items(session: aiohttp.ClientSession, address: str) -> int:
    """Return how many items the status says the mirror has."""
    async with session.get(f"http://{address}/status") as answer:
        document = json.loads(await answer.read())
    return int(next(one for one in document["mirrors"] if one["name"] == "app")["items"])


def _damage(file: Path, how: str) -> None:
    with closing(sqlite3.connect(file)) as link:
        link.execute("pragma wal_checkpoint(truncate)")
    body = bytearray(file.read_bytes())
    if how == "flipped":
        body[PAGE * 3 : PAGE * 6] = b"\xff" * (PAGE * 3)
    else:
        del body[PAGE * 4 :]
    file.write_bytes(body)
