"""Tokens of Git hosts over whole runs of the program, good ones and every kind of bad: nobody ever sees one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from mirrord.testing.faults import Fault
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.ports import free_port
from tests.support.canary import Canary
from tests.support.commands import Desk
from tests.support.gitcontent import lfs_pointer
from tests.support.lfshost import LfsHost
from tests.support.sshhost import SSHD, SshHost, make_key
from tests.support.watching import Spy, Watch

NAME = "team/app.git"
BIG = b"big" * 4096
ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"
TEXT = {"Content-Type": "text/plain"}
ECHO = "#!/bin/sh\ntest \"$1\" = refs/heads/dev || exit 0\ncat '{file}' >&2\nexit 1\n"
needs_sshd = pytest.mark.skipif(not SSHD, reason="needs sshd")


def echo(canary: Canary) -> bytes:
    """Return what a host says that tells everybody what it was told, in every form."""
    return "".join(f"you said {form}\n" for form in canary.forms()).encode()


@dataclass(slots=True)
class Scene:
    """An upstream with LFS and a destination for each way to fail, each with a token that is kept another way."""

    desk: Desk
    spy: Spy
    hosts: Mapping[str, GitHost]
    canaries: Mapping[str, Canary]
    upstream: Upstream
    dead: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    environ: dict[str, str] = field(default_factory=dict)
    said: list[str | bytes] = field(default_factory=list)

    def configure(self, *, dead: bool = False) -> None:
        """Write mirrors of what is there and of what is not, with `dead` to and from where nobody listens, too."""
        lines = ["settings: {listen: '127.0.0.1:0', log: {level: debug}}", "hosts:"]
        places = {name: host.host for name, host in self.hosts.items()} | ({"dead": self.dead} if dead else {})
        for number, (name, place) in enumerate(places.items()):
            lines += [f"  '{place}': {{{self._auth(number, name, place)}}}"]
        targets = {name: f"http://{place}/{NAME}" for name, place in places.items() if name != "source"}
        lines += ["targets:"]
        for name, url in targets.items():
            lines += [f"  {name}: {{kind: git, to: '{url}'{', host: gitea' if name == 'forge' else ''}}}"]
        mirrors = {
            "app": (self.hosts["source"].url(NAME), f"[{', '.join(targets)}, local]"),
            "none": (self.hosts["source"].url("none.git"), "local"),
        }
        if dead:
            mirrors["lost"] = targets["dead"], "local"
        lines += ["mirrors:"]
        lines += [f"  - {{name: {name}, kind: git, from: '{url}', to: {to}}}" for name, (url, to) in mirrors.items()]
        self.desk.configure("\n".join(lines))

    def _auth(self, number: int, name: str, place: str) -> str:
        """Keep the token of a host in one of the four places where it may be; return what `hosts:` says of it."""
        canary, folder = self.canaries[name], self.desk.folder / "secrets"
        folder.mkdir(exist_ok=True)
        way = ("env", "file", "credential", "docker")[number % 4]
        if way == "docker":
            file = self.desk.folder / "home" / ".docker" / "config.json"
            file.parent.mkdir(exist_ok=True)
            auths = json.loads(file.read_text())["auths"] if file.exists() else {}
            auths[place] = {"auth": base64.b64encode(f"{canary.user}:{canary.text}".encode()).decode()}
            file.write_text(json.dumps({"auths": auths}))
            return ""
        if way == "env":
            self.environ[f"TOKEN_{number}"] = canary.text
            where = f"env: TOKEN_{number}"
        else:
            file = folder / name
            file.touch(mode=0o600)
            file.write_text(f"{canary.text}\n")
            self.environ["CREDENTIALS_DIRECTORY"] = str(folder)
            where = f"file: {file}" if way == "file" else f"credential: {name}"
        return f"auth: {{username: {canary.user}, password: {{{where}}}}}"

    async def run(self, *arguments: str, status: int) -> str:
        """Run a command that ends so; remember what it said."""
        said = await self.desk.run(*arguments, **self.environ)
        self.said += [said.out, said.err]
        assert said.status == status, said
        return said.out + said.err

    def silent(self, *more: Canary) -> None:
        """Fail when a token was heard in what was said, in the state, or in temporary files."""
        for canary in (*self.canaries.values(), *more):
            assert [text for text in self.said if canary.heard(text)] == [], canary.user
            for folder in (self.desk.folder / "state", self.desk.temporary, self.desk.folder / "conf.d"):
                assert canary.heard_below(folder) == [], canary.user

    def discreet(self) -> set[str]:
        """Fail when a git was given more than the one token of the host it was sent to; return whose were given.

        (GitPython asks for the version of git when it is imported; that one is sent nowhere.)
        """
        given = set()
        for git in self.spy.started():
            if git.arguments == ("version",):
                continue
            words = "\n".join(git.arguments)
            for name, canary in self.canaries.items():
                assert canary.heard(words) == []
                assert canary.text not in git.environ
                if canary.heard(git.environ):
                    place = self.dead if name == "dead" else self.hosts[name].host
                    assert f"=http.http://{place}/.extraHeader\n" in git.environ
                    assert f"http://{place}/" in words
                    given.add(name)
        return given


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Build it; every host that fails repeats the token that it was sent."""
    names = ("source", "good", "denied", "hook", "failing", "moved", "forge", "dead")
    canaries = {name: Canary.make(f"user-{name}") for name in names}
    async with contextlib.AsyncExitStack() as stack:
        hosts: dict[str, LfsHost] = {}
        for name in names[:-1]:
            canary = canaries[name]
            hosts[name] = await stack.enter_async_context(LfsHost(tmp_path / name, user=(canary.user, canary.text)))
            if name != "forge":
                hosts[name].create(NAME)
        elsewhere = await stack.enter_async_context(GitHost(tmp_path / "elsewhere"))
        words = {name: echo(canary) for name, canary in canaries.items()}
        realm = {"WWW-Authenticate": f'Basic realm="{quote(canaries["denied"].text)}"'}
        hosts["denied"].faults.on("*", "", times=None).status(401, words["denied"], TEXT | realm)
        (tmp_path / "words").write_bytes(words["hook"])
        hosts["hook"].hook(NAME, "update", ECHO.format(file=tmp_path / "words"))
        told = json.dumps({"message": words["failing"].decode()}).encode()
        lfs = {"Content-Type": "application/vnd.git-lfs+json"}
        hosts["failing"].faults.on("POST", "/info/lfs/", times=None).status(500, told, lfs)
        hosts["failing"].faults.on("POST", "git-receive-pack", times=None).status(502, words["failing"], TEXT)
        there = elsewhere.url(f"{NAME}/git-upload-pack?token={quote(canaries['moved'].text, safe='')}")
        hosts["moved"].faults.on("*", "", times=None).redirect(there)
        hosts["forge"].faults.on("*", "/api/", times=None).status(403, words["forge"], TEXT)
        upstream = Upstream(hosts["source"].path(NAME))
        first = upstream.commit("dev", {"README.md": b"dev\n"}, parent=None)
        noise = {"noise": random.Random(1).randbytes(1 << 20)}  # more than one piece
        upstream.commit("main", noise | {"f.bin": lfs_pointer(BIG), ".gitattributes": ATTRIBUTES}, parent=first)
        hosts["source"].put(NAME, BIG)
        hosts["good"].rate = 4e6
        spy = Spy(tmp_path / "bin")
        made = Scene(Desk(tmp_path, PATH=spy.path), spy, hosts, canaries, upstream)
        made.configure()
        yield made
        assert not any("authorization" in one.headers for one in elsewhere.log)


