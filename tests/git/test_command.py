"""Running git: what it is told, what comes of it, and that nothing of it is left when it is ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mirrord import program
from mirrord.errors import (
    BrokenError,
    DeadlineError,
    DeniedError,
    MirrordError,
    StalledError,
    StorageError,
    TooLargeError,
    UnreachableError,
    UntrustedError,
)
from mirrord.events import Event, Events, TrustRefused
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.git import command
from mirrord.wire.git.address import Address
from mirrord.wire.git.command import Git
from mirrord.wire.git.environment import PASSED, basic
from mirrord.wire.git.version import version
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.secret import Credential, Secret
from tests.support.processes import gone, group_of


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path / "home", HostBook())


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[GitHost]:
    async with GitHost(tmp_path / "host") as made:
        Upstream(made.create("team/app.git")).commit("main", {"README.md": b"hello\n"})
        yield made


def shell(script: str) -> dict[str, str]:
    """Have git run a script, as one of its helpers."""
    return {"alias.test": f"!{script}"}


def starting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note which processes are started."""
    pids, begin = list[int](), program._start

    def start(invocation: program.Invocation) -> Any:
        made = begin(invocation)
        pids.append(made.pid)
        return made

    monkeypatch.setattr(program, "_start", start)
    return pids


async def test_output(git: Git) -> None:
    """Status, output and words come back; what was written to stdin was read."""
    output = await git.run(["hash-object", "--stdin"], stdin=b"hello\n" * 100_000)
    assert (output.status, len(output.out), output.err) == (0, 41, "")


async def test_statuses_that_are_answers(git: Git) -> None:
    """An exit status that the caller knows is no error; every other is, with what git said."""
    found = await git.run(["config", "--get", "mirrord.none"], ok=(0, 1))
    assert (found.status, found.out) == (1, b"")
    with pytest.raises(MirrordError, match="nonsense"):
        await git.run(["nonsense"])


async def test_the_environment_is_made_from_nothing(git: Git, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither our secrets nor anybody's git settings reach git: no prompt, no hooks, no home, one transport at most."""
    for name in ("REGISTRY_TOKEN", "GIT_DIR", "GIT_TRACE", "SSH_AUTH_SOCK", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "/x")
    out = (await git.run(["test"], config=shell("env"))).out.decode()
    environ = dict(line.partition("=")[::2] for line in out.splitlines())
    ours = {"GIT_PREFIX", "PWD", "SHLVL", "OLDPWD", "_"}  # of git and of the shell
    allowed = ("LC_ALL", "LANGUAGE", "HOME", "XDG_CONFIG_HOME", *PASSED)
    assert {name for name in environ if not name.startswith("GIT_")} <= {*allowed, *ours}
    assert environ["HOME"] == str(tmp_path / "home")
    assert not any((tmp_path / "home").iterdir())
    expected = {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_CONFIG_GLOBAL": str(tmp_path / "home" / "no-gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_DIR": None,
        "GIT_TRACE": None,
    }
    assert {name: environ.get(name) for name in expected} == expected


async def test_settings_of_a_repository_are_weaker(git: Git, tmp_path: Path) -> None:
    """A repository's own file cannot turn on hooks, helpers or redirects."""
    folder = tmp_path / "a.git"
    await git.run(["init", "--quiet", "--bare", "--", str(folder)])
    for key, value in {"core.hooksPath": "/evil", "credential.helper": "!evil", "http.followRedirects": "true"}.items():
        await git.run(["config", key, value], folder=folder)
        effective = (await git.run(["config", "--get", key], folder=folder, ok=(0, 1))).out.decode().strip()
        assert effective != value


async def test_a_damaged_repository_leads_to_no_other(git: Git, tmp_path: Path) -> None:
    """A folder that is no repository is an error, also inside of one: git does not look above."""
    await git.run(["init", "--quiet", "--bare", "--", str(tmp_path / ".git")])
    (tmp_path / "a.git").mkdir()
    with pytest.raises(StorageError, match="not a git repository"):
        await git.run(["for-each-ref"], folder=tmp_path / "a.git")


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:1/x", "ext::sh -c true", "/etc", "git://127.0.0.1/x", "ssh://127.0.0.1/x"]
)
async def test_57_no_transport_without_a_remote(git: Git, url: str) -> None:
    """Bad input 57: what slipped past every check is refused by git, which may use no transport."""
    with pytest.raises(UntrustedError, match="not allowed"):
        await git.run(["ls-remote", "--", url])


