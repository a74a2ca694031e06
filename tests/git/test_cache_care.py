"""Packs, loose refs, and the monthly look: care that costs nothing while nothing is due."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirrord.errors import MirrordError, StorageError
from mirrord.wire.git.cache import maintenance
from mirrord.wire.git.cache.bare import Sizes, sizes
from mirrord.wire.git.cache.maintenance import CHECKED, DAYS, check, day_of, maintain
from tests.support.gitcache import CacheScene, open_scene
from tests.support.gitcontent import fill

DEV = "refs/heads/dev"
FIRST = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[CacheScene]:
    """Give a cache in good order that was looked at this month."""
    async with open_scene(tmp_path) as made:
        made.fill()
        await made.turn()
        (made.cache.folder / CHECKED).write_text("2024-05")
        made.git.ran.clear()
        yield made


def due(scene: CacheScene, month: int = 6) -> datetime:
    return FIRST.replace(month=month, day=day_of(scene.cache.folder.name))


def commands(scene: CacheScene) -> list[str]:
    return [ran[0] for ran in scene.git.ran]


def unpack(scene: CacheScene) -> None:
    """Turn packs into loose objects, as other ways to fetch leave them."""
    for pack in (scene.cache.folder / "objects" / "pack").glob("*.pack"):
        data = pack.read_bytes()
        for file in pack.parent.glob(f"{pack.stem}.*"):
            file.unlink()
        scene.there.git("unpack-objects", "-q", stdin=data)


async def test_nothing_due_starts_no_process(scene: CacheScene) -> None:
    """A small cache that was looked at this month needs nothing."""
    await maintain(scene.git, scene.cache, due(scene, 5) + timedelta(days=1))
    assert scene.git.ran == []


async def test_many_packs_become_few(scene: CacheScene) -> None:
    """More than twenty packs are rolled up geometrically, and nothing is lost, backups included."""
    old = scene.upstream.refs()[DEV]
    scene.upstream.rewrite("dev", {"dev.txt": b"rewritten\n"})
    await scene.turn({DEV: old})
    for number in range(maintenance.PACKS + 1):
        scene.upstream.commit("main", {"n": os.urandom(100) * (number + 1)})
        await scene.turn()
        scene.there.git("-c", "repack.writeBitmaps=false", "repack", "-dq")
    before = sizes(scene.cache.folder)
    scene.git.ran.clear()
    await maintain(scene.git, scene.cache, FIRST)
    after = sizes(scene.cache.folder)
    assert before.packs > maintenance.PACKS
    assert after.packs <= 3
    assert commands(scene) == ["repack"]
    assert scene.there.git("cat-file", "-t", old) == "commit\n"
    assert scene.whole()
    scene.git.ran.clear()
    await maintain(scene.git, scene.cache, FIRST)
    assert commands(scene) == []
    scene.upstream.commit("main", {"n": b"after"})
    await scene.turn()
    assert scene.whole()


async def test_many_loose_objects_and_refs_are_packed(scene: CacheScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files by the thousand make git slow: objects go into packs, refs into one file; all stay what they are."""
    monkeypatch.setattr(maintenance, "LOOSE", 3)
    monkeypatch.setattr(maintenance, "LOOSE_REFS", 3)
    unpack(scene)
    before = await scene.cache.refs()
    scene.git.ran.clear()
    await maintain(scene.git, scene.cache, FIRST)
    assert commands(scene) == ["pack-refs", "repack"]
    found = sizes(scene.cache.folder)
    assert (found.loose, found.refs) == (0, 0)
    assert found.packs == 1
    assert await scene.cache.refs() == before
    assert scene.whole()


async def test_once_a_month_every_object_is_looked_at(scene: CacheScene) -> None:
    """On its own day, or the next run after that, and once; what nothing refers to goes after two weeks."""
    lost = scene.there.git("hash-object", "-w", "--stdin", stdin=b"nobody's\n").strip()
    day = due(scene)
    old = (day - timedelta(days=15)).timestamp()
    file = scene.cache.folder / "objects" / lost[:2] / lost[2:]
    os.utime(file, (old, old))
    for number in range(1, 29):
        now = FIRST.replace(month=6, day=number)
        await maintain(scene.git, scene.cache, now)
    assert commands(scene) == ["fsck", "gc"]
    assert not file.exists()
    assert (scene.cache.folder / CHECKED).read_text() == "2024-06"
    await maintain(scene.git, scene.cache, due(scene, 7) + timedelta(hours=5))
    assert Counter(commands(scene)) == {"fsck": 2, "gc": 2}
    assert scene.whole()


