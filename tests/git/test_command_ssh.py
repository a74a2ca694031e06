"""Git over ssh, with a real sshd on loopback: our key, the host's key, and nobody else's files."""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrord.errors import DeniedError, MissingError, UnreachableError, UntrustedError
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.git.address import Address
from mirrord.wire.git.command import Git
from mirrord.wire.git.environment import ssh_command
from mirrord.wire.git.lsrefs import ls_refs
from mirrord.wire.git.refs import Refs
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http import Http

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin") or ""
Server = tuple[Path, int]
needs_sshd = pytest.mark.skipif(not SSHD, reason="needs sshd")


def make_key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
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
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd, as root, insists on having an empty folder
    with subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL) as daemon:
        for _ in range(500):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.01)
        yield folder, port
        daemon.terminate()


@pytest.fixture
def policy(server: Server) -> HostPolicy:
    folder, port = server
    return HostPolicy(f"127.0.0.1:{port}", ssh_key=str(folder / "ours"), known_hosts=str(folder / "known"))


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", str(tmp_path / "app.git")], check=True)
    made = Upstream(tmp_path / "app.git")
    made.commit("main", {"README.md": b"hello\n"})
    return made


async def ask(tmp_path: Path, policy: HostPolicy, name: str = "app.git") -> Refs:
    me = pwd.getpwuid(os.geteuid()).pw_name
    book = HostBook({policy.host: policy})
    async with Http(book) as http:
        address = Address.parse(f"ssh://{me}@{policy.host}{tmp_path / name}")
        return await ls_refs(Git(tmp_path / "home", book), http, address)


@needs_sshd
async def test_refs_by_ssh(tmp_path: Path, policy: HostPolicy, upstream: Upstream) -> None:
    """With its key and a known host the refs come, default branch included."""
    refs = await ask(tmp_path, policy)
    assert (refs.refs, refs.head) == (upstream.refs(), "refs/heads/main")


@needs_sshd
async def test_without_a_key(tmp_path: Path, policy: HostPolicy, upstream: Upstream) -> None:
    """Without `ssh_key:` no key of a user's is tried; the text says what to write."""
    with pytest.raises(DeniedError, match="write `ssh_key: FILE`"):
        await ask(tmp_path, HostPolicy(policy.host, known_hosts=policy.known_hosts))


@needs_sshd
async def test_missing_by_ssh(tmp_path: Path, policy: HostPolicy) -> None:
    """A repository that is not there is missing by ssh, too."""
    with pytest.raises(MissingError):
        await ask(tmp_path, policy, "none.git")


@needs_sshd
async def test_64_an_unknown_host(tmp_path: Path, policy: HostPolicy) -> None:
    """Bad input 64: a host whose key nobody wrote down is refused; nothing is accepted on first sight."""
    known = Path(policy.known_hosts or "")
    known.write_text("")
    with pytest.raises(UntrustedError, match="write `known_hosts: FILE`") as caught:
        await ask(tmp_path, policy)
    assert (caught.value.reason, known.read_text()) == ("host_key", "")


@needs_sshd
async def test_64_a_changed_key(tmp_path: Path, policy: HostPolicy, server: Server) -> None:
    """Bad input 64: a host with another key than the one written down is refused, with its fingerprint."""
    folder, port = server
    digest = hashlib.sha256(base64.b64decode((folder / "host.pub").read_text().split()[1])).digest()
    fingerprint = "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    (folder / "known").write_text(f"[127.0.0.1]:{port} {make_key(folder / 'else')}")
    with pytest.raises(UntrustedError) as caught:
        await ask(tmp_path, policy)
    assert caught.value.reason == "host_key"
    assert not caught.value.retry
    assert fingerprint in str(caught.value)


async def test_nobody_listens(tmp_path: Path) -> None:
    """An ssh port that nobody listens on is unreachable."""
    with pytest.raises(UnreachableError):
        await ask(tmp_path, HostPolicy("127.0.0.1:1"))


def test_the_command() -> None:
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
