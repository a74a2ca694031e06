"""A whole run over ssh, to and from a real sshd on loopback."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirrord.model import Outcome, Result
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.gitworld import GitWorld, open_git_world, receipts
from mirrord.wire.host import HostBook, HostPolicy

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin") or ""
MAIN = "refs/heads/main"
pytestmark = pytest.mark.skipif(not SSHD, reason="needs sshd")


@dataclass(slots=True)
class Scene:
    """A world that knows an ssh host, and where its repositories are."""

    world: GitWorld
    upstream: Upstream
    there: Upstream
    base: str


def key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


def bare(path: Path) -> None:
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)


async def listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                await writer.wait_closed()
                return


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Run sshd for our own user, with keys of its own."""
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    host_key = key(folder / "host")
    (folder / "authorized").write_text(key(folder / "ours"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "config").write_text(
        f"HostKey {folder / 'host'}\nAuthorizedKeysFile {folder / 'authorized'}\nListenAddress 127.0.0.1:{port}\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    daemon = await asyncio.create_subprocess_exec(
        SSHD, "-D", "-e", "-f", str(folder / "config"), stderr=subprocess.DEVNULL
    )
    host = f"127.0.0.1:{port}"
    policy = HostPolicy(host, ssh_key=str(folder / "ours"), known_hosts=str(folder / "known"))
    try:
        await listening(port)
        for name in ("up.git", "app.git"):
            bare(tmp_path / name)
        async with open_git_world(tmp_path / "state", book=HostBook({host: policy})) as world:
            base = f"ssh://{pwd.getpwuid(os.geteuid()).pw_name}@{host}{tmp_path}"
            yield Scene(world, Upstream(tmp_path / "up.git"), Upstream(tmp_path / "app.git"), base)
    finally:
        daemon.terminate()
        await daemon.wait()


async def test_a_mirror_over_ssh(scene: Scene) -> None:
    """Created, forwarded, forced and deleted refs go over ssh as over https; a quiet run changes nothing."""
    up = scene.upstream
    first = up.commit("main", {"a": b"1"}, parent=None)
    up.commit("dev", {"b": b"1"}, parent=first)
    up.set("refs/heads/--upload-pack=x", first)
    mirror = scene.world.mirror(f"{scene.base}/up.git", one=f"{scene.base}/app.git")
    run = await scene.world.run(mirror)
    assert run.result is Result.SUCCESS, (run.error, run.receipts)
    assert scene.there.refs() == up.refs()
    assert (await scene.world.run(mirror)).result is Result.NOOP
    up.commit("main", {"a": b"2"})
    up.rewrite("dev")
    up.delete("refs/heads/--upload-pack=x")
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert scene.there.refs() == up.refs()


async def test_what_the_other_side_refuses_is_told(scene: Scene) -> None:
    """A refusal over ssh is the ref's, with the host's words, and the other refs arrive."""
    scene.upstream.commit("main", {"a": b"1"}, parent=None)
    scene.upstream.commit("dev", {"b": b"1"}, parent=None)
    hook = scene.there.path / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\ntest "$1" != refs/heads/dev && exit 0\necho "dev is closed" >&2\nexit 1\n')
    hook.chmod(0o755)
    run = await scene.world.run(scene.world.mirror(f"{scene.base}/up.git", one=f"{scene.base}/app.git"))
    told = receipts(run, "one")
    assert (told[MAIN].outcome, told["refs/heads/dev"].outcome) == (Outcome.DONE, Outcome.REFUSED)
    assert "dev is closed" in told["refs/heads/dev"].detail


async def test_a_missing_repository_over_ssh(scene: Scene) -> None:
    """An upstream that is gone says so over ssh, too; nothing changes."""
    run = await scene.world.run(scene.world.mirror(f"{scene.base}/gone.git", one=f"{scene.base}/app.git"))
    assert (run.result, run.code) == (Result.FAILED, "missing")
    assert scene.there.refs() == {}
