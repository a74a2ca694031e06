"""A whole run over ssh, to and from a real sshd on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirrord.model import Outcome, Result
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.gitworld import GitWorld, open_git_world, receipts
from mirrord.testing.sshhost import SSHD, SshHost
from mirrord.wire.host import HostBook, HostPolicy

MAIN = "refs/heads/main"
pytestmark = pytest.mark.skipif(not SSHD, reason="needs sshd")


@dataclass(slots=True)
class Scene:
    """A world that knows an ssh host, and where its repositories are."""

    world: GitWorld
    upstream: Upstream
    there: Upstream
    base: str


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Run sshd for our own user, with keys of its own."""
    async with SshHost(tmp_path / "ssh") as host:
        policy = HostPolicy(host.host, ssh_key=str(host.key), known_hosts=str(host.known_hosts))
        up, there = (Upstream(host.create(name)) for name in ("up.git", "app.git"))
        async with open_git_world(tmp_path / "state", book=HostBook({host.host: policy})) as world:
            yield Scene(world, up, there, host.url("").rstrip("/"))


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
