"""The shipped unit under a real systemd: start, reload, watchdog, stop, secrets, state, and builds of others."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

from mirrord.testing import Faults, Registry, build_image, push
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.servers import require
from tests.support.auth import Auth
from tests.support.booted import Machine
from tests.support.layouts import write_layout
from tests.support.sshhost import SSHD, SshHost

SETTINGS = "settings: {listen: '127.0.0.1:0'}\n"
STATE = "/var/lib/mirrord"


def image(source: Registry, name: str, every: str = "6h") -> str:
    where = f"{{repository: {source.host}/{name}, tags: [v1]}}"
    return f"- {{name: {name}, kind: image, to: local, every: {every}, from: {where}}}\n"


async def items(machine: Machine) -> dict[str, int]:
    """Return how many items each mirror has at its targets, as the daemon says."""
    asked = await machine.run("mirrord", "status", "--json", "--state", STATE)
    document: dict[str, Any] = json.loads(asked.output)
    return {mirror["name"]: mirror["items"] for mirror in document["mirrors"]}


async def test_a_secret_is_used_and_a_reload_keeps_working(machine: Machine) -> None:
    """With `LoadCredential=`: a good configuration is taken by `systemctl reload`, a broken one makes it fail."""
    async with Registry(auth=Auth(basic=("robot", "correct horse"))) as source:
        for name in ("one", "two"):
            await push(build_image(name), source, name, ["v1"])
        machine.write("etc/mirrord/credentials/registry-token", "correct horse\n", mode=0o400)
        machine.drop_in("secrets", "LoadCredential=registry-token:/etc/mirrord/credentials/registry-token")
        hosts = f"hosts: {{'{source.host}': {{auth: {{username: robot, password: {{credential: registry-token}}}}}}}}\n"
        machine.configure(f"{SETTINGS}{hosts}mirrors:\n{image(source, 'one')}")
        started = await machine.systemctl("start", "mirrord")
        assert started.status == 0, await machine.journal()
        synced = await machine.run("mirrord", "sync", "one", "--state", STATE)
        assert synced.status == 0, synced.output
        assert await items(machine) == {"one": 1}

        machine.configure(f"{SETTINGS}{hosts}mirrors:\n{image(source, 'one')}{image(source, 'two')}")
        reloaded = await machine.systemctl("reload", "mirrord")
        assert reloaded.status == 0, await machine.journal()
        assert "added: two" in await machine.journal()
        assert (await machine.run("mirrord", "sync", "two", "--state", STATE)).status == 0

        machine.configure(f"{SETTINGS}{hosts}mirrors:\n{image(source, 'one')}- {{name: two, kind: image}}\n")
        refused = await machine.systemctl("reload", "mirrord")
        assert refused.status == 1
        assert "a.yaml:5: mirrors.two.from: is missing" in await machine.journal()
        assert await machine.show("ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}
        assert await items(machine) == {"one": 1, "two": 1}
        assert (await machine.run("mirrord", "sync", "two", "--state", STATE)).status == 0


async def test_a_changed_secret_is_used_after_a_restart(machine: Machine) -> None:
    """What `LoadCredential=` names is read by systemd at a start: with a new password a restart is what helps."""
    async with Registry(auth=Auth(basic=("robot", "old"))) as source:
        await push(build_image(), source, "one", ["v1"])
        machine.write("etc/mirrord/credentials/token", "old", mode=0o400)
        machine.drop_in("secrets", "LoadCredential=token:/etc/mirrord/credentials/token")
        hosts = f"hosts: {{'{source.host}': {{auth: {{username: robot, password: {{credential: token}}}}}}}}\n"
        machine.configure(f"{SETTINGS}{hosts}mirrors:\n{image(source, 'one')}")
        assert (await machine.systemctl("start", "mirrord")).status == 0
        source.auth = Auth(basic=("robot", "new"))
        machine.write("etc/mirrord/credentials/token", "new", mode=0o400)
        assert (await machine.run("mirrord", "sync", "--state", STATE)).status != 0
        assert (await machine.systemctl("restart", "mirrord")).status == 0
        synced = await machine.run("mirrord", "sync", "--state", STATE)
        assert synced.status == 0, synced.output


async def test_the_state_is_the_service_s_alone(machine: Machine) -> None:
    """The state directory belongs to a user that exists only while the service runs, and nobody else may read it."""
    async with Registry() as source:
        await push(build_image(), source, "one", ["v1"])
        machine.configure(f"{SETTINGS}mirrors:\n{image(source, 'one')}")
        assert (await machine.systemctl("start", "mirrord")).status == 0
        assert (await machine.run("mirrord", "sync", "--state", STATE)).status == 0
    state = machine.tree / "var/lib/private/mirrord"
    assert (machine.tree / "var/lib/mirrord").is_symlink()
    found = [state, *state.rglob("*")]
    assert len(found) > 10
    assert {str(path) for path in found if stat.S_IMODE(path.lstat().st_mode) & 0o077} == set()
    [owner] = {path.lstat().st_uid for path in found}
    assert 61184 <= owner <= 65519  # systemd's range for DynamicUser=
    [pid] = (await machine.show("MainPID")).values()
    limits = (await machine.run("cat", f"/proc/{pid}/limits")).output
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]
    limited = await machine.show("MemoryHigh", "MemoryMax", "TasksMax")
    assert limited == {"MemoryHigh": str(1536 << 20), "MemoryMax": str(2 << 30), "TasksMax": "4096"}
    assert set((await machine.show("IPAddressDeny"))["IPAddressDeny"].split()) == {"169.254.0.0/16", "fe80::/64"}


async def test_the_watchdog_restarts_a_daemon_that_hangs(machine: Machine) -> None:
    """A daemon that stands still (SIGSTOP) is ended and started again by systemd, and goes on with its state."""
    machine.configure(f"{SETTINGS}mirrors: []\n")
    machine.drop_in("hurried", "WatchdogSec=3", "RestartSec=0")  # as shipped it takes over a minute
    assert (await machine.systemctl("start", "mirrord")).status == 0
    [before] = (await machine.show("MainPID")).values()
    assert (await machine.run("kill", "-STOP", before)).status == 0
    await machine.until_shown(ActiveState="active", NRestarts="1")
    journal = await machine.journal()
    assert "Watchdog timeout" in journal
    assert (await machine.show("MainPID"))["MainPID"] not in {"0", before}
    assert (await machine.run("mirrord", "status", "--state", STATE)).status == 0


async def test_a_wrong_configuration_is_not_started_again(machine: Machine) -> None:
    """`systemctl start` with a broken configuration fails once (78), and the journal has the message."""
    machine.drop_in("hurried", "RestartSec=0")
    machine.configure("mirrors: [{name: one}]\n")
    assert (await machine.systemctl("start", "mirrord")).status == 1
    assert await machine.show("ActiveState", "Result", "ExecMainStatus", "NRestarts") == {
        "ActiveState": "failed",
        "Result": "exit-code",
        "ExecMainStatus": "78",
        "NRestarts": "0",
    }
    assert "a.yaml:1: mirrors.one.kind: is missing; write kind: image" in await machine.journal()


async def test_a_stop_lets_a_run_finish(machine: Machine) -> None:
    """`systemctl stop` waits for the run under way, which succeeds; then the service has ended well."""
    faults = Faults()
    async with Registry(faults=faults) as source:
        await push(build_image(), source, "one", ["v1"])
        slow = faults.on("GET", "/blobs/").hold()
        machine.configure(f"{SETTINGS}mirrors:\n{image(source, 'one', every='1m')}")
        assert (await machine.systemctl("start", "mirrord")).status == 0
        await asyncio.wait_for(slow.reached.wait(), 60)
        stopping = asyncio.create_task(machine.systemctl("stop", "mirrord"))
        await machine.until_shown(ActiveState="deactivating")
        assert not stopping.done()
        slow.release()
        assert (await stopping).status == 0
    lines = [json.loads(line) for line in (await machine.journal()).splitlines() if line.startswith("{")]
    assert [line["result"] for line in lines if line["event"] == "run.finished"] == ["success"]
    assert lines[-1]["event"] == "daemon.stopped"
    assert await machine.show("ActiveState", "Result", "ExecMainStatus") == {
        "ActiveState": "inactive",
        "Result": "success",
        "ExecMainStatus": "0",
    }


async def test_a_repository_over_ssh(machine: Machine, tmp_path: Path) -> None:
    """The sandbox lets git use ssh, with a key that systemd hands over, though the user has no home and no entry."""
    if not SSHD:
        require("sshd")
    async with SshHost(tmp_path / "ssh") as host:
        Upstream(host.create("app.git")).commit("main", {"README": b"over ssh"})
        machine.write("etc/mirrord/ssh/key", host.key.read_text(), mode=0o400)
        machine.write("etc/mirrord/ssh/known", host.known_hosts.read_text())
        machine.drop_in("ssh", "LoadCredential=ssh-key:/etc/mirrord/ssh/key")
        key = "/run/credentials/mirrord.service/ssh-key"
        hosts = f"hosts: {{'{host.host}': {{ssh_key: {key}, known_hosts: /etc/mirrord/ssh/known}}}}\n"
        mirror = f"{{name: app, kind: git, from: '{host.url('app.git')}', to: local, every: 1h}}"
        machine.configure(f"{SETTINGS}{hosts}mirrors: [{mirror}]\n")
        assert (await machine.systemctl("start", "mirrord")).status == 0, await machine.journal()
        synced = await machine.run("mirrord", "sync", "--state", STATE)
        assert synced.status == 0, synced.output
        assert (await items(machine))["app"] > 0


async def test_builds_of_a_group_are_mirrored(machine: Machine) -> None:
    """What the user `ci` leaves for its group alone is mirrored once the service is given that group."""
    builds = "/srv/mirrord/builds"
    made = await machine.run("install", "-d", "-o", "ci", "-g", "mirrord-builds", "-m", "2750", builds)
    assert made.status == 0, made.output
    write_layout(build_image(), machine.tree / "srv/new/craned/1", "main", "0123456789abcdef")
    copy = f"umask 027 && cp -r /srv/new/craned {builds}/"
    copied = await machine.run("setpriv", "--reuid=ci", "--regid=ci", "--init-groups", "sh", "-c", copy)
    assert copied.status == 0, copied.output
    mirror = f"{{name: craned, kind: image, from: {{layouts: {builds}/craned}}, to: local, every: 1h}}"
    machine.configure(f"{SETTINGS}mirrors: [{mirror}]\n")
    assert (await machine.systemctl("start", "mirrord")).status == 0
    denied = await machine.run("mirrord", "sync", "--state", STATE)
    assert denied.status != 0
    assert "Permission denied" in denied.output
    machine.drop_in("builds", "SupplementaryGroups=mirrord-builds")
    assert (await machine.systemctl("daemon-reload")).status == 0
    assert (await machine.systemctl("restart", "mirrord")).status == 0
    synced = await machine.run("mirrord", "sync", "--state", STATE)
    assert synced.status == 0, synced.output
    assert await items(machine) == {"craned": 2}  # the build, and its branch
