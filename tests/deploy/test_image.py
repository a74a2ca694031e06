"""The container image, built and run: what it holds, who it runs as, what it serves, how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

import mirrord
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.ports import free_port
from mirrord.testing.running import run
from mirrord.testing.servers import require
from tests.support.container import ContainerImage
from tests.support.processes import children_of
from tests.support.sshhost import SSHD, SshHost

pytestmark = pytest.mark.timeout(900)  # the first build gets its base
USER = 65532


def volume(folder: Path) -> Path:
    """Make a folder that belongs to the image's user, as a new volume of docker does."""
    folder.mkdir()
    os.chown(folder, USER, USER)
    folder.chmod(0o700)
    return folder


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


async def test_programs(image: ContainerImage) -> None:
    """It tells the version of mirrord, which its label has too, and holds the programs that mirrors need."""
    told = await image.run("mirrord", "--version")
    assert told.status == 0, told.output
    assert mirrord.__version__ in told.output.split()
    assert image.config["Labels"]["org.opencontainers.image.version"] == mirrord.__version__
    for program, says in {("git", "--version"): "git version 2.", ("ssh", "-V"): "OpenSSH_"}.items():
        ran = await image.run(*program)
        assert (ran.status, says in ran.output) == (0, True), ran.output


async def test_nobody_in_particular(image: ContainerImage) -> None:
    """It runs as a user that is not root, and can write nowhere but in its volume."""
    assert (await image.run("id", "-u")).output == f"{USER}\n"
    assert (await image.run("sh", "-c", "touch /opt/mirrord/x || touch /etc/mirrord/conf.d/x")).status != 0
    assert not (image.root / "opt/mirrord/x").exists()
    there = image.root / "var/lib/mirrord"
    assert (there.stat().st_uid, there.stat().st_gid, there.stat().st_mode & 0o777) == (USER, USER, 0o700)


async def test_serves_and_mirrors_over_ssh(image: ContainerImage, tmp_path: Path) -> None:
    """With a volume and a configuration: it is healthy, mirrors over ssh, serves that, and ends at SIGTERM."""
    if not SSHD:
        require("sshd")
    port, conf, keys = free_port(), tmp_path / "conf.d", tmp_path / "keys"
    conf.mkdir(mode=0o755)
    keys.mkdir(mode=0o755)
    async with SshHost(tmp_path / "ssh") as host:
        commit = Upstream(host.create("app.git")).commit("main", {"README": b"over ssh"})
        for name, source in {"key": host.key, "known": host.known_hosts}.items():
            (keys / name).write_bytes(source.read_bytes())
            os.chown(keys / name, USER, USER)
            (keys / name).chmod(0o400)
        known = "ssh_key: /etc/mirrord/ssh/key, known_hosts: /etc/mirrord/ssh/known"
        mirror = f"{{name: app, kind: git, from: '{host.url('app.git')}', to: local, every: 1h}}"
        (conf / "a.yaml").write_text(f"hosts: {{'{host.host}': {{{known}}}}}\nmirrors: [{mirror}]\n")
        places = {"/etc/mirrord/conf.d": conf, "/etc/mirrord/ssh": keys}
        state, env = volume(tmp_path / "state"), {"MIRRORD_LISTEN": f"0.0.0.0:{port}"}
        binds = {"/var/lib/mirrord": state}
        async with image.running(env=env, binds=binds, read_only=places, tmpfs=["/tmp"]) as container:
            await container.logged('"event": "run.finished"')
            assert await get(port, "/livez") == (200, "ok\n")
            assert await get(port, "/raw/app/main/README") == (200, "over ssh")
            listed = await run("git", "ls-remote", f"http://127.0.0.1:{port}/git/app.git", "main")
            assert listed.output.split()[0] == str(commit)
            assert await healthy(image, env)
            assert await container.stop() == 0
        assert '"event": "daemon.stopped"' in container.output
        assert not await healthy(image, env)


async def test_orphans_are_collected(image: ContainerImage, tmp_path: Path) -> None:
    """What a killed git leaves behind comes to process 1, which collects it: it stays no zombie."""
    conf = tmp_path / "conf.d"
    conf.mkdir(mode=0o755)
    (conf / "a.yaml").write_text("mirrors: []\n")
    places, env = {"/etc/mirrord/conf.d": conf}, {"MIRRORD_LISTEN": f"127.0.0.1:{free_port()}"}
    binds = {"/var/lib/mirrord": volume(tmp_path / "state")}
    async with image.running(env=env, binds=binds, read_only=places) as container:
        await container.logged('"event": "daemon.ready"')
        before = children_of(container.first)
        assert len(before) == 1
        orphaned = "sleep 600 >/dev/null 2>&1 &"
        await run("nsenter", f"--target={container.first}", "--pid", "sh", "-c", orphaned)
        [orphan] = set(children_of(container.first)) - set(before)
        os.kill(orphan, signal.SIGKILL)
        async with asyncio.timeout(30):
            while True:
                if children_of(container.first) == before:
                    break
                await asyncio.sleep(0.1)
        assert await container.stop() == 0


async def healthy(image: ContainerImage, env: Mapping[str, str]) -> bool:
    """Run the image's health check beside the container, and return its verdict."""
    check = image.config["Healthcheck"]
    [kind, *words] = check["Test"]
    assert (kind, check["Retries"]) == ("CMD", 3)
    async with asyncio.timeout(check["Timeout"] / 1e9):
        return (await image.run(*words, env=env)).status == 0
