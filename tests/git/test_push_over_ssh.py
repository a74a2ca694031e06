"""Pushes over ssh to a real sshd: the protocol of receive-pack on the standard input of a session."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mirrord.errors import BrokenError, ContentError, MirrordError, MissingError
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.git.address import Address
from mirrord.wire.git.changes import Change, Pushed, PushStatus
from mirrord.wire.git.command import Git
from mirrord.wire.git.receive_pack import push
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from tests.support.gitcontent import fill
from tests.support.sshhost import SSHD, SshHost

MAIN, DEV = "refs/heads/main", "refs/heads/dev"
REAL = shutil.which("git-receive-pack") or "git-receive-pack"
pytestmark = pytest.mark.skipif(not SSHD, reason="needs sshd")


@dataclass(slots=True)
class Scene:
    """A repository to push from, and one at an ssh host, where a program of ours stands before git's."""

    host: SshHost
    git: Git
    http: Http
    cache: Upstream
    there: Upstream
    sent: list[int] = field(default_factory=list)

    async def push(self, wanted: Sequence[Change], name: str = "app.git") -> Pushed:
        to = Address.parse(self.host.url(name))
        return await push(self.git, self.http, self.cache.path, to, wanted, on_sent=self.sent.append)

    def changes(self) -> list[Change]:
        here, there = self.cache.refs(), self.there.refs()
        names = sorted(here.keys() | there.keys())
        return [Change(name, there.get(name), here.get(name)) for name in names if here.get(name) != there.get(name)]

    def before(self, script: str) -> None:
        """Let the host run a script in place of git-receive-pack; `$REAL` is that."""
        program = self.host.programs / "git-receive-pack"
        program.write_text(f"#!/bin/sh\nREAL={shlex.quote(REAL)}\n{script}\n")
        program.chmod(0o755)

    @property
    def sessions(self) -> int:
        """How often the host's program was started."""
        log = self.host.folder / "log"
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with SshHost(tmp_path / "ssh") as host:
        book = HostBook({host.host: HostPolicy(host.host, ssh_key=str(host.key), known_hosts=str(host.known_hosts))})
        host.programs.mkdir()
        cache, there = (Upstream(host.create(name)) for name in ("cache.git", "app.git"))
        cache.commit("main", {"a": b"a"}, parent=None)
        cache.commit("dev", {"b": b"b"}, parent=None)
        async with Http(book) as http:
            made = Scene(host, Git(tmp_path / "home", book), http, cache, there)
            made.before(f'echo "$@" >>{shlex.quote(str(host.folder / "log"))}\nexec "$REAL" "$@"')
            yield made


async def test_each_change_has_its_result(scene: Scene) -> None:
    """Created, moved (by force, too), deleted, and names that are in each other's way; one session for each stage."""
    scene.cache.tag("t", "main")
    await scene.push(scene.changes())
    assert (scene.there.refs(), scene.sessions) == (scene.cache.refs(), 1)
    scene.cache.commit("main", {"a": b"2"})
    scene.cache.rewrite("main")
    scene.cache.delete("refs/tags/t")
    scene.cache.delete(DEV)
    scene.cache.commit("dev/x", {"c": b"c"}, parent=None)
    pushed = await scene.push(scene.changes())
    assert {result.ref: result.became for result in pushed.results} == {
        MAIN: PushStatus.MOVED,
        "refs/tags/t": PushStatus.DELETED,
        DEV: PushStatus.DELETED,
        "refs/heads/dev/x": PushStatus.CREATED,
    }
    assert (scene.there.refs(), scene.sessions) == (scene.cache.refs(), 3)


async def test_thousands_of_refs_that_move(scene: Scene) -> None:
    """Each batch of 2 000 is one session, whatever moves."""
    fill(scene.cache, 4500, 1000)
    await scene.push(scene.changes())
    assert (scene.there.refs(), scene.sessions) == (scene.cache.refs(), 3)
    tip = scene.cache.commit("main", {"b": b"b"})
    for name in list(scene.cache.refs()):
        scene.cache.set(name, tip)
    pushed = await scene.push(scene.changes())
    assert {result.became for result in pushed.results} == {PushStatus.MOVED}
    assert (scene.there.refs(), scene.sessions) == (scene.cache.refs(), 6)


async def test_what_was_not_seen_is_not_overwritten(scene: Scene) -> None:
    """A ref that moved at the host since it was looked at stays, and its result says so; the others arrive."""
    await scene.push(scene.changes())
    before = scene.there.refs()
    theirs = scene.there.commit("dev", {"c": b"theirs"})
    new = scene.cache.commit("main", {"a": b"2"})
    pushed = await scene.push([Change(MAIN, before[MAIN], new), Change(DEV, before[DEV], new)])
    assert {(one.ref, one.became, one.reason) for one in pushed.results} == {
        (MAIN, PushStatus.MOVED, ""),
        (DEV, PushStatus.REJECTED, "stale info"),
    }
    assert scene.there.refs() == {MAIN: new, DEV: theirs}


async def test_nothing_to_do_ends_well(scene: Scene) -> None:
    """When the host has it all by now it is told that nothing comes."""
    await scene.push(scene.changes())
    tips = scene.there.refs()
    pushed = await scene.push([Change(MAIN, None, tips[MAIN])])
    assert [result.became for result in pushed.results] == [PushStatus.SAME]
    assert sum(scene.sent) > 0


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ("echo Welcome; exec $REAL $1", ContentError, "does a program at the host print something first"),
        ("echo 'no room today' >&2; exit 3", MirrordError, "no room today"),
        ("exit 0", BrokenError, "ended before it had listed its refs"),
        ('$REAL "$1" </dev/null 2>/dev/null | head -c 60', BrokenError, "ended before it had listed its refs"),
        ("printf 00ff; exit 0", BrokenError, "ended before it had listed its refs"),
        ("printf '0005x0000'; cat >/dev/null; exit 0", ContentError, "is no object id"),
    ],
)
async def test_what_is_no_answer_is_an_error(scene: Scene, script: str, error: type[MirrordError], words: str) -> None:
    """A host that does not speak the protocol, or not to its end, fails the push; nothing hangs or arrives."""
    scene.before(script)
    with pytest.raises(error, match=words):
        await scene.push(scene.changes())
    assert scene.there.refs() == {}


async def test_a_host_that_dies_while_it_reads(scene: Scene) -> None:
    """When it ends in the middle of a long pack the push ends, too, and is worth another try."""
    fill(scene.cache, 3, 3_000_000)
    scene.before('"$REAL" "$1" </dev/null; exec head -c 1000 >/dev/null')
    with pytest.raises(BrokenError, match="ended before it reported what became of the refs"):
        await scene.push(scene.changes())
    assert scene.there.refs() == {}


async def test_a_missing_repository(scene: Scene) -> None:
    """It is told as such, in the host's own words."""
    with pytest.raises(MissingError, match="does not appear to be a git repository"):
        await scene.push(scene.changes(), "gone.git")


async def test_what_git_cannot_pack_is_never_sent(scene: Scene) -> None:
    """An object that is not here fails the push with git's words; the host gets no commands."""
    with pytest.raises(ContentError, match="bad object"):
        await scene.push([Change(MAIN, None, "1" * 40)])
    assert scene.there.refs() == {}
