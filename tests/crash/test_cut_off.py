"""A daemon and a command that are killed in a run, on one machine: the history shows that run."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import aiohttp
import pytest

from mirrord.failpoints import CRASH_STATUS
from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk

IMAGE = build_image(["linux/amd64"], layer_size=2000, seed="cut off")


async def runs(desk: Desk) -> list[dict[str, Any]]:
    return list((await desk.run("runs", "app", "--json")).document["runs"])


async def get(address: str, path: str) -> str:
    async with aiohttp.ClientSession() as client, client.get(f"http://{address}{path}") as answer:
        return await answer.text()


async def test_a_daemon_that_was_killed(desk: Desk) -> None:
    """The next start shows the run as interrupted, on the command line, the page, and in metrics; it is no failure."""
    async with Registry() as source:
        await push(IMAGE, source, "a", ["v1"])
        mirror = f"{{name: app, kind: image, from: {{repository: {source.host}/a, tags: [v1]}}, to: local}}"
        desk.configure(f"settings: {{listen: '127.0.0.1:0'}}\nmirrors: [{mirror}]\n")
        held = source.faults.on("GET", "/blobs/", times=None).hold()
        async with desk.serving() as daemon, desk.started("sync", "app"):
            async with asyncio.timeout(60):
                await held.reached.wait()
            running = (await desk.run("status", "--json")).document["mirrors"][0]["running"]
            daemon.process.kill()
            await daemon.process.wait()
        source.faults.clear()
        async with desk.serving() as daemon:
            [run] = await runs(desk)
            assert (run["trigger"], run["result"], run["code"]) == ("command", "interrupted", "interrupted")
            began, ended = datetime.fromisoformat(run["started"]), datetime.fromisoformat(run["finished"])
            assert began.replace(microsecond=0) <= datetime.fromisoformat(running["started"])
            assert began <= ended
            said = await daemon.logged("run.cut_off")
            assert (said["mirror"], said["trigger"]) == ("app", "command")
            [standing] = (await desk.run("status", "--json")).document["mirrors"]
            assert (standing["result"], standing["consecutive_failures"]) == ("interrupted", 0)
            assert datetime.fromisoformat(standing["last_attempt"]) == ended.replace(microsecond=0)
            assert "interrupted" in (await desk.run("runs", "app")).out
            assert "已中断" in await get(daemon.address, "/mirrors/app?lang=zh")
            series = await get(daemon.address, "/metrics")
            assert 'mirrord_sync_runs_total{kind="image",mirror="app",result="interrupted"} 1.0' in series
            assert (await desk.run("sync", "app")).status == 0
            assert [run["result"] for run in await runs(desk)] == ["success", "interrupted"]
        assert [run["result"] for run in await runs(desk)] == ["success", "interrupted"]


@pytest.mark.parametrize("place", ["push.tag", "record.receipts", "record.days"])
async def test_a_command_that_was_killed(desk: Desk, place: str) -> None:
    """Also one that only looks says so afterwards, once, also where the run was being recorded."""
    async with Registry() as source, Registry() as target:
        await push(IMAGE, source, "a", ["v1"])
        mirror = f"{{name: app, kind: image, from: {{repository: {source.host}/a, tags: [v1]}}, to: [hub]}}"
        desk.configure(f"targets: {{hub: {{kind: image, to: {target.host}/m}}}}\nmirrors: [{mirror}]\n")
        crashed = await desk.run("sync", MIRRORD_FAILPOINTS=f"{place}=exit:0")
        assert crashed.status == CRASH_STATUS, crashed
        for _ in range(2):
            assert [run["result"] for run in await runs(desk)] == ["interrupted"]
        assert list((desk.folder / "state" / "running").iterdir()) == []