async def test_the_watch_hears(scene: Scene) -> None:
    """The control: a token in an argument, in a git's environment, on the disk, and in what was said is heard."""
    canary = scene.canaries["good"]
    with Watch() as watch:
        words = (sys.executable, "-c", "input()", canary.text)
        child = await asyncio.create_subprocess_exec(*words, stdin=asyncio.subprocess.PIPE)
        seen = await watch.look()
        await child.communicate(b"\n")
    assert any(canary.heard(line) for line in seen)
    child = await asyncio.create_subprocess_exec(
        *("git", "help", "-g", canary.text), env={"PATH": scene.spy.path, "TOKEN": canary.text}, stdout=-3, stderr=-3
    )
    await child.wait()
    with pytest.raises(AssertionError):
        scene.discreet()
    scene.silent()
    (scene.desk.temporary / "left").write_bytes(echo(canary))
    with pytest.raises(AssertionError, match="user-good"):
        scene.silent()


SHOWN = ("/", "/status", "/metrics", "/livez?verbose", "/git/app.git/HEAD", "/raw/app/dev/README.md")


async def watched(scene: Scene, watch: Watch, *gates: tuple[str, Fault]) -> None:
    """While a transfer with a host stands at its gate: who fetches is among what is seen, and nobody pushes for us."""
    for name, gate in gates:
        await gate.reached.wait()
        url = scene.hosts[name].url(NAME).encode()
        ours = {line.split(b"\0")[0].rpartition(b"/")[2] for line in await watch.look() if url in line}
        assert (ours >= {b"git", b"git-remote-http"}) if name == "source" else not ours
        gate.release()


