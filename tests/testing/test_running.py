"""Programs that doubles start leave nothing behind, whenever whoever started them is called off."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp
import pytest

from mirrord.errors import StalledError
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.running import run, started
from tests.support.gitcontent import fill
from tests.support.processes import children, ended, open_files


def left() -> set[str]:
    """Return the open files and the children of this process."""
    return open_files() | children()


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 6, 9, 50])
async def test_a_program_is_gone_with_its_pipes(turns: int) -> None:
    """Called off after any number of turns of the loop, twice even: no process and no pipe is left."""
    await run("true")  # what the loop itself keeps open is there by now
    before = left()

    async def use() -> None:
        async with started("yes", stdin=PIPE, stdout=PIPE, stderr=PIPE):
            await asyncio.Event().wait()

    task = asyncio.create_task(use())
    for _ in range(turns):
        await asyncio.sleep(0)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left() <= before


async def test_a_program_that_is_late_is_gone_although_nobody_reads_what_it_says() -> None:
    """More output than anybody reads does not keep a killed program's pipe open, and nobody waits for it for ever."""
    await run("true")
    before = left()
    async with started("yes", stdout=PIPE) as process:
        assert process.stdout is not None
        await process.stdout.readline()
    assert left() <= before
    with pytest.raises(StalledError, match="sleep did not end"):
        await run("sleep", "600", seconds=0.01)
    assert left() <= before


async def test_a_program_that_cannot_be_started_says_so() -> None:
    """What does not exist raises what the system says."""
    with pytest.raises(FileNotFoundError):
        async with started("/no/such/program", stdout=PIPE):
            pytest.fail("there is none")


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8])
async def test_a_client_that_leaves_a_git_host_leaves_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """Gone so soon after it asked, while git (as on a busy machine) takes its time: nothing of it is left."""
    await run("true")
    host = GitHost(tmp_path / "host")
    host.create("app.git")
    (tmp_path / "git").write_text(f"#!/bin/sh\nsleep 60 &\necho $! >>'{tmp_path}/pids'\nwait\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    before = left()
    async with host, aiohttp.ClientSession() as session:
        asking = asyncio.ensure_future(session.get(host.url("app.git/info/refs?service=git-upload-pack")))
        while not host.log:  # noqa: ASYNC110 - turns are what counts here
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
    await asyncio.sleep(0)
    assert left() <= before
    pids = (tmp_path / "pids").read_text().split() if (tmp_path / "pids").exists() else []
    assert [pid for pid in pids if not ended(int(pid))] == []


async def test_a_client_that_leaves_in_the_middle_of_an_answer_leaves_no_program(tmp_path: Path) -> None:
    """Far more is to come than anybody buffers: when the host has stopped, no program and no pipe is left."""
    await run("true")
    host = GitHost(tmp_path)
    before = left()
    async with host:
        upstream = Upstream(host.create("app.git"))
        fill(upstream, 3, 4 << 20)
        want = f"0032want {upstream.refs()['refs/heads/main']}\n00000009done\n"
        kind = {"Content-Type": "application/x-git-upload-pack-request"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(host.url("app.git/git-upload-pack"), data=want, headers=kind) as answer,
        ):
            await answer.content.readany()
    await asyncio.sleep(0)
    assert left() <= before
