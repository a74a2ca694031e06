"""A new blob costs the same however many are kept, read, or lie there from earlier: looks at entries are counted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrord.blobs.cache import AT_ONCE, SpoolCache
from mirrord.blobs.idle import CacheEntry
from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source import BlobSource
from mirrord.errors import StorageError
from mirrord.events import Events
from mirrord.model.digest import Digest
from tests.blobs.test_spool import MIB, Source, data_of, drain

SIZE = 100


class Looks:
    """Counts how often an entry is looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("idle", "stored", "alone"):
            monkeypatch.setattr(CacheEntry, name, property(self._counted(getattr(CacheEntry, name).fget)))

    def _counted(self, get: Callable[[CacheEntry], object]) -> Callable[[CacheEntry], object]:
        def counted(entry: CacheEntry) -> object:
            self.count += 1
            return get(entry)

        return counted


def swept(folder: Path, count: int, budget: int, room: int = 1 << 40) -> SpoolPool:
    """Return a pool that an earlier process left many blobs."""
    for number in range(count):
        (folder / f"sha256-{number:064x}").write_bytes(bytes(SIZE))
    pool = SpoolPool(folder, budget, Events(), 0.02, room=lambda: room)
    pool.cache.sweep()
    return pool


@pytest.mark.parametrize("full", [False, True], ids=["room", "full"])
async def test_many_kept(full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside ten and beside two thousand that are kept a new blob costs the same, also when each has to make room."""
    counts = []
    for many in (10, 2000):
        (folder := tmp_path / str(many)).mkdir()
        pool, looks = swept(folder, many, many * SIZE if full else MIB), Looks(monkeypatch)
        for seed in range(5):
            source = Source(data_of(SIZE, seed + 1))
            assert await drain(pool, source.wanted()) == source.data
        counts.append(looks.count)
        monkeypatch.undo()
        assert len(list(folder.iterdir())) == (many if full else many + 5)
    assert max(counts) <= 30


async def test_many_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new blob looks at none of those that are being read."""
    cache, counts = SpoolCache(tmp_path, 1 << 40, lambda: 1 << 40), []
    looks = Looks(monkeypatch)
    for number in range(1000):
        source = BlobSource(Digest(f"sha256:{number:064x}"), SIZE)
        before = looks.count
        assert cache.has_room(source)
        entry = cache.begin(source, lambda _: None)
        entry.spool.written = SIZE
        entry.holders.add(None)  # type: ignore[arg-type]  # somebody
        cache.settle(entry)
        counts.append(looks.count - before)
    assert max(counts) <= 10
    assert cache.used == 1000 * SIZE


async def test_many_that_the_store_has_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full, those whose bytes have another name are not all looked at again for each new blob."""
    (folder := tmp_path / "spool").mkdir()
    (tmp_path / "store").mkdir()
    pool = swept(folder, 1000, MIB, room=0)
    for file in folder.iterdir():
        os.link(file, tmp_path / "store" / file.name)
    looks, counts = Looks(monkeypatch), []
    for seed in range(20):
        before = looks.count
        with pytest.raises(StorageError):
            await drain(pool, Source(data_of(SIZE, seed)).wanted())
        counts.append(looks.count - before)
    assert max(counts[3:]) <= 110
    assert len(list(folder.iterdir())) == 1000


async def test_what_the_store_has_lost_makes_room(tmp_path: Path) -> None:
    """A blob whose other name went meanwhile is dropped for a new one, after all."""
    (folder := tmp_path / "spool").mkdir()
    (folder / f"sha256-{0:064x}").write_bytes(bytes(SIZE))
    os.link(folder / f"sha256-{0:064x}", tmp_path / "store")
    pool = SpoolPool(folder, MIB, Events(), 0.02, room=lambda: 0 if any(folder.glob("*0")) else SIZE)
    pool.cache.sweep()
    source = Source(data_of(SIZE))
    with pytest.raises(StorageError):
        await drain(pool, source.wanted())
    (tmp_path / "store").unlink()
    assert await drain(pool, source.wanted()) == source.data
    assert [file.name for file in folder.iterdir()] == [f"sha256-{Digest.of(source.data).hex}"]


async def test_many_that_go_at_once(tmp_path: Path) -> None:
    """A blob that takes the room of thousands lets others go on meanwhile, and gets it all the same."""
    many = 3 * AT_ONCE
    pool = swept(tmp_path, many, many * SIZE)
    source = Source(data_of(many * SIZE))
    pool.cache.has_room(source.wanted())
    assert len(list(tmp_path.iterdir())) == many - AT_ONCE
    assert await drain(pool, source.wanted()) == source.data
    assert len(list(tmp_path.iterdir())) == 1


async def test_the_one_used_longest_ago_goes_first(tmp_path: Path) -> None:
    """Reading a blob again makes it the last to go."""
    pool = SpoolPool(tmp_path, 3 * SIZE, Events())
    sources = [Source(data_of(SIZE, seed)) for seed in range(4)]
    for number in (0, 1, 2, 0, 3):
        await drain(pool, sources[number].wanted())
    assert pool.cache.find(sources[1].wanted()) is None
    assert pool.cache.find(sources[0].wanted()) is not None