def gates(scene: Scene) -> tuple[tuple[str, Fault], ...]:
    """Hold the requests of a fetch and of a push that carry objects."""
    fetched = scene.hosts["source"].faults.on("POST", f"{NAME}/git-upload-pack", skip=1).hold()
    return ("source", fetched), ("good", scene.hosts["good"].faults.on("POST", "git-receive-pack").hold())


async def test_a_daemon_keeps_tokens_to_itself(scene: Scene) -> None:
    """Runs of a daemon, good and bad: argv, log (debug too), state directory, `/status`, `/metrics` and its pages."""
    scene.configure(dead=True)
    held = gates(scene)
    with Watch() as watch:
        async with scene.desk.serving(**scene.environ) as daemon:
            syncing = asyncio.create_task(scene.run("sync", status=2))
            await watched(scene, watch, *held)
            await syncing
            await scene.run("plan", status=2)
            await scene.run("status", status=1)
            async with aiohttp.ClientSession() as session:
                for path in SHOWN:
                    async with session.get(f"http://{daemon.address}{path}") as answer:
                        assert answer.status == 200, path
                        scene.said += [await answer.read(), str(answer.headers)]
            daemon.process.terminate()
            await daemon.logged("daemon.stopped")
            assert {line["level"] for line in daemon.lines} >= {"debug", "info", "warning"}
            scene.said += [json.dumps(line, ensure_ascii=False) for line in daemon.lines]
    scene.said += watch.seen
    assert scene.discreet() == {"source"}  # to push no git needs a token
    scene.silent()
    assert scene.hosts["good"].refs(NAME) == scene.upstream.refs()


async def test_commands_keep_tokens_to_themselves(scene: Scene) -> None:
    """The same without a daemon, a branch being forced, too: `check`, `plan`, `sync`, `status`, `restore`."""
    held = gates(scene)
    with Watch() as watch:
        syncing = asyncio.create_task(scene.run("sync", "--json", status=2))
        await watched(scene, watch, *held)
        told = await syncing
        scene.upstream.rewrite("dev")
        await scene.run("check", "--json", status=0)
        await scene.run("plan", "app", "--explain", status=2)
        told += await scene.run("sync", status=2)
        told += await scene.run("status", "--json", status=1)
        await scene.run("restore", "app", "--json", status=0)
    for words in ("you said ***", "moved to", "hook declined: you said ***", "status 404"):
        assert words in told, "the failure was told"
    scene.said += watch.seen
    assert scene.discreet() == {"source"}  # to push no git needs a token
    scene.silent()


@needs_sshd
async def test_an_ssh_key_stays_in_its_file(scene: Scene, tmp_path: Path) -> None:
    """Over ssh: the key is named in argv and never shown, in a good run, a refused one, and one to a changed host."""
    async with SshHost(tmp_path / "ssh") as host:
        Upstream(host.create("up.git")).commit("main", {"a": b"a\n"})
        there = host.create("there.git")
        for name in ("reached", "go"):
            os.mkfifo(tmp_path / name)
        hook = there / "hooks" / "update"
        hook.write_text(f"#!/bin/sh\necho >'{tmp_path}/reached'\ncat '{tmp_path}/go' '{host.key}' >&2\n")
        hook.chmod(0o755)
        key = Canary("ssh", host.key.read_text().partition("\n")[2])
        known = host.known_hosts.read_text()
        host.known_hosts.write_text(f"[127.0.0.1]:{host.host.rpartition(':')[2]} {make_key(tmp_path / 'another')}")
        scene.desk.configure(
            f"hosts: {{'{host.host}': {{ssh_key: {host.key}, known_hosts: {host.known_hosts}}}}}\n"
            f"targets: {{there: {{kind: git, to: '{host.url('there.git')}'}}}}\n"
            f"mirrors: [{{name: app, kind: git, from: '{host.url('up.git')}', to: there}}]\n"
        )
        assert "fingerprint" in await scene.run("sync", status=1)
        host.known_hosts.write_text(known)
        with Watch() as watch:
            syncing = asyncio.create_task(scene.run("sync", status=0))
            await asyncio.to_thread((tmp_path / "reached").read_bytes)
            seen = await watch.look()
            await asyncio.to_thread((tmp_path / "go").write_text, "go on\n")
            await syncing
        assert any(str(host.key).encode() in line and b"ssh\0-F\0none" in line for line in seen)
        scene.said += watch.seen
        assert all(key.heard(git.environ + "".join(git.arguments)) == [] for git in scene.spy.started())
        scene.silent(key)
