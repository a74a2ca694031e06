"""`mirrord status` while another command holds the state, and while other looks at it do."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest

from mirrord.testing import Moment, Registry, build_image, push
from tests.support.commands import Desk

MIRROR = "mirrors: [{name: app, kind: image, from: {repository: quay.io/a/b, tags: [v1]}, to: local}]\n"


def configured(desk: Desk, source: Registry, target: Registry) -> None:
    desk.configure(
        f"targets: {{one: {{kind: image, to: {target.host}/m}}}}\n"
        "mirrors:\n"
        f"- {{name: app, kind: image, from: {{repository: {source.host}/a, tags: ['*']}}, to: one, every: 1h}}\n"
    )


async def test_a_sync_at_work_is_shown(desk: Desk) -> None:
    """While `sync` holds the state `status` says what runs and how far it is; whoever wants more is told 75."""
    async with Registry() as source, Registry() as target:
        for name in ("v1", "v2"):
            await push(build_image(seed=name), source, "a", [name])
        configured(desk, source, target)
        held = target.faults.on("PUT", "/manifests/v2").hold()
        async with desk.started("sync", "--json") as syncing:
            await target.wait(Moment.STARTED, "PUT", "/manifests/v2")
            await target.wait(Moment.ENDED, "PUT", "/manifests/v1")
            seen = await desk.run("status", "--json")
            words = await desk.run("status")
            other = await desk.run("plan")
            held.release()
            await syncing.communicate()
        (mirror,) = seen.document["mirrors"]
        assert (seen.status, seen.document["state"], mirror["state"]) == (0, "offline", "running")
        assert {key: mirror["running"][key] for key in ("trigger", "steps", "done", "failed")} == {
            "trigger": "command",
            "steps": 2,
            "done": 1,
            "failed": 0,
        }
        assert "running, 1 of 2 done" in words.out
        assert (other.status, other.out) == (75, "")
        assert f"in use by process {syncing.pid} (`mirrord sync`); wait until it ends, or give another" in other.err
        assert syncing.returncode == 0
        after = await desk.run("status", "--json")
        assert (after.document["mirrors"][0]["running"], after.document["mirrors"][0]["result"]) == (None, "success")
        assert after.document["mirrors"][0]["schedule"] == "every 1 h"
        assert not (desk.folder / "state" / "control.sock").exists()


async def test_looks_do_not_hinder_one_another(desk: Desk) -> None:
    """Several `status` at one time, each of which holds the state for a moment, all answer."""
    async with Registry() as source, Registry() as target:
        await push(build_image(), source, "a", ["v1"])
        configured(desk, source, target)
        assert (await desk.run("sync")).status == 0
        looks = await asyncio.gather(*(desk.run("status") for _ in range(4)))
    assert [look.status for look in looks] == [0] * 4, looks


async def test_looking_creates_nothing(desk: Desk) -> None:
    """Where no state is, or none of mirrord's, `status` and the list of `restore` say so and leave nothing behind."""
    desk.configure("mirrors: [{name: app, kind: image, from: {repository: quay.io/a/b}, to: local}]\n")
    (desk.folder / "empty").mkdir()
    for command in (("status",), ("status", "--json"), ("restore", "app")):
        for state in ("nowhere", "empty"):
            said = await desk.run(*command, "--state", state)
            told = f"no state in {state}: nothing has run yet, or --state is wrong"
            assert (said.status, said.err) == (64, f"mirrord: {told}\n")
            assert said.out == "" or said.document == {"error": {"code": "usage", "message": told}}
    never = await desk.run("status")
    assert (never.status, never.err) == (0, "no state in state: nothing has run yet, or --state is wrong\n")
    assert [line.split()[:6] for line in never.out.splitlines()[3:]] == [
        ["new", "app", "-", "-", "never", "0"],
        ["new", "app", "local", "-", "never", "0"],
    ]
    assert not (desk.folder / "nowhere").exists()
    assert not (desk.folder / "state").exists()
    assert list((desk.folder / "empty").iterdir()) == []


def catches(process: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal, as the kernel knows it."""
    status = Path(f"/proc/{process}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("daemon", [False, True], ids=["alone", "daemon"])
async def test_a_signal_ends_watching(desk: Desk, number: signal.Signals, daemon: bool) -> None:
    """`status --watch` ends by itself at a signal, with 128 and its number, and says nothing."""
    desk.configure("settings: {listen: '127.0.0.1:0'}\n" + MIRROR)
    async with desk.serving():
        pass  # now there is a state
    serving = desk.serving() if daemon else contextlib.nullcontext()
    async with serving, desk.started("status", "--watch") as watching:
        assert watching.stdout is not None
        await watching.stdout.readuntil(b"app")
        while not catches(watching.pid, signal.SIGTERM):  # noqa: ASYNC110 - now it waits for its next look: nobody else tells
            await asyncio.sleep(0.01)
        watching.send_signal(number)
        _, err = await asyncio.wait_for(watching.communicate(), 30)
    assert (watching.returncode, err.strip()) == (128 + number, b"")
