"""The damage table of a cache (research/git.md §2.6), row by row: real damage, and the next run is well again."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirrord.errors import BrokenError, ContentError, MirrordError, StorageError
from mirrord.wire.git.cache import repair
from mirrord.wire.git.cache.maintenance import CHECKED, check, maintain
from mirrord.wire.git.cache.repair import DAMAGED
from tests.support.gitcache import STAMP, CacheScene, open_scene

MAIN, DEV = "refs/heads/main", "refs/heads/dev"
Harm = Callable[[Path], object]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[CacheScene]:
    """Give a cache in good order: packed, with a backup that upstream has no more, a held ref and foreign files."""
    async with open_scene(tmp_path) as made:
        made.fill()
        await made.turn()
        old = made.upstream.refs()[DEV]
        made.upstream.rewrite("dev", {"dev.txt": b"rewritten\n"})
        await made.turn({DEV: old})
        await made.cache.hold({"refs/heads/kept": old})
        made.there.git("repack", "-adq")
        made.there.git("pack-refs", "--all")
        (made.cache.folder / "lfs").mkdir()
        (made.cache.folder / "lfs" / "object").write_bytes(b"large")
        yield made


def pack(folder: Path, kind: str = "pack") -> Path:
    (found,) = (folder / "objects" / "pack").glob(f"*.{kind}")
    found.chmod(0o644)
    return found


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def zeros(path: Path) -> None:
    put(path, bytes(41))


def empty(path: Path) -> None:
    put(path, b"")


def truncate(folder: Path) -> None:
    data = pack(folder).read_bytes()
    pack(folder).write_bytes(data[: len(data) // 2])


def cut_packed_refs(folder: Path) -> None:
    file = folder / "packed-refs"
    file.write_bytes(file.read_bytes()[:-30])


def blank_packed_refs(folder: Path) -> None:
    file = folder / "packed-refs"
    file.write_bytes(file.read_bytes()[:60] + bytes(100))


HEALED_BY_SWEEPING: dict[str, Harm] = {
    "ref-lock": lambda folder: empty(folder / "refs/mirrord/incoming/heads/main.lock"),
    "served-ref-lock": lambda folder: empty(folder / "refs/heads/main.lock"),
    "packed-refs-lock": lambda folder: empty(folder / "packed-refs.lock"),
    "packed-refs-new": lambda folder: empty(folder / "packed-refs.new"),
    "head-lock": lambda folder: empty(folder / "HEAD.lock"),
    "config-lock": lambda folder: empty(folder / "config.lock"),
    "fetch-head-lock": lambda folder: empty(folder / "FETCH_HEAD.lock"),
    "shallow-lock": lambda folder: empty(folder / "shallow.lock"),
    "commit-graph-lock": lambda folder: empty(folder / "objects/info/commit-graphs/commit-graph-chain.lock"),
    "midx-lock": lambda folder: empty(folder / "objects/pack/multi-pack-index.lock"),
    "gc-pid": lambda folder: empty(folder / "gc.pid"),
    "tmp-pack": lambda folder: zeros(folder / "objects/pack/tmp_pack_x1"),
    "tmp-idx": lambda folder: zeros(folder / "objects/pack/.tmp-1-pack-x.idx"),
    "tmp-object": lambda folder: zeros(folder / "objects/aa/tmp_obj_x1"),
    "tmp-folder": lambda folder: zeros(folder / "objects/tmp_objdir-incoming-x/pack/x"),
    "pack-keep": lambda folder: empty(pack(folder).with_suffix(".keep")),
    "empty-ref": lambda folder: empty(folder / "refs/mirrord/incoming/heads/main"),
    "zeroed-ref": lambda folder: zeros(folder / "refs/mirrord/incoming/heads/dev"),
    "garbage-ref": lambda folder: put(folder / "refs/mirrord/incoming/heads/dev", b"garbage\n"),
    "null-ref": lambda folder: put(folder / "refs/heads/dev", b"0" * 40),
    "empty-head": lambda folder: empty(folder / "HEAD"),
    "garbage-head": lambda folder: put(folder / "HEAD", b"ref: refs/heads/..\n"),
    "no-head": lambda folder: (folder / "HEAD").unlink(),
    "empty-config": lambda folder: empty(folder / "config"),
    "no-refs-folder": lambda folder: (folder / "refs").rename(folder / "gone"),
    "lost-index": lambda folder: pack(folder, "idx").unlink(),
}
FETCHED_AGAIN: dict[str, Harm] = {
    "cut-packed-refs": cut_packed_refs,
    "zeroed-packed-refs": blank_packed_refs,
    "empty-packed-refs": lambda folder: empty(folder / "packed-refs"),
    "truncated-pack": truncate,
    "lost-pack": lambda folder: pack(folder).unlink(),
    "no-objects": lambda folder: (folder / "objects").rename(folder / "gone"),
    "no-folder": lambda folder: folder.rename(folder.parent / "gone"),
}


def leftovers(folder: Path) -> list[str]:
    stray = re.compile(r"\.(?:lock|new|keep|again|damaged)$|tmp|gc\.pid")
    return [str(path) for path in folder.parent.rglob("*") if stray.search(path.name)]


def next_commit(scene: CacheScene) -> str:
    return scene.upstream.commit("main", {"README.md": b"after the damage\n"})


@pytest.mark.parametrize("harm", HEALED_BY_SWEEPING.values(), ids=HEALED_BY_SWEEPING)
async def test_what_a_crash_leaves_is_put_right_in_place(scene: CacheScene, harm: Harm) -> None:
    """Locks, leftovers, unreadable refs, an empty HEAD: the next run loses nothing and fetches nothing twice."""
    before = await scene.cache.refs()
    harm(scene.cache.folder)
    tip = next_commit(scene)
    scene.git.ran.clear()
    await scene.turn()
    assert await scene.cache.refs() == {
        **before,
        MAIN: tip,
        "refs/mirrord/incoming/heads/main": tip,
    }
    assert (await scene.cache.served()).head == MAIN
    assert leftovers(scene.cache.folder) == []
    assert [ran[0] for ran in scene.git.ran].count("fetch") == 1
    assert scene.whole()


@pytest.mark.parametrize("harm", FETCHED_AGAIN.values(), ids=FETCHED_AGAIN)
async def test_what_is_lost_is_fetched_again(scene: CacheScene, harm: Harm) -> None:
    """A pack cut short or lost, refs lost: after one run everything is as upstream has it, and sound."""
    harm(scene.cache.folder)
    next_commit(scene)
    await scene.turn()
    assert (await scene.cache.served()).refs == (await scene.cache.incoming()).refs == scene.upstream.refs()
    assert leftovers(scene.cache.folder) == []
    assert scene.whole()


def rot(scene: CacheScene, oid: str) -> None:
    """Flip the bits of one byte in the middle of an object, as a bad disk does."""
    told = scene.there.git("verify-pack", "-v", str(pack(scene.cache.folder, "idx"))).splitlines()
    (line,) = (line.split() for line in told if line.startswith(oid))
    data = bytearray(pack(scene.cache.folder).read_bytes())
    data[int(line[4]) + int(line[3]) // 2] ^= 0xFF
    pack(scene.cache.folder).write_bytes(data)


def month(scene: CacheScene, number: int) -> datetime:
    return datetime(2024, number, 28, 12, tzinfo=UTC)


async def test_bit_rot_is_found_by_the_monthly_look_and_healed(scene: CacheScene) -> None:
    """A fetch does not see a bit that flipped; the look at every object does, and the next run begins anew.

    What only the damaged repository had is carried over where it is whole: backups, held refs, foreign files.
    """
    before = await scene.cache.refs()
    rot(scene, scene.upstream.git("rev-parse", "v1:README.md").strip())
    tip = next_commit(scene)
    await scene.fetch()
    (scene.cache.folder / CHECKED).write_text("2024-05")
    await maintain(scene.git, scene.cache, month(scene, 5))
    with pytest.raises(ContentError, match="damaged"):
        await maintain(scene.git, scene.cache, month(scene, 6))
    assert (await scene.cache.incoming()).refs == {}, "the next run has to fetch, even if upstream rests"
    assert (scene.cache.folder / DAMAGED).exists()
    await scene.turn()
    assert await scene.cache.refs() == {**before, MAIN: tip, "refs/mirrord/incoming/heads/main": tip}
    assert (scene.cache.folder / "lfs" / "object").read_bytes() == b"large"
    assert not (scene.cache.folder / DAMAGED).exists()
    assert leftovers(scene.cache.folder) == []
    await maintain(scene.git, scene.cache, month(scene, 6))
    assert scene.whole()


async def test_a_backup_that_rotted_is_given_up_and_no_other(scene: CacheScene) -> None:
    """What is damaged and upstream has no more is gone; the other backups survive."""
    tip = scene.upstream.refs()[MAIN]
    only = scene.upstream.commit("topic", {"topic": b"only here\n"}, parent=tip)
    await scene.turn()
    scene.upstream.delete("refs/heads/topic")
    await scene.turn({"refs/heads/topic": only}, "20240601T000000Z")
    scene.there.git("repack", "-adq")
    rot(scene, scene.there.git("rev-parse", f"{only}:topic").strip())
    with pytest.raises(ContentError):
        await check(scene.git, scene.cache)
    await scene.turn()
    assert [one.ref for one in await scene.cache.backups()] == [DEV]
    assert "refs/heads/kept" in await scene.cache.held()
    assert scene.whole()


async def test_a_default_branch_that_nobody_has_is_not_given_up(scene: CacheScene) -> None:
    """Damage here and a replaced upstream at once: everything stays as it is, and people are told what to do."""
    rot(scene, scene.upstream.git("rev-parse", "main:README.md").strip())
    scene.upstream.replace()
    with pytest.raises(ContentError):
        await check(scene.git, scene.cache)
    served = await scene.cache.served()
    with pytest.raises(ContentError, match=r"no longer has what was served as refs/heads/main; .*remove that folder"):
        await scene.fetch()
    assert await scene.cache.served() == served
    assert leftovers(scene.cache.folder) == []


async def test_a_damaged_cache_stays_while_upstream_is_away(scene: CacheScene) -> None:
    """Beginning anew needs upstream; without it nothing is thrown away, and the next run tries again."""
    before = await scene.cache.served()
    rot(scene, scene.upstream.git("rev-parse", "v1:README.md").strip())
    with pytest.raises(ContentError):
        await check(scene.git, scene.cache)
    scene.host.faults.on("*", "", times=None).status(503)
    with pytest.raises(MirrordError):
        await scene.fetch()
    assert await scene.cache.served() == before
    scene.host.faults.clear()
    await scene.turn()
    assert scene.whole()
    assert (await scene.cache.served()).refs == scene.upstream.refs()


async def test_a_damaged_upstream_does_not_cost_our_copy(scene: CacheScene) -> None:
    """Upstream lacks an object: the fetch fails, every time, and what is here stays (as a real one did)."""
    tip = next_commit(scene)
    blob = scene.upstream.git("rev-parse", f"{tip}:README.md").strip()
    (scene.upstream.path / "objects" / blob[:2] / blob[2:]).unlink()
    before = await scene.cache.refs()
    scene.git.ran.clear()
    with pytest.raises((ContentError, BrokenError)):
        await scene.fetch()
    assert await scene.cache.refs() == before
    assert [ran[0] for ran in scene.git.ran].count("fetch") == 1
    assert scene.whole()


@pytest.mark.parametrize("stage", ["placed aside", "placed", "moved in"])
async def test_a_swap_cut_short_is_finished(scene: CacheScene, stage: str) -> None:
    """Killed while the new repository takes its place: the next run finds one of the two whole, and no leftover."""
    folder, anew = scene.cache.folder, repair.again(scene.cache.folder)
    before = await scene.cache.refs()
    scene.there.git("clone", "-q", "--mirror", str(folder), str(anew))
    for name, oid in before.items():
        scene.upstream.git("--git-dir", str(anew), "update-ref", name, oid)
    damaged = folder.with_name(f"{folder.name}.damaged")
    if stage != "placed aside":
        folder.rename(damaged)
    if stage == "moved in":
        anew.rename(folder)
    await scene.turn()
    assert await scene.cache.refs() == before
    assert (folder / "lfs" / "object").exists()
    assert leftovers(folder) == []
    assert scene.whole()


async def test_a_disk_that_says_no_is_told_as_such(scene: CacheScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operating system refuses is an error of storage that names the folder."""

    def refuse(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(repair, "_content", refuse)
    with pytest.raises(StorageError, match=r"app\.git: Input/output error"):
        await scene.cache.prepare()


async def test_damage_that_a_repack_meets_is_verified(scene: CacheScene) -> None:
    """A repack that cannot read an object has every object looked at, out of turn."""
    (scene.cache.folder / CHECKED).write_text("2024-06")
    for number in range(22):
        scene.upstream.commit("main", {"n": b"%d" % number})
        await scene.fetch()
        scene.there.git("-c", "repack.writeBitmaps=false", "repack", "-dq")
    rotten = max((scene.cache.folder / "objects" / "pack").glob("*.pack"), key=lambda file: file.stat().st_size)
    rotten.chmod(0o644)
    data = bytearray(rotten.read_bytes())
    data[20:60] = bytes(40)
    rotten.write_bytes(data)
    with pytest.raises(ContentError, match="all of it is fetched again"):
        await maintain(scene.git, scene.cache, month(scene, 6))
    await scene.turn({}, STAMP)
    assert scene.whole()
