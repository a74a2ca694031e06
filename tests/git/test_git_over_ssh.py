"""A whole run over ssh, to and from a real sshd on loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirrord.model.run import Outcome, Result
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.secret import Credential, Secret
from tests.support.gitcontent import lfs_pointer
from tests.support.gitworld import GitWorld, open_git_world, receipts
from tests.support.lfshost import LfsHost
from tests.support.sshhost import SSHD, SshHost

MAIN = "refs/heads/main"
PASS = Credential("robot", Secret("pass-5b0e")).basic
BIG = b"big" * 4096
pytestmark = pytest.mark.skipif(not SSHD, reason="needs sshd")


@dataclass(slots=True)
class Scene:
    """A world that knows an ssh host, and where its repositories are."""

    world: GitWorld
    upstream: Upstream
    there: Upstream
    base: str
    programs: Path

    def behind(self, name: str, server: LfsHost) -> None:
        """Let the host send those who ask for the LFS server of a repository to `server`, with a credential."""
        said = {"href": f"{server.base}/{name}/info/lfs", "header": {"Authorization": PASS}}
        (self.programs / name).write_text(json.dumps(said))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Run sshd for our own user, with keys of its own."""
    async with SshHost(tmp_path / "ssh") as host:
        policy = HostPolicy(host.host, ssh_key=str(host.key), known_hosts=str(host.known_hosts))
        up, there = (Upstream(host.create(name)) for name in ("up.git", "app.git"))
        async with open_git_world(tmp_path / "state", book=HostBook({host.host: policy})) as world:
            host.programs.mkdir()
            answers = host.programs / "git-lfs-authenticate"
            answers.write_text('#!/bin/sh\nexec cat "$(dirname "$0")/$(basename "$1")"\n')
            answers.chmod(0o755)
            yield Scene(world, up, there, host.url("").rstrip("/"), host.programs)


async def test_a_mirror_over_ssh(scene: Scene) -> None:
    """Created, forwarded, forced and deleted refs go over ssh as over https; a quiet run changes nothing."""
    up = scene.upstream
    first = up.commit("main", {"a": b"1"}, parent=None)
    up.commit("dev", {"b": b"1"}, parent=first)
    up.set("refs/heads/--upload-pack=x", first)
    mirror = scene.world.mirror(f"{scene.base}/up.git", one=f"{scene.base}/app.git")
    run = await scene.world.run(mirror)
    assert run.result is Result.SUCCESS, (run.error, run.receipts)
    assert scene.there.refs() == up.refs()
    assert (await scene.world.run(mirror)).result is Result.NOOP
    up.commit("main", {"a": b"2"})
    up.rewrite("dev")
    up.delete("refs/heads/--upload-pack=x")
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert scene.there.refs() == up.refs()


async def test_what_only_an_ssh_target_has_is_kept(scene: Scene) -> None:
    """A person's commit is fetched over ssh and kept before it is overwritten; a HEAD that leads nowhere is told."""
    scene.upstream.commit("main", {"a": b"1"}, parent=None)
    mirror = scene.world.mirror(f"{scene.base}/up.git", one=f"{scene.base}/app.git")
    await scene.world.run(mirror)
    mine = scene.there.commit("main", {"a": b"mine"})
    scene.there.head("gone")
    run = await scene.world.run(mirror)
    assert run.result is Result.SUCCESS, (run.error, run.receipts)
    assert scene.there.refs() == scene.upstream.refs()
    assert await scene.world.backups(mirror) == {MAIN: mine}
    told = "one: HEAD there leads to no branch; the default branch should be main: set it there by hand"
    assert run.remarks == (told,)


async def test_what_the_other_side_refuses_is_told(scene: Scene) -> None:
    """A refusal over ssh is the ref's, with the host's words, and the other refs arrive."""
    scene.upstream.commit("main", {"a": b"1"}, parent=None)
    scene.upstream.commit("dev", {"b": b"1"}, parent=None)
    hook = scene.there.path / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\ntest "$1" != refs/heads/dev && exit 0\necho "dev is closed" >&2\nexit 1\n')
    hook.chmod(0o755)
    run = await scene.world.run(scene.world.mirror(f"{scene.base}/up.git", one=f"{scene.base}/app.git"))
    told = receipts(run, "one")
    assert (told[MAIN].outcome, told["refs/heads/dev"].outcome) == (Outcome.DONE, Outcome.REFUSED)
    assert "dev is closed" in told["refs/heads/dev"].detail


async def test_a_missing_repository_over_ssh(scene: Scene) -> None:
    """An upstream that is gone says so over ssh, too; nothing changes."""
    run = await scene.world.run(scene.world.mirror(f"{scene.base}/gone.git", one=f"{scene.base}/app.git"))
    assert (run.result, run.code) == (Result.FAILED, "missing")
    assert scene.there.refs() == {}


async def test_lfs_objects_behind_ssh(scene: Scene) -> None:
    """A host that is reached over ssh says there where its LFS server is, and how to get in; objects go first."""
    folder = scene.world.folder / "objects"
    async with LfsHost(folder / "up") as up, LfsHost(folder / "there") as there:
        for host, name in ((up, "up.git"), (there, "app.git")):
            host.create(name)
            scene.behind(name, host)
        oid = up.put("up.git", BIG)
        scene.upstream.commit("main", {"f.bin": lfs_pointer(BIG), ".gitattributes": b"*.bin filter=lfs\n"}, parent=None)
        mirror = scene.world.mirror(f"{scene.base}/up.git", one=f"{scene.base}/app.git")
        there.refuses = True
        assert not receipts(await scene.world.run(mirror), "one")[MAIN].good
        assert scene.there.refs() == {}
        there.refuses = False
        run = await scene.world.run(mirror)
        assert run.result is Result.SUCCESS, (run.error, run.receipts)
        assert there.objects == {("app.git", oid): BIG}
        assert scene.there.refs() == scene.upstream.refs()
        assert {given for host in (up, there) for _, path, given in host.requests if path.endswith("batch")} == {PASS}


async def test_a_plain_ssh_host_has_no_lfs_server(scene: Scene) -> None:
    """Where a host knows no `git-lfs-authenticate` the next step is told, and refs that need no objects go on."""
    (scene.programs / "git-lfs-authenticate").unlink()
    first = scene.upstream.commit("dev", {"README.md": b"plain\n"}, parent=None)
    files = {"f.bin": lfs_pointer(BIG), ".gitattributes": b"*.bin filter=lfs\n"}
    scene.upstream.commit("main", files, parent=first)
    mirror = scene.world.mirror(f"{scene.base}/up.git", one=f"{scene.base}/app.git")
    told = receipts(await scene.world.run(mirror), "one")
    assert (told["lfs"].outcome, told["lfs"].code) == (Outcome.REFUSED, "unsupported")
    assert "git-lfs-authenticate" in told["lfs"].detail
    assert "set `lfs: false` to mirror pointers only" in told["lfs"].detail
    assert set(scene.there.refs()) == {"refs/heads/dev"}
