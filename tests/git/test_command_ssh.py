"""Git over ssh, with a real sshd on loopback: our key, the host's key, and nobody else's files."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from mirrord.errors import DeniedError, MissingError, UnreachableError, UntrustedError
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.git.address import Address
from mirrord.wire.git.command import Git
from mirrord.wire.git.environment import ssh_command
from mirrord.wire.git.lsrefs import ls_refs
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http import Http

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin") or ""
needs_sshd = pytest.mark.skipif(not SSHD, reason="needs sshd")


def make_key(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


@pytest.fixture
def server(tmp_path):
    """Run sshd for our own user; return its port."""
    folder = tmp_path / "ssh server"  # blanks in every path
    folder.mkdir(mode=0o700)
    host_key = make_key(folder / "host")
    ours = make_key(folder / "ours")
    (folder / "authorized").write_text(ours)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key}")
    options = {
        "HostKey": folder / "host", "AuthorizedKeysFile": folder / "authorized", "ListenAddress": f"127.0.0.1:{port}",
        "PidFile": "none", "UsePAM": "no", "StrictModes": "no", "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
    }  # fmt: skip
    config = folder / "config"
    config.write_text("".join(f'{key} "{value}"\n' for key, value in options.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL) as daemon:
        for _ in range(500):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.01)
        yield folder, port
        daemon.terminate()


@pytest.fixture
def policy(server):
    folder, port = server
    return HostPolicy(f"127.0.0.1:{port}", ssh_key=str(folder / "ours"), known_hosts=str(folder / "known"))


@pytest.fixture
def upstream(tmp_path):
    subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", str(tmp_path / "app.git")], check=True)
    made = Upstream(tmp_path / "app.git")
    made.commit("main", {"README.md": b"hello\n"})
    return made


async def ask(tmp_path, policy, name="app.git"):
    me = pwd.getpwuid(os.geteuid()).pw_name
    book = HostBook({policy.host: policy})
    async with Http(book) as http:
        address = Address.parse(f"ssh://{me}@{policy.host}{tmp_path / name}")
        return await ls_refs(Git(tmp_path / "home", book), http, address)


@needs_sshd
async def test_refs_by_ssh(tmp_path, policy, upstream):
    """With its key and a known host the refs come, default branch included."""
    refs = await ask(tmp_path, policy)
    assert (refs.refs, refs.head) == (upstream.refs(), "refs/heads/main")


@needs_sshd
async def test_without_a_key(tmp_path, policy, upstream):
    """Without `ssh_key:` no key of a user's is tried; the text says what to write."""
    with pytest.raises(DeniedError, match="write `ssh_key: FILE`"):
        await ask(tmp_path, HostPolicy(policy.host, known_hosts=policy.known_hosts))


@needs_sshd
async def test_missing_by_ssh(tmp_path, policy):
    """A repository that is not there is missing by ssh, too."""
    with pytest.raises(MissingError):
        await ask(tmp_path, policy, "none.git")


@needs_sshd
async def test_64_an_unknown_host(tmp_path, policy):
    """Bad input 64: a host whose key nobody wrote down is refused; nothing is accepted on first sight."""
    known = Path(policy.known_hosts or "")
    known.write_text("")
    with pytest.raises(UntrustedError, match="write `known_hosts: FILE`") as caught:
        await ask(tmp_path, policy)
    assert (caught.value.reason, known.read_text()) == ("host_key", "")


@needs_sshd
async def test_64_a_changed_key(tmp_path, policy, server):
    """Bad input 64: a host with another key than the one written down is refused, with the fingerprint of the new one."""
    folder, port = server
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", str(folder / "host.pub")], check=True, capture_output=True, text=True
    ).stdout.split()[1]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {make_key(folder / 'else')}")
    with pytest.raises(UntrustedError) as caught:
        await ask(tmp_path, policy)
    assert caught.value.reason == "host_key"
    assert not caught.value.retry
    assert fingerprint in str(caught.value)


async def test_nobody_listens(tmp_path):
    """An ssh port that nobody listens on is unreachable."""
    with pytest.raises(UnreachableError):
        await ask(tmp_path, HostPolicy("127.0.0.1:1"))


def test_the_command():
    """The address that was judged is dialled, under the host's name; no agent, no prompt, no file of a user's."""
    address = Address.parse("ssh://git@git.example:2222/a")
    policy = HostPolicy("git.example:2222", ssh_key="/k 1/%h", known_hosts="/k")
    written = ssh_command(address, policy, ["192.0.2.1", "192.0.2.2"], 60)
    for option in (
        "-F none", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oHostName=192.0.2.1", "-oIdentityAgent=none",
        "'-oHostKeyAlias=[git.example]:2222'", "-oIdentitiesOnly=yes", "'-oIdentityFile=\"/k 1/%%h\"'",
        "'-oUserKnownHostsFile=\"/k\"'", "-oConnectTimeout=60",
    ):  # fmt: skip
        assert option in written
