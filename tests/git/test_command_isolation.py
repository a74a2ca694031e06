"""What lies about on a machine has no say: neither a user's configuration, nor the environment, nor hooks."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.errors import UntrustedError
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.git.address import Address
from mirrord.wire.git.command import Git
from mirrord.wire.host import HostBook

APP = "team/app.git"
WILDCARDS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[GitHost]:
    async with GitHost(tmp_path / "host") as made:
        Upstream(made.create(APP)).commit("main", {"README.md": b"hello\n"})
        yield made


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path / "home", HostBook())


class Trap:
    """A program that leaves a trace when somebody runs it."""

    def __init__(self, folder: Path) -> None:
        self.program, self._trace = folder / "trap", folder / "trace"
        self.program.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{self._trace}'\n")
        self.program.chmod(0o755)

    @property
    def sprung(self) -> str:
        """Who ran it, and how."""
        return self._trace.read_text() if self._trace.exists() else ""


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path)


async def fetch(git: Git, host: GitHost, folder: Path) -> dict[str, str]:
    """Fetch everything from `host` into `folder`; return the refs there."""
    remote = Address.parse(host.url(APP))
    args = ["fetch", "--no-tags", "--no-write-fetch-head", "--", remote.url, *WILDCARDS]
    await git.run(args, folder=folder, remote=remote)
    out = (await git.run(["for-each-ref", "--format=%(refname) %(objectname)"], folder=folder)).out.decode()
    return dict(line.split(" ") for line in out.splitlines())


async def bare(git: Git, folder: Path) -> Path:
    await git.run(["init", "-q", "--bare", "--", str(folder)])
    return folder


def hostile(trap: Trap, elsewhere: str) -> str:
    """Return a configuration that would lead git astray in every way that a configuration can."""
    return f"""
[core]
\tsshCommand = {trap.program}
\thooksPath = {trap.program.parent}
\tfsmonitor = {trap.program}
\taskPass = {trap.program}
\tgitProxy = {trap.program}
[credential]
\thelper = !{trap.program}
[http]
\tproxy = http://127.0.0.1:1
\tsslVerify = false
\tfollowRedirects = true
\textraHeader = X-Stray: yes
[url "{elsewhere}"]
\tinsteadOf = http://127.0.0.1
\tpushInsteadOf = http://127.0.0.1
[protocol "ext"]
\tallow = always
[alias]
\tfor-each-refs = !{trap.program}
[fetch]
\tprune = true
\tfsckObjects = nonsense
[transfer]
\tadvertiseSID = nonsense
"""


async def test_57_a_users_configuration(
    git: Git, host: GitHost, trap: Trap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bad input 57: neither `~/.gitconfig` nor the one below XDG_CONFIG_HOME is read: nothing runs, nobody is led away.

    The control: git as a user starts it does read the file, and fails of it.
    """
    user = tmp_path / "user"
    (user / "git").mkdir(parents=True)
    for file in (user / ".gitconfig", user / "git" / "config"):
        file.write_text(hostile(trap, "http://127.0.0.1:1/"))
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(user))
    control = await asyncio.to_thread(subprocess.run, ["git", "ls-remote", host.url(APP)], capture_output=True)
    assert control.returncode != 0
    assert await fetch(git, host, await bare(git, tmp_path / "a.git")) == host.refs(APP)
    assert not any("x-stray" in one.headers for one in host.log)
    assert trap.sprung == ""