async def test_57_only_the_transport_that_was_asked_for(git: Git, host: GitHost) -> None:
    """Bad input 57: with a remote, other transports stay closed."""
    with pytest.raises(UntrustedError, match="not allowed"):
        await git.run(["ls-remote", "--", "https://127.0.0.1:1/x"], remote=Address.parse(host.url("team/app.git")))


async def test_a_flood_of_words(git: Git) -> None:
    """Fault: a damaged cache makes git say one line a thousand times; it is kept once, and the rest is bounded."""
    words = "echo 'error: bad object'; echo \"error: line $i of many words that say little\""
    script = f"{{ for i in $(seq 3000); do {words}; done; echo 'fatal: end'; }} >&2"
    output = await git.run(["test"], config=shell(script))
    assert output.err.count("bad object") == 1
    assert len(output.err) <= 16 * 1024
    assert output.err.splitlines()[1].endswith("line 1 of many words that say little")
    assert output.err.endswith("fatal: end")


async def test_too_much_output(git: Git) -> None:
    """Output has a limit; whoever writes more is ended, with all of its helpers."""
    assert len((await git.run(["test"], config=shell("head -c 1000 /dev/zero"), limit=1000)).out) == 1000
    with pytest.raises(TooLargeError, match="1000 bytes"):
        await git.run(["test"], config=shell("cat /dev/zero"), limit=1000)


async def test_f40_cancelled(git: Git, host: GitHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 40: cancelled in the middle of a transfer, git and its helpers are gone when the caller goes on."""
    fault = host.faults.on("POST", "git-upload-pack").hold()
    remote = Address.parse(host.url("team/app.git"))
    started = starting(monkeypatch)
    running = asyncio.create_task(git.run(["ls-remote", "--", remote.url], remote=remote))
    await fault.reached.wait()
    (leader,) = started
    assert len(group_of(leader)) >= 2, "git and its helper"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert gone(leader)
    with pytest.raises(ProcessLookupError):
        os.kill(leader, 0)  # reaped, too
    fault.release()


async def test_f40_a_group_that_ignores_being_asked(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 40: past its deadline a process that ignores SIGTERM is killed, and its children with it."""
    started = starting(monkeypatch)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # git and its children begin with that, however late
    try:
        with pytest.raises(DeadlineError, match="git test was not done within"):
            await git.run(["test"], config=shell("sleep 600 & sleep 600; sleep 600"), deadline=1.0)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert gone(started[0])


async def test_f40_git_is_killed(git: Git, tmp_path: Path) -> None:
    """Fault 40: when git itself is killed, the helper that holds its pipes is not waited for, but ended."""
    note = tmp_path / "pid"
    with pytest.raises(StorageError, match="signal 9"):
        await git.run(["test"], config=shell(f"ps -o pgid= $$ > {note}; kill -9 $PPID; sleep 600"))
    assert gone(int(note.read_text()))


async def test_cancelled_before_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is cancelled, or too late, before it is its turn starts nothing."""
    git, started = Git(tmp_path / "home", HostBook(), at_once=1), starting(monkeypatch)
    os.mkfifo(tmp_path / "fifo")
    first = asyncio.create_task(git.run(["test"], config=shell(f"cat {tmp_path / 'fifo'}")))
    while not started:  # noqa: ASYNC110 - can only be looked for
        await asyncio.sleep(0.01)
    with pytest.raises(DeadlineError, match="git version was not done"):
        await git.run(["version"], deadline=0.05)
    waiting = asyncio.create_task(git.run(["version"]))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (tmp_path / "fifo").write_text("on")
    assert (await first).out == b"on"
    assert len(started) == 1


async def test_nothing_moves(git: Git, host: GitHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that neither reads, writes nor works is ended when the patience is over, whatever curl thinks."""
    fault = host.faults.on("GET", "info/refs").hold()
    remote, started = Address.parse(host.url("team/app.git")), starting(monkeypatch)
    monkeypatch.setattr(command, "_BACKSTOP", 0.005)
    with pytest.raises(StalledError, match="did nothing any more"):
        await git.run(["ls-remote", "--", remote.url], remote=remote)
    fault.release()
    assert gone(started[0])


@pytest.mark.parametrize(
    ("limits", "kind"), [({"stall": 0.05}, StalledError), ({"deadline": 0.5}, DeadlineError)], ids=["stall", "deadline"]
)
async def test_f40_given_up(
    git: Git, host: GitHost, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any], kind: type[MirrordError]
) -> None:
    """Fault 40: a transfer that stands still, or takes too long, ends with its helpers; a deadline is final."""
    fault = host.faults.on("POST", "git-upload-pack").hold()
    remote = Address.parse(host.url("team/app.git"))
    started = starting(monkeypatch)
    with pytest.raises(kind, match=r"127\.0\.0\.1:\d+: .*ended") as caught:
        await git.run(["ls-remote", "--heads", "--", remote.url], remote=remote, **limits)
    fault.release()
    assert caught.value.retry == (kind is StalledError)
    (leader,) = started
    assert gone(leader)


