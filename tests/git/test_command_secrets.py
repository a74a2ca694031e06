"""Credentials of Git hosts: where they go, and that they are nowhere else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.errors import DeniedError, RefusedError
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.git.address import Address
from mirrord.wire.git.command import Git
from mirrord.wire.git.lsrefs import ls_refs
from mirrord.wire.host import HostBook, HostPolicy, Login, Logins
from mirrord.wire.http.client import Http
from mirrord.wire.secret import Credential, Secret
from tests.support.canary import Canary


@pytest.fixture
def canary() -> Canary:
    return Canary.make("robot")


@pytest.fixture
async def host(tmp_path: Path, canary: Canary) -> AsyncIterator[GitHost]:
    async with GitHost(tmp_path / "host", user=(canary.user, canary.text)) as made:
        Upstream(made.create("team/app.git")).commit("main", {"README.md": b"hello\n"})
        yield made


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[GitHost]:
    async with GitHost(tmp_path / "other") as made:
        Upstream(made.create("team/app.git")).commit("main", {"README.md": b"hello\n"})
        yield made


@pytest.fixture
def book(host: GitHost, canary: Canary) -> HostBook:
    credential = Credential(canary.user, Secret(canary.text))
    return HostBook({host.host: HostPolicy(host.host, credential=credential)})


@pytest.fixture
def git(tmp_path: Path, book: HostBook) -> Git:
    return Git(tmp_path / "home", book)


def command_lines() -> list[bytes]:
    """Return the arguments of every process of this machine."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes())
        except OSError:
            continue
    return found


async def test_a_token_is_in_no_argument_and_no_file(tmp_path: Path, git: Git, host: GitHost, canary: Canary) -> None:
    """While git and its helpers run with a token, no process shows it; afterwards no file and no output has it."""
    folder = tmp_path / "a.git"
    await git.run(["init", "--quiet", "--bare", "--", str(folder)])
    remote = Address.parse(host.url("team/app.git"))
    fault = host.faults.on("POST", "git-upload-pack").hold()
    args = ["fetch", "--no-write-fetch-head", "--", remote.url, "+refs/heads/*:refs/heads/*"]
    running = asyncio.create_task(git.run(args, folder=folder, remote=remote))
    await fault.reached.wait()
    lines = command_lines()
    assert sum(remote.url.encode() in line for line in lines) >= 2, "git and its helper are among them"
    assert not any(canary.heard(line) for line in lines)
    fault.release()
    output = await running
    assert not canary.heard(output.err)
    assert not canary.heard_below(folder)
    assert not canary.heard_below(tmp_path / "home")


async def test_a_token_is_in_no_argument_of_a_slow_push(
    tmp_path: Path, git: Git, host: GitHost, canary: Canary
) -> None:
    """All along a push that takes its time no process shows the token, and neither words nor files have it after."""
    folder = tmp_path / "a.git"
    await git.run(["init", "--quiet", "--bare", "--", str(folder)])
    Upstream(folder).commit("main", {"big": random.Random(1).randbytes(3 << 20)})  # more than one piece
    host.create("team/copy.git")
    host.rate = 4e6
    remote = Address.parse(host.url("team/copy.git"))
    args = ["push", "--porcelain", "--", remote.url, "+refs/heads/*:refs/heads/*"]
    running = asyncio.create_task(git.run(args, folder=folder, remote=remote))
    seen = set[bytes]()
    while not running.done():
        seen |= set(await asyncio.to_thread(command_lines))
    output = await running
    ours = [line for line in seen if remote.url.encode() in line]
    assert {line.split(b"\0")[0].rpartition(b"/")[2] for line in ours} >= {b"git", b"git-remote-http"}
    assert not any(canary.heard(line) for line in seen)
    assert host.refs("team/copy.git") == Upstream(folder).refs()
    assert not canary.heard(output.err)
    assert not canary.heard(output.out)
    assert not canary.heard_below(tmp_path)


async def test_one_request_less(git: Git, host: GitHost) -> None:
    """The credential goes along at once: no request is refused first."""
    remote = Address.parse(host.url("team/app.git"))
    await git.run(["ls-remote", "--heads", "--", remote.url], remote=remote)
    assert [(one.method, "authorization" in one.headers) for one in host.log] == [("GET", True), ("POST", True)]


async def test_a_host_that_repeats_the_token(git: Git, host: GitHost, canary: Canary) -> None:
    """What a host says is told without the token, even when it repeats it."""
    host.faults.on("GET", "info/refs").status(403, f"wrong: {canary.text}".encode(), {"Content-Type": "text/plain"})
    remote = Address.parse(host.url("team/app.git"))
    with pytest.raises(DeniedError, match=r"wrong: \*\*\*") as caught:
        await git.run(["ls-remote", "--", remote.url], remote=remote)
    assert not canary.heard(str(caught.value))
    assert not canary.heard(repr(caught.value.__context__))


@pytest.mark.parametrize("code", [301, 302, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_redirect_is_not_followed(git: Git, host: GitHost, other: GitHost, method: str, code: int) -> None:
    """A host that redirects is told as moved; nothing, let alone the token, reaches the other one."""
    host.faults.on(method, "app.git").redirect(other.url("team/app.git/info/refs?service=git-upload-pack"), code)
    remote = Address.parse(host.url("team/app.git"))
    with pytest.raises(RefusedError, match="moved") as caught:
        await git.run(["ls-remote", "--heads", "--", remote.url], remote=remote)
    assert caught.value.status == code
    assert other.log == []


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_of_the_list_is_not_followed(
    git: Git, book: HostBook, host: GitHost, other: GitHost, code: int
) -> None:
    """The same for our own request, which says where to."""
    host.faults.on("POST", "app.git").redirect(other.url("team/new.git/git-upload-pack?token=x"), code)
    async with Http(book) as http:
        with pytest.raises(RefusedError) as caught:
            await ls_refs(git, http, Address.parse(host.url("team/app.git")))
    assert f"moved to {other.url('team/new.git')}; " in str(caught.value)
    assert (caught.value.status, other.log, len(host.log)) == (code, [], 1)


async def test_the_token_of_one_host_stays_there(git: Git, other: GitHost) -> None:
    """Another host gets nothing, although its address differs in the port alone."""
    remote = Address.parse(other.url("team/app.git"))
    await git.run(["ls-remote", "--", remote.url], remote=remote)
    assert all("authorization" not in one.headers for one in other.log)


async def test_without_a_token(tmp_path: Path, host: GitHost) -> None:
    """Without a credential nobody is asked for one: git ends, and the text says what to write."""
    git = Git(tmp_path / "home", HostBook())
    remote = Address.parse(host.url("team/app.git"))
    with pytest.raises(DeniedError, match="write `auth:`"):
        await git.run(["ls-remote", "--", remote.url], remote=remote)


async def test_a_keyring(tmp_path: Path, host: GitHost, canary: Canary) -> None:
    """Credentials that are not in the configuration come from the keyring, asked for exactly this host."""

    class Keyring:
        async def find(self, host: str) -> Logins:
            asked.append(host)
            return Logins((Login("", Credential(canary.user, Secret(canary.text)), "a keyring"),))

    asked = list[str]()
    git = Git(tmp_path / "home", HostBook(keyring=Keyring()))
    remote = Address.parse(host.url("team/app.git"))
    await git.run(["ls-remote", "--", remote.url], remote=remote)
    assert asked == [host.host]
