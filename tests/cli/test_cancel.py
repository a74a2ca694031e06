"""`mirrord cancel`: end a run under way in good order."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk

ONE, TWO = (build_image(["linux/amd64"], layer_size=2000, seed=seed) for seed in ("one", "two"))


@pytest.fixture
async def source() -> AsyncIterator[Registry]:
    """Return a registry with two images, where nobody gets the second one."""
    async with Registry() as source:
        await push(ONE, source, "a", ["v1"])
        await push(TWO, source, "a", ["v2"])
        yield source


def configured(desk: Desk, source: Registry, every: str = ", every: 7d") -> None:
    """Configure a mirror of both; of the second one nothing comes until the faults of `source` are cleared."""
    mirror = f"{{name: app, kind: image, from: {{repository: {source.host}/a, tags: [v1, v2]}}, to: local{every}}}"
    desk.configure(f"settings: {{listen: '127.0.0.1:0'}}\nmirrors: [{mirror}]\n")
    for digest in TWO.blobs:
        source.faults.on("GET", f"/blobs/{digest}", times=None).hold()


async def mirror(desk: Desk) -> dict[str, Any]:
    return dict((await desk.run("status", "--json")).document["mirrors"][0])


async def half_done(desk: Desk) -> None:
    """Wait until a run has the first image, and waits for the second one; who runs it may not answer yet."""
    async with asyncio.timeout(60):
        while True:
            [one] = (await desk.run("status", "--json")).document.get("mirrors", [{}])
            if (one.get("running") or {}).get("done") == 1:
                return


async def test_cancel(desk: Desk, source: Registry) -> None:
    """What was done is kept, the history says `interrupted`, the schedule stays, and the next run does the rest."""
    configured(desk, source)
    async with desk.serving() as daemon:
        await half_done(desk)
        before = await mirror(desk)
        unknown = await desk.run("cancel", "app", "apq")
        assert (unknown.status, unknown.err) == (64, "mirrord: no mirror is called 'apq'; did you mean app?\n")
        said = await desk.run("cancel", "app")
        assert (said.status, said.err) == (0, "")
        assert re.fullmatch(r"app: interrupted after [0-9.]+ s; what was done is kept, and .*\n", said.out)
        after = await mirror(desk)
        assert (after["running"], after["result"], after["items"]) == (None, "interrupted", 1)
        assert (after["next_run"], after["consecutive_failures"]) == (before["next_run"], 0)
        [run] = (await desk.run("runs", "app", "--json")).document["runs"]
        assert (run["trigger"], run["result"], run["code"]) == ("schedule", "interrupted", "interrupted")
        assert "mirrord cancel" in run["error"]
        assert [(one["done"], one["cancelled"], one["failed"]) for one in run["targets"]] == [(1, 1, 0)]
        assert (await desk.run("cancel", "app")).out == "app: nothing runs\n"
        nothing = (await desk.run("cancel", "app", "--json")).document
        empty = {"trigger": "", "result": None, "started": None, "finished": None, "replica": ""}
        assert nothing == {"runs": [{"mirror": "app", **empty}]}
        source.faults.clear()
        assert (await desk.run("sync", "app")).status == 0
        assert [source.count("GET", f"/blobs/{digest}") for digest in ONE.blobs] == [1] * len(ONE.blobs)
        assert [line["result"] for line in daemon.lines if line["event"] == "run.finished"] == [
            "interrupted",
            "success",
        ]
    alone = await desk.run("cancel", "app")
    assert (alone.status, alone.out) == (64, "")
    assert alone.err.startswith("mirrord: state: nobody holds this state directory, so nothing runs with it; ")


async def test_ctrl_c_beside_a_daemon(desk: Desk, source: Registry) -> None:
    """Who follows a run and leaves ends nothing, and is told so; `mirrord cancel` does."""
    configured(desk, source, "")
    async with desk.serving():
        async with desk.started("sync", "app") as following:
            await half_done(desk)
            following.send_signal(signal.SIGINT)
            _, err = await following.communicate()
        assert following.returncode == 130
        assert err.decode().startswith("the daemon goes on with it; `mirrord status` shows how far it is")
        assert (await mirror(desk))["running"]
        assert (await desk.run("cancel", "app")).status == 0


async def test_whoever_waits_hears_of_it(desk: Desk, source: Registry) -> None:
    """`mirrord sync` that does the work itself ends as after Ctrl-C, and prints what it did; so does one that asked."""
    configured(desk, source, "")
    syncing = asyncio.create_task(desk.run("sync", "app", "--json"))
    await half_done(desk)
    said = await desk.run("cancel", "app", "--json")
    [run] = said.document["runs"]
    assert (said.status, run["trigger"], run["result"]) == (0, "command", "interrupted")
    synced = await syncing
    [found] = synced.document["runs"]
    assert (synced.status, found["result"], found["counts"]) == (130, "interrupted", {"done": 1})
    assert found["started"] == run["started"]
