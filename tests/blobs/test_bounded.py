"""The store within a size: what goes first, what never goes, and totals that are right at every moment."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from pathlib import Path

import pytest

from mirrord.blobs import eviction
from mirrord.blobs.bounded import BoundedStore
from mirrord.blobs.eviction import JUST
from mirrord.errors import StorageError
from mirrord.model.digest import Digest

KIB = 1 << 10
DAY = 86_400.0


class Scene:
    """A store, a disk with some room, and a clock that a test turns."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.room, self.now = folder, 1 << 40, 1e9
        self.gone: list[Digest] = []
        self.store = self.again()

    def again(self) -> BoundedStore:
        """Return the store as another process would open it."""
        return BoundedStore(
            self.folder / "blobs",
            lambda: self.room,
            removing=self.gone.append,
            clock=lambda: self.now,
        )

    async def put(self, *seeds: int, size: int = KIB) -> list[Digest]:
        """Put some contents, each an hour after the one before."""
        digests = []
        for seed in seeds:
            self.now += 3600.0
            digests.append(digest := digest_of(seed, size))
            await self.store.put(digest, data_of(seed, size))
        return digests

    def du(self) -> int:
        """Return the bytes of all files, as du counts them."""
        if not (self.folder / "blobs").exists():
            return 0
        names = subprocess.run(
            ["find", self.folder / "blobs", "-type", "f", "-print0"], check=True, capture_output=True
        )
        command = ["du", "--bytes", "--total", "--files0-from=-"]
        done = subprocess.run(command, input=names.stdout, check=True, capture_output=True)
        return int(done.stdout.splitlines()[-1].split()[0])


