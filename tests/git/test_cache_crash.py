"""A cache whose process is killed at any durable step: the next run ends where an undisturbed one does (F4)."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.errors import BusyError
from mirrord.wire.git.cache import bare
from mirrord.wire.git.cache.repository import BackupRef
from tests.support.gitcache import STAMP, CacheScene, open_scene
from tests.support.gitcontent import fill

MAIN, DEV = "refs/heads/main", "refs/heads/dev"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[CacheScene]:
    """Give a cache in good order, and an upstream that swapped `dev` for `dev/x` and went on since then."""
    async with open_scene(tmp_path) as made:
        made.fill()
        await made.turn()
        made.upstream.delete(DEV)
        made.upstream.commit("dev/x", {"x": b"x\n"}, parent=None)
        made.upstream.commit("main", {"README.md": b"three\n"})
        yield made


def kill_while_indexing(scene: CacheScene) -> None:
    """Feed half of what upstream has to the program that writes packs, and kill it."""
    listed = scene.upstream.git("rev-list", "--objects", "--all").encode()
    words = ["git", "-C", str(scene.upstream.path), "pack-objects", "--stdout", "-q"]
    pack = subprocess.run(words, input=listed, capture_output=True, check=True).stdout
    words = ["git", "-C", str(scene.cache.folder), "index-pack", "--stdin", "--fix-thin", "--keep"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        child.stdin.write(pack[: len(pack) // 2])  # far more than a pipe holds: most of it was read
        child.kill()


async def test_git_of_a_killed_mirrord_is_waited_for(
    scene: CacheScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a real kill -9, git hangs at a slow host: the next run is busy while it does, and works when it ended."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/app.git"
        words = (str(tmp_path), url, "git.fetched", DEV, "")
        child = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.support.gitcache", *words)
        connection, _ = await asyncio.get_running_loop().sock_accept(silent)
    with connection:
        child.kill()
        assert await child.wait() == -signal.SIGKILL
        monkeypatch.setattr(bare, "VACATED", 0.2)
        with pytest.raises(BusyError, match=r"git of an earlier run, which was killed, still works in .*app\.git"):
            await scene.renewed().fetch()
        monkeypatch.undo()
    await scene.renewed().turn()
    assert (await scene.cache.served()).refs == scene.upstream.refs()
    assert scene.whole()


@pytest.mark.parametrize("stop", ["git.fetched", "git.backed_up", "git.adopted"])
async def test_f4_a_kill_converges(scene: CacheScene, tmp_path: Path, stop: str) -> None:
    """Whatever step was the last one, a backup is there before a served ref is lost; the next run does the rest."""
    old = (await scene.cache.served()).refs
    words = (str(tmp_path), scene.host.url("app.git"), stop, DEV, old[DEV])
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.support.gitcache", *words)
    assert await child.wait() == 137
    served = (await scene.cache.served()).refs
    backups = {(one.ref, one.oid) for one in await scene.cache.backups()}
    assert served == old or (DEV, old[DEV]) in backups
    await scene.turn({DEV: old[DEV]})
    assert (await scene.cache.served()).refs == scene.upstream.refs()
    assert await scene.cache.backups() == (BackupRef(STAMP, DEV, old[DEV]),)
    assert scene.whole()


async def test_f4_a_kill_between_the_two_transactions_of_a_swap_converges(
    scene: CacheScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dev` is gone and `dev/x` not yet there: the backup is, and the next run creates what is missing."""
    old = (await scene.cache.served()).refs[DEV]
    real, calls = type(scene.cache).update, []

    async def stopped(*words: object, **options: object) -> None:
        calls.append(words)
        if len(calls) == 3:  # backups, what stands in the way, the rest
            raise KeyError("killed")
        await real(*words, **options)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(type(scene.cache), "update", stopped)
    with pytest.raises(KeyError, match="killed"):
        await scene.turn({DEV: old})
    monkeypatch.undo()
    served = (await scene.cache.served()).refs
    assert DEV not in served
    assert f"{DEV}/x" not in served
    assert [one.oid for one in await scene.cache.backups()] == [old]
    await scene.turn()
    assert (await scene.cache.served()).refs == scene.upstream.refs()


async def test_f4_f40_git_killed_in_the_middle_of_a_fetch_leaves_nothing_behind(scene: CacheScene) -> None:
    """Half a pack on the disk (41 MB in one try) is swept, no ref has moved, and the next run has it all (F40)."""
    before = await scene.cache.refs()
    fill(scene.upstream, 5, 2 << 20, commits=5)
    folder = scene.cache.folder / "objects" / "pack"
    kill_while_indexing(scene)
    assert list(folder.glob("tmp_pack_*"))
    assert await scene.cache.refs() == before
    await scene.turn()
    assert (await scene.cache.served()).refs == scene.upstream.refs()
    assert not list(folder.glob("tmp_*"))
    assert scene.whole()