async def test_57_the_environment(
    git: Git, host: GitHost, trap: Trap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bad input 57: what our own environment says to git does not reach it: no folder, no program, no setting."""
    stray, trace = tmp_path / "stray.git", tmp_path / "git-trace"
    file = tmp_path / "hostile"
    file.write_text(hostile(trap, "http://127.0.0.1:1/"))
    environ = {
        **dict.fromkeys(("GIT_DIR", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_WORK_TREE"), str(stray)),
        **dict.fromkeys(("GIT_INDEX_FILE", "GIT_ALTERNATE_OBJECT_DIRECTORIES"), str(stray)),
        **dict.fromkeys(("GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "SSH_ASKPASS", "GIT_PROXY_COMMAND"), "trap"),
        **dict.fromkeys(("GIT_EXTERNAL_DIFF", "GIT_EDITOR", "GIT_PAGER", "PAGER"), str(trap.program)),
        **dict.fromkeys(("GIT_TRACE", "GIT_TRACE_CURL", "GIT_TRACE_PACKET", "GIT_TRACE2_EVENT"), str(trace)),
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:1"),
        **dict.fromkeys(("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG"), str(file)),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": str(tmp_path),
        "GIT_CONFIG_KEY_40": "http.proxy",
        "GIT_CONFIG_VALUE_40": "http://127.0.0.1:1",
        "GIT_CONFIG_PARAMETERS": "'http.proxy'='http://127.0.0.1:1'",
        "GIT_CURL_VERBOSE": "1",
        "GIT_NAMESPACE": "stray",
        "GIT_SSL_NO_VERIFY": "1",
        "GIT_TEMPLATE_DIR": str(tmp_path),
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert await fetch(git, host, await bare(git, tmp_path / "a.git")) == {
        "refs/heads/main": (tmp_path / "host" / APP / "refs" / "heads" / "main").read_text().strip()
    }
    assert (stray.exists(), trace.exists(), trap.sprung) == (False, False, "")
    assert not (tmp_path / "a.git" / "trap").exists()


async def test_57_hooks_never_run(git: Git, host: GitHost, trap: Trap, tmp_path: Path) -> None:
    """Bad input 57: programs that lie in a cache are not run by fetch, push or an update of its refs.

    The control: git without our settings runs one.
    """
    folder = await bare(git, tmp_path / "a.git")
    hooks = folder / "hooks"
    hooks.mkdir(exist_ok=True)
    names = ("reference-transaction", "pre-push", "post-update", "update", "pre-receive", "pre-auto-gc", "post-merge")
    for name in names:
        (hooks / name).unlink(missing_ok=True)
        (hooks / name).symlink_to(trap.program)
    main = (await fetch(git, host, folder))["refs/heads/main"]
    host.create("team/copy.git")
    remote = Address.parse(host.url("team/copy.git"))
    await git.run(["push", "--porcelain", "--", remote.url, *WILDCARDS], folder=folder, remote=remote)
    await git.run(["update-ref", "--stdin"], folder=folder, stdin=f"create refs/heads/x {main}\n".encode())
    await git.run(["gc", "--quiet"], folder=folder)
    assert trap.sprung == ""
    environ = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    command = ["git", "-C", str(folder), "update-ref", "refs/heads/y", main]
    await asyncio.to_thread(subprocess.run, command, check=True, env=environ)
    assert "reference-transaction" in trap.sprung


@pytest.mark.parametrize("transport", ["ext", "fd", "file"])
async def test_57_ext_is_refused(
    git: Git, host: GitHost, trap: Trap, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """Bad input 57: a transport that runs programs is closed to every verb, whatever environment and repository say."""
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", f"{transport}:https:http")
    monkeypatch.setenv("GIT_PROTOCOL_FROM_USER", "1")
    folder = await bare(git, host.path("a.git"))
    await git.run(["config", f"protocol.{transport}.allow", "always"], folder=folder)
    await git.run(["config", "protocol.allow", "always"], folder=folder)
    url = f"file://{host.path(APP)}" if transport == "file" else f"{transport}::{trap.program} %S"
    for verb, more in (("ls-remote", ()), ("fetch", WILDCARDS), ("push", WILDCARDS)):
        for remote in (None, Address.parse(host.url(APP))):
            with pytest.raises(UntrustedError, match="not allowed") as caught:
                await git.run([verb, "--", url, *more], folder=folder, remote=remote)
            assert caught.value.reason == "scheme"
    assert trap.sprung == ""