async def test_a_host_that_stalls(git: Git, host: GitHost) -> None:
    """A host that sends nothing is given up after `stall` seconds, by curl's own patience."""
    fault = host.faults.on("GET", "info/refs").hold()
    remote = Address.parse(host.url("team/app.git"))
    with pytest.raises(StalledError, match="too slow"):
        await git.run(["ls-remote", "--", remote.url], remote=remote, stall=1)
    fault.release()


async def test_a_host_that_breaks_off(git: Git, host: GitHost) -> None:
    """A connection that ends too early is told as the network's fault, which passes."""
    host.faults.on("GET", "info/refs").close()
    remote = Address.parse(host.url("team/app.git"))
    with pytest.raises(BrokenError) as caught:
        await git.run(["ls-remote", "--", remote.url], remote=remote)
    assert caught.value.retry


async def test_nobody_listens(git: Git) -> None:
    """A port that nobody listens on is unreachable."""
    remote = Address.parse("http://127.0.0.1:1/x")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1: "):
        await git.run(["ls-remote", "--", remote.url], remote=remote)


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        return [(None, None, None, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)


@pytest.mark.parametrize("addresses", [("10.0.0.5",), ("140.82.112.3", "169.254.169.254"), ("127.0.0.1",), ("::1",)])
@pytest.mark.parametrize("url", ["https://git.example/x", "ssh://git@git.example/x"])
async def test_19_private_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...], url: str
) -> None:
    """Bad input 19: a name that has a private address is refused before git starts, and told as an event."""
    resolving(monkeypatch, *addresses)
    events, told = Events(), list[Event]()
    events.listen(told.append)
    git = Git(tmp_path / "home", HostBook(), events)
    started = starting(monkeypatch)
    with pytest.raises(UntrustedError, match="allow_private: true"):
        await git.run(["ls-remote", "--", url], remote=Address.parse(url))
    assert told == [TrustRefused("git.example", "address")]
    assert started == []


async def test_19_git_dials_what_was_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: GitHost) -> None:
    """Bad input 19: git is bound to the addresses that were judged; it does not ask for the name again."""
    port = host.host.rpartition(":")[2]
    resolving(monkeypatch, "127.0.0.1")  # no other resolver knows this name
    policy = HostPolicy(f"git.example:{port}", insecure=True, allow_private=True)
    git = Git(tmp_path / "home", HostBook({policy.host: policy}))
    remote = Address.parse(f"http://git.example:{port}/team/app.git")
    output = await git.run(["ls-remote", "--", remote.url, "refs/heads/*"], remote=remote)
    assert output.out.endswith(b"\trefs/heads/main\n")


async def test_57_plain_http(git: Git) -> None:
    """Bad input 57: plain HTTP to a host that nobody marked is refused before anything is looked up."""
    with pytest.raises(UntrustedError, match="insecure: true"):
        await git.run(["ls-remote"], remote=Address.parse("http://git.example/x"))


async def test_a_name_that_nobody_knows(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that has no address is unreachable, told by name."""

    async def getaddrinfo(*_: Any, **__: Any) -> None:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
    with pytest.raises(UnreachableError, match=r"git\.example: its address cannot be found"):
        await git.run(["ls-remote"], remote=Address.parse("https://git.example/x"))


async def test_no_git(git: Git, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without git is told so; importing and building works there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StorageError, match="git is not installed"):
        await git.run(["version"])
    assert version() == ()


async def test_nul_in_an_argument(git: Git) -> None:
    """Bad input 57: a NUL never reaches a process; it is an error like every other."""
    with pytest.raises(StorageError, match="could not be started"):
        await git.run(["ls-remote", "--", "https://h/\0"])


def test_version() -> None:
    """The version of the git that is installed is known."""
    assert version() >= (2, 30)


def test_importing_is_cheap() -> None:
    """Whoever mirrors no Git does not pay for GitPython: importing every module of ours does not import it."""
    script = "import sys, mirrord.wire.git.lsrefs, mirrord.wire.git.receive_pack; assert 'git' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_identity_tokens() -> None:
    """A registry's identity token is no password for Git: it is not sent anywhere."""
    with pytest.raises(DeniedError, match="identity token"):
        basic(Address.parse("https://h/x"), Credential("<token>", Secret("idtoken")))
