"""A fork of the program is to its test what a program that was started is."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.commands import Desk
from tests.support.forking import forkable, run_fork

ONE = "mirrors: [{name: one, kind: image, from: {repository: $FROM}, to: local}]"


@pytest.mark.parametrize("words", [["check"], ["check", "--json"], ["sync", "other"], ["--bogus"]])
@pytest.mark.parametrize("environ", [{}, {"FROM": "h.example/a"}])
async def test_it_ends_as_a_program_does(tmp_path: Path, words: list[str], environ: dict[str, str]) -> None:
    """Folder, environment and words reach it; both of its streams and its exit code come back."""
    desk = Desk(tmp_path, **environ)
    desk.configure(ONE)
    async with desk.started(*words) as process:
        out, err = await process.communicate()
    assert await run_fork(words, tmp_path, desk.environ) == (process.returncode, out, err)


async def test_called_off_it_is_gone(tmp_path: Path) -> None:
    """When a test no longer waits for it, it is killed and ends at once: a daemon's state is free for the next one."""
    desk = Desk(tmp_path)
    desk.configure("settings: {listen: '127.0.0.1:0'}")
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(address)
        notify.setblocking(False)
        serving = asyncio.create_task(desk.run("serve", NOTIFY_SOCKET=address))
        while b"READY=1" not in await asyncio.get_running_loop().sock_recv(notify, 4096):
            pass
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving
    async with desk.serving():
        pass


def test_what_a_fork_cannot_see_is_known() -> None:
    """What an interpreter reads as it begins, and the language, reach a program of its own only."""
    assert forkable({"LANG": "C.UTF-8", "HOME": "/"})
    assert not any(forkable({"LANG": "C.UTF-8", name: "C"}) for name in ("PYTHONPATH", "LC_ALL", "LANG"))