async def test_what_was_dropped_upstream_is_no_work_for_ever(
    scene: CacheScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects of a force-pushed branch wait for their end in one pack, and packing goes on around them."""
    monkeypatch.setattr(maintenance, "LOOSE", 3)
    fill(scene.upstream, 3, 1 << 12, commits=20)
    await scene.turn()
    scene.upstream.replace()
    await scene.turn()
    await maintain(scene.git, scene.cache, due(scene).replace(year=2020))
    assert sizes(scene.cache.folder).loose == 0
    assert len(list(scene.cache.folder.glob("objects/pack/*.mtimes"))) == 1
    for number in range(maintenance.PACKS + 1):
        scene.upstream.commit("main", {"n": b"%d" % number})
        await scene.turn()
    scene.git.ran.clear()
    await maintain(scene.git, scene.cache, FIRST)
    await maintain(scene.git, scene.cache, FIRST)
    assert commands(scene) == ["repack"]
    assert sizes(scene.cache.folder).packs <= 3
    assert scene.whole()


async def test_what_may_still_be_read_is_not_dropped(scene: CacheScene) -> None:
    """Objects that nothing refers to stay for two weeks: a client may be in the middle of a clone."""
    lost = scene.there.git("hash-object", "-w", "--stdin", stdin=b"nobody's\n").strip()
    file = scene.cache.folder / "objects" / lost[:2] / lost[2:]
    young = (due(scene) - timedelta(days=13)).timestamp()
    os.utime(file, (young, young))
    await maintain(scene.git, scene.cache, due(scene))
    assert scene.there.git("cat-file", "-p", lost) == "nobody's\n"


def test_the_days_are_spread_and_stay() -> None:
    """A hundred mirrors are due on many days that every month has, each on the same one always."""
    days = [day_of(f"mirror-{number}.git") for number in range(100)]
    assert days == [day_of(f"mirror-{number}.git") for number in range(100)]
    assert set(days) <= set(range(1, DAYS + 1))
    assert max(Counter(days).values()) < 15
    assert len(set(days)) > DAYS // 2


async def test_a_sound_cache_passes(scene: CacheScene) -> None:
    """A look at every object of a good repository finds nothing, also when HEAD's branch does not exist."""
    await scene.cache.point("refs/heads/unborn")
    await check(scene.git, scene.cache)


async def test_damaged_indexes_are_no_damage(scene: CacheScene) -> None:
    """Commit-graph and multi-pack-index hold nothing of their own: they are no reason to fetch everything again."""
    scene.there.git("repack", "-adq", "--write-midx")
    scene.there.git("commit-graph", "write", "--reachable")
    for name in ("info/commit-graph", "pack/multi-pack-index"):
        file = scene.cache.folder / "objects" / name
        data = bytearray(file.read_bytes())
        data[-1] ^= 0xFF
        file.chmod(0o644)
        file.write_bytes(data)
    await check(scene.git, scene.cache)


async def test_trouble_that_is_no_damage_is_told_as_it_is(scene: CacheScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk during a repack condemns no repository."""
    real = scene.git.run

    async def full(args: list[str], **options: object) -> object:
        if args[0] == "repack":
            raise StorageError("the disk is full")
        return await real(args, **options)

    monkeypatch.setattr(maintenance, "LOOSE", 3)
    unpack(scene)
    monkeypatch.setattr(scene.git, "run", full)
    with pytest.raises(MirrordError, match="the disk is full"):
        await maintain(scene.git, scene.cache, FIRST)
    assert (await scene.cache.incoming()).refs


def test_what_is_not_there_has_no_size(tmp_path: Path) -> None:
    """A repository that does not exist counts nothing."""
    assert sizes(tmp_path / "nowhere") == Sizes(0, 0, 0, 0)
