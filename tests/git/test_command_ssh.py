"""Git over ssh, with a real sshd on loopback: our key, the host's key, and nobody else's files."""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
import subprocess
from collections.abc import AsyncIterator
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
from mirrord.wire.http.client import Http
from tests.support.sshhost import SSHD, SshHost, make_key

needs_sshd = pytest.mark.skipif(not SSHD, reason="needs sshd")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[SshHost]:
    """Run sshd for our own user; blanks are in every path."""
    async with SshHost(tmp_path / "ssh server") as made:
        yield made


@pytest.fixture
def policy(server: SshHost) -> HostPolicy:
    return HostPolicy(server.host, ssh_key=str(server.key), known_hosts=str(server.known_hosts))


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
async def test_64_a_changed_key(tmp_path: Path, policy: HostPolicy, server: SshHost) -> None:
    """Bad input 64: a host with another key than the one written down is refused, with its fingerprint."""
    digest = hashlib.sha256(base64.b64decode((server.folder / "host.pub").read_text().split()[1])).digest()
    fingerprint = "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    server.known_hosts.write_text(f"[127.0.0.1]:{server.host.rpartition(':')[2]} {make_key(server.folder / 'else')}")
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