def data_of(seed: int, size: int = KIB) -> bytes:
    return seed.to_bytes(4) * (size // 4)


def digest_of(seed: int, size: int = KIB) -> Digest:
    return Digest.of(data_of(seed, size))


def limit(store: BoundedStore, size: float, unused: float) -> None:
    """Set the limits of a store."""
    store.order.limit, store.order.unused = size, unused


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_the_least_recently_used_goes_first(scene: Scene) -> None:
    """What was found lately stays, whenever it came; the size is kept at every moment."""
    limit(scene.store, 4 * KIB, DAY * 30)
    one, two, three, _ = await scene.put(1, 2, 3, 4)
    assert await scene.store.find(one)
    await scene.put(5, 6)
    assert scene.gone == [two, three]
    assert await scene.store.find(two) is None
    assert await scene.store.find(one)
    assert (scene.store.order.size, len(scene.store.order), scene.du()) == (4 * KIB, 4, 4 * KIB)


async def test_what_nobody_uses_goes_with_age(scene: Scene) -> None:
    """Content that was not used for longer than allowed goes, although there is space."""
    limit(scene.store, 1 << 30, DAY)
    old, used = await scene.put(1, 2)
    scene.now += DAY - 3600.0
    assert await scene.store.find(used)
    await scene.store.evict()
    assert scene.gone == []
    scene.now += 1.0
    await scene.store.evict()
    assert scene.gone == [old]


async def test_what_is_pinned_stays(scene: Scene) -> None:
    """Pinned content goes neither for size nor for age, until it is pinned no more; then it is the oldest."""
    pinned = set(await scene.put(1, 2))
    scene.store.order.pinned = pinned.__contains__
    limit(scene.store, 3 * KIB, DAY)
    await scene.put(3, 4, 5)
    assert scene.gone == [digest_of(3), digest_of(4)]
    assert scene.store.evictable == KIB
    scene.now += 2 * DAY
    await scene.store.evict()
    assert set(scene.gone) == {digest_of(3), digest_of(4), digest_of(5)}
    assert not await scene.store.has_room(2 * KIB)
    assert await scene.store.has_room(KIB)
    await scene.store.remove(digest_of(1))
    assert await scene.store.has_room(2 * KIB)
    assert scene.store.evictable == 0
    await scene.put(6)
    pinned.clear()
    scene.store.order.unpin()
    limit(scene.store, KIB, 30 * DAY)
    await scene.store.evict()
    assert scene.gone[3:] == [digest_of(1), digest_of(2)]
    assert (scene.store.order.size, scene.du()) == (KIB, KIB)


async def test_limits_apply_to_what_is_there(scene: Scene) -> None:
    """Without limits nothing goes; a smaller size takes the oldest away, a larger one nothing."""
    await scene.put(*range(10))
    assert len(scene.store.order) == 10
    for kib in (3, 8):
        limit(scene.store, kib * KIB, DAY)
        await scene.store.evict()
        assert scene.gone == [digest_of(seed) for seed in range(7)]


async def test_a_full_disk_makes_the_oldest_go(scene: Scene) -> None:
    """Content goes for the room that other content needs; when that is not enough the answer is no."""
    await scene.put(*range(4))
    scene.now += 3600.0
    scene.room = KIB

    def free(digest: Digest) -> None:
        scene.room += KIB
        scene.gone.append(digest)

    scene.store._removing = free
    assert await scene.store.has_room(3 * KIB)
    assert scene.gone == [digest_of(0), digest_of(1)]
    assert not await scene.store.has_room(100 * KIB)
    assert (len(scene.store.order), scene.store.order.size) == (0, 0)


async def test_a_disk_that_does_not_answer_has_no_room(scene: Scene) -> None:
    """Whoever asks for room on a broken disk gets a no, and the store says why."""

    def broken() -> int:
        raise StorageError("disk: Input/output error")

    store = BoundedStore(scene.folder / "blobs", broken)
    assert not await store.has_room(1)
    assert store.error == "disk: Input/output error"


async def test_what_was_just_found_can_be_opened(scene: Scene) -> None:
    """Between `find` and opening the file nothing takes it away, however small the size is; afterwards it goes."""
    await scene.put(1)
    found = await scene.store.find(digest_of(1))
    limit(scene.store, 0, DAY)
    await scene.store.evict()
    assert found
    assert found.path.read_bytes() == data_of(1)
    scene.now += JUST
    await scene.store.evict()
    assert scene.gone == [digest_of(1)]
    assert not found.path.exists()


async def test_what_could_not_go_goes_soon(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays over the size because it was just found goes without anybody asking for it."""
    await scene.put(1)
    assert await scene.store.find(digest_of(1))
    gone = asyncio.Event()
    store = scene.store = BoundedStore(
        scene.folder / "blobs", lambda: 1 << 40, removing=lambda *_: gone.set(), clock=lambda: scene.now
    )
    await store.open_()
    assert await store.find(digest_of(1))
    limit(store, 0, DAY)
    monkeypatch.setattr(eviction, "JUST", 0.05)
    await store.evict()
    assert len(store.order) == 1
    scene.now += 1.0
    await gone.wait()
    await store.evict()
    assert len(store.order) == scene.du() == 0


async def test_whoever_reads_it_gets_all_of_it(scene: Scene) -> None:
    """An evicted file that is open is read to its end."""
    (digest,) = await scene.put(1, size=1 << 20)
    found = await scene.store.find(digest)
    assert found
    with found.path.open("rb") as file:
        begun = file.read(KIB)
        await scene.store.remove(digest)
        assert await scene.store.find(digest) is None
        assert begun + file.read() == data_of(1, 1 << 20)


async def test_found_while_it_goes(scene: Scene) -> None:
    """A search that is under way when the file goes finds nothing, also a moment later and after it came again."""
    (digest,) = await scene.put(1)
    assert await scene.store.find(digest)  # remembered for a second by the store below
    searching = asyncio.create_task(scene.store.find(digest))
    await scene.store.remove(digest)
    await searching
    assert await scene.store.find(digest) is None
    assert await scene.store.missing([digest]) == {digest}
    await scene.put(1)
    assert await scene.store.find(digest)
    assert (scene.store.order.size, scene.du()) == (KIB, KIB)


async def test_removed_by_somebody_else(scene: Scene) -> None:
    """A file that somebody deleted is missing, and no longer counted."""
    one, two = await scene.put(1, 2)
    store = scene.again()
    await store.open_()
    for digest in (one, two):
        (scene.folder / "blobs" / "sha256" / digest.hex[:2] / digest.hex).unlink()
    assert await store.find(one) is None
    assert await store.missing([two]) == {two}
    assert (len(store.order), store.order.size) == (0, 0)


async def test_the_next_process_knows_sizes_and_uses(scene: Scene) -> None:
    """The files alone say what there is and what was used when it was last written; leftovers go."""
    one, two, three = await scene.put(1, 2, 3)
    scene.now += 3600.0
    assert await scene.store.find(one)
    await scene.store.write_uses()
    scene.now += 60.0
    assert await scene.store.find(two)  # and nobody writes that down
    stray = scene.folder / "blobs" / "sha256" / one.hex[:2] / f".{one.hex}.0123.tmp"
    stray.write_bytes(b"half")
    store = scene.again()
    await store.open_()
    assert not stray.exists()
    assert (store.order.size, len(store.order), scene.du()) == (3 * KIB, 3, 3 * KIB)
    limit(store, 0, DAY * 30)
    await store.evict()
    assert scene.gone == [two, three, one]


async def test_the_last_uses_are_written_at_the_end(scene: Scene) -> None:
    """A clean end loses no last use."""
    one, two = await scene.put(1, 2)
    scene.now += 3600.0
    assert await scene.store.find(one)
    await scene.store.aclose()
    store = scene.again()
    await store.open_()
    limit(store, 0, DAY * 30)
    await store.evict()
    assert scene.gone == [two, one]


async def test_one_of_many(scene: Scene) -> None:
    """Evicting one of thousands looks at that one only."""
    for seed in range(2000):
        digest = digest_of(seed)
        place = scene.folder / "blobs" / "sha256" / digest.hex[:2] / digest.hex
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data_of(seed))
        os.utime(place, (seed, seed))
    store, asked = scene.again(), list[Digest]()
    await store.open_()

    def pinned(digest: Digest) -> bool:
        asked.append(digest)
        return False

    store.order.pinned = pinned
    limit(store, store.order.size, 1e12)
    await store.put(digest_of(2000), data_of(2000))
    assert scene.gone == asked == [digest_of(0)]
    assert len(store.order) == 2000


async def test_a_time_to_come_counts_as_now(scene: Scene) -> None:
    """A clock that was wrong when content was used makes nothing stay for ever."""
    (digest,) = await scene.put(1)
    place = scene.folder / "blobs" / "sha256" / digest.hex[:2] / digest.hex
    os.utime(place, (scene.now + 365 * DAY,) * 2)
    store = scene.again()
    await store.open_()
    limit(store, 1 << 30, DAY)
    scene.now += DAY + 1.0
    await store.evict()
    assert scene.gone == [digest]


async def test_callers_that_leave(scene: Scene) -> None:
    """A caller that is cancelled half-way leaves totals that are right: what was begun is ended."""
    limit(scene.store, 8 * KIB, DAY)
    for seed in range(40):
        scene.now += 60.0
        work = asyncio.create_task(scene.store.put(digest_of(seed), data_of(seed)))
        for _ in range(1 + seed % 6):
            await asyncio.sleep(0)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    await scene.store.aclose()
    await scene.store.evict()
    assert scene.store.order.size == scene.du() == len(scene.store.order) * KIB
    assert len(scene.store.order) == 8
    assert len(scene.gone) == 32


async def test_a_file_that_cannot_go(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk does not remove is still counted and found; what comes is kept, and the store says why."""
    (digest,) = await scene.put(1)
    limit(scene.store, KIB, DAY)

    def refuse(_self: Path, *, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        await scene.put(2)
    assert "Read-only file system" in scene.store.error
    assert await scene.store.find(digest)
    assert (scene.store.order.size, scene.du()) == (2 * KIB, 2 * KIB)


async def test_kept_again_while_it_goes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content that comes again while its file is being removed is there afterwards."""
    (digest,) = await scene.put(1)
    begun, going, remove = asyncio.Event(), asyncio.Event(), scene.store._disk.remove

    async def slowly(digest: Digest) -> None:
        begun.set()
        await going.wait()
        await remove(digest)

    monkeypatch.setattr(scene.store._disk, "remove", slowly)
    removing = asyncio.create_task(scene.store.remove(digest))
    await begun.wait()
    keeping = asyncio.create_task(scene.store.put(digest, data_of(1)))
    await scene.store.put(digest_of(2), data_of(2))  # takes as long, and is not held up
    going.set()
    await asyncio.gather(removing, keeping)
    assert await scene.store.missing([digest]) == frozenset()
    assert (scene.store.order.size, scene.du()) == (2 * KIB, 2 * KIB)


async def test_the_same_content_at_once(scene: Scene) -> None:
    """Many that keep, remove and find the same content at once leave one entry or none, and the right total."""
    digest, data = digest_of(1), data_of(1)
    for turn in range(20):
        work = [scene.store.put(digest, data), scene.store.remove(digest), scene.store.put(digest, data)]
        await asyncio.gather(*work[turn % 3 :], *work[: turn % 3], scene.store.find(digest))
        assert scene.store.order.size == scene.du() == len(scene.store.order) * KIB
        assert (await scene.store.find(digest) is not None) == (len(scene.store.order) == 1)
