"""A command that is ended takes everything with it that it started."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.commands import Desk
from tests.support.gitcontent import fill
from tests.support.processes import ended


def started_for(folder: Path) -> list[int]:
    """Return the processes of git that work for a state below `folder`."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            environ, line = (process / "environ").read_bytes(), (process / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in environ and b"git" in line.split(b"\0")[0]:
            found.append(int(process.name))
    return found


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
async def test_no_push_goes_on_alone(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """A push under way ends with its command, whatever signal that gets, and the next command does it all."""
    desk = Desk(tmp_path)
    small = 1 << 16  # the kernel takes 6 MB for a host that does not read: git may be done before it is looked for
    async with GitHost(tmp_path / "up") as source, GitHost(tmp_path / "one", socket_buffer=small) as there:
        upstream = Upstream(source.create("app.git"))
        fill(upstream, 3, 6_000_000)
        there.create("app.git")
        desk.configure(
            f"targets: {{one: {{kind: git, to: '{there.url('app.git')}'}}}}\n"
            f"mirrors: [{{name: app, kind: git, from: '{source.url('app.git')}', to: [one]}}]\n"
        )
        gate = there.faults.on("POST", "git-receive-pack", times=None).hold()
        async with desk.started("sync") as command:
            await gate.reached.wait()
            assert started_for(desk.folder) != []
            command.send_signal(number)
            out, err = await asyncio.wait_for(command.communicate(), 60)
            assert command.returncode == status, (out, err)
            assert all(map(ended, started_for(desk.folder))), "the host answers none of them"
            assert started_for(desk.folder) == []
        assert there.refs("app.git") == {}
        there.faults.clear()
        again = await desk.run("sync")
        assert again.status == 0, again
        assert there.refs("app.git") == upstream.refs()
