"""Many new refs at once: written as git writes them, and left to git when anything is odd."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord import failpoints
from mirrord.wire.git.cache import packed
from mirrord.wire.git.refs import Refs
from tests.support.gitcache import CacheScene, open_scene

MAIN = "refs/heads/main"
ODD = (
    *("refs/heads/a-b", "refs/heads/a.b", "refs/heads/a/b", "refs/heads/umläut", "refs/heads/\U0001f680"),
    "refs/heads/line\u2028separator",
)


@pytest.fixture(autouse=True)
def _many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one ref be many."""
    monkeypatch.setattr(packed, "MANY", 1)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[CacheScene]:
    async with open_scene(tmp_path) as made:
        made.fill()
        yield made


async def seen(scene: CacheScene) -> Refs:
    return Refs(scene.upstream.refs(), MAIN)


async def first(scene: CacheScene) -> None:
    """Fetch and adopt as the first run of a mirror does."""
    await scene.cache.prepare()
    await scene.cache.fetch(scene.address, await seen(scene))
    await scene.cache.adopt(scene.upstream.refs(), MAIN, {}, "20240517T120000Z")


def peeled(folder: Path) -> list[str]:
    """Return what git makes of the refs there, tags peeled, and the order in which it has them."""
    command = ["git", "-C", str(folder), "show-ref", "-d"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")


async def test_a_first_mirror_makes_no_file_for_a_ref(scene: CacheScene) -> None:
    """Fetched by id and written at once: git reads the refs and peeled tags that upstream has, none is loose."""
    for name in ODD:
        scene.upstream.set(name, scene.upstream.refs()[MAIN])
    await first(scene)
    assert (await scene.cache.incoming()).refs == scene.upstream.refs()
    assert (await scene.cache.served()).refs == scene.upstream.refs()
    assert not [path for path in (scene.cache.folder / "refs").rglob("*") if path.is_file()]
    served = [line for line in peeled(scene.cache.folder) if "mirrord" not in line]
    assert served == peeled(scene.upstream.path)
    assert not any(args[0] in ("update-ref", "pack-refs") for args in scene.git.ran)
    assert scene.whole()


async def test_git_goes_on_with_what_was_written(scene: CacheScene) -> None:
    """Updates, deletions, new packing and a second fetch by git find every ref where it belongs."""
    await first(scene)
    scene.upstream.commit("main", {"README.md": b"three\n"})
    scene.upstream.delete("refs/tags/v1")
    await scene.turn()
    assert (await scene.cache.served()).refs == scene.upstream.refs()
    await scene.git.run(["pack-refs", "--all"], folder=scene.cache.folder)
    assert (await scene.cache.served()).refs == scene.upstream.refs()
    assert scene.whole()


async def test_an_upstream_that_moves_meanwhile_is_fetched_as_it_is(scene: CacheScene) -> None:
    """What was seen and is no longer given is no error: git fetches what there is now."""
    before = await seen(scene)
    scene.upstream.replace()
    await scene.cache.prepare()
    lost = Refs({**before.refs, "refs/heads/gone": "1" * 40}, MAIN)
    await scene.cache.fetch(scene.address, lost)
    assert (await scene.cache.incoming()).refs == scene.upstream.refs()


async def test_a_branch_that_is_no_commit_is_left_to_git(scene: CacheScene) -> None:
    """Git refuses a branch that points to a tag, and so it is not written past git."""
    await first(scene)
    tag = scene.upstream.refs()["refs/tags/v2"]
    assert not await scene.cache._add({"refs/heads/odd": tag})
    assert not await scene.cache._add({"refs/heads/odd": "1" * 40})
    assert await scene.cache._add({"refs/heads/fine": scene.upstream.refs()[MAIN]})


@pytest.mark.parametrize(
    "there",
    [
        *("refs/heads/x/y", "refs/heads/x", "refs/heads/x/y/z"),
        *("loose refs/heads/x/y", "loose refs/heads/x", "loose refs/heads/x/y/z", "lock", "header"),
    ],
)
def test_what_is_in_the_way_is_left_to_git(tmp_path: Path, there: str) -> None:
    """A name that is taken, or a folder of another, in the file or beside it; a lock; an unknown file: untouched."""
    file, oid = tmp_path / "packed-refs", "1" * 40
    head = "# pack-refs with: peeled fully-peeled sorted \n"
    kind, _, name = there.rpartition(" ")
    file.write_text(head if kind or there == "lock" else f"{head}{oid} {name}\n")
    if there == "header":
        file.write_text(f"# pack-refs with: peeled \n{oid} refs/heads/z\n")
    elif there == "lock":
        (tmp_path / "packed-refs.lock").write_text("somebody's")
    elif kind:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(f"{oid}\n")
    before = file.read_text()
    assert not packed.add(tmp_path, {"refs/heads/x/y": oid, "refs/heads/free": oid}, {})
    assert file.read_text() == before
    assert (tmp_path / "packed-refs.lock").exists() == (there == "lock")


def test_what_stands_beside_is_not_in_the_way(tmp_path: Path) -> None:
    """Names that only begin alike, and other folders, do not conflict; old entries stay with their peeled lines."""
    file, oid, other = tmp_path / "packed-refs", "1" * 40, "2" * 40
    head = "# pack-refs with: peeled fully-peeled sorted \n"
    file.write_text(f"{head}{oid} refs/heads/x-y\n{oid} refs/tags/v1\n^{other}\n")
    (tmp_path / "refs" / "heads" / "x").mkdir(parents=True)
    (tmp_path / "refs" / "heads" / "x" / "z").write_text(f"{oid}\n")
    assert packed.add(tmp_path, {"refs/heads/x/y": oid, "refs/tags/v0": oid}, {"refs/tags/v0": other})
    assert file.read_text() == (
        f"{head}{oid} refs/heads/x-y\n{oid} refs/heads/x/y\n"
        f"{oid} refs/tags/v0\n^{other}\n{oid} refs/tags/v1\n^{other}\n"
    )


def test_a_crash_leaves_the_old_file(tmp_path: Path) -> None:
    """Stopped before the new file takes its place, the old one is there and the lock is gone."""
    file, oid = tmp_path / "packed-refs", "1" * 40
    file.write_text(f"# pack-refs with: peeled fully-peeled sorted \n{oid} refs/heads/x\n")
    before = file.read_text()

    def stop() -> None:
        raise KeyboardInterrupt

    failpoints.arm("git.packed", stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            packed.add(tmp_path, {"refs/heads/y": oid}, {})
    finally:
        failpoints.disarm()
    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["packed-refs"]
