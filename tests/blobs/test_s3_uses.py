"""What clients asked for, told by each replica in the bucket: whoever collects knows that of all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mirrord.blobs.disk import DiskStore
from mirrord.blobs.s3_uses import EVERY, RECENT, SharedUses
from mirrord.blobs.uses import UNSEEN, ContentUses, DiskUses
from mirrord.daemon.collecting import GATHERED
from mirrord.errors import StorageError
from mirrord.model.digest import Digest
from mirrord.plan.retention import DAY, READING
from mirrord.wire.bucket import PATIENCE, BucketPatience, ObjectBucket
from tests.support.bucketproxy import BucketProxy
from tests.support.clocks import Clock
from tests.support.gateway import bucket, gateway

ONE, TWO, THREE, FOUR = (Digest.of(b"%d" % number) for number in range(4))
Open = Callable[[], ContentUses]


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return f"uses/{tmp_path.name}"


@pytest.fixture(params=["disk", "bucket"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, prefix: str, wall: Clock) -> Open:
    """Open those of one replica, as its next process would."""
    if request.param == "disk":
        return lambda: DiskUses(DiskStore(tmp_path / "blobs").place, wall)
    objects = bucket(prefix)
    return lambda: SharedUses(objects, "one-abc", wall)


async def test_a_restart(opened: Open, tmp_path: Path, wall: Clock) -> None:
    """What a process wrote at its end is known to the next one, and to the one after that."""
    store = DiskStore(tmp_path / "blobs")
    for body in (b"0", b"1", b"2"):
        await store.put(Digest.of(body), body)
    first = opened()
    first.note(ONE, manifest=True)
    first.note(TWO)
    assert first.last(ONE) == wall.now
    await first.aclose()
    asked, wall.now = wall.now, wall.now + 10 * DAY
    second = opened()
    second.note(THREE, manifest=True)
    await second.write()
    third = opened()
    await third.gather(wall.now - 30 * DAY)
    assert (third.last(ONE), third.last(THREE)) == (asked, wall.now)
    assert not third.since(ONE, wall.now - READING)


async def test_what_others_read(prefix: str, wall: Clock) -> None:
    """Who collects knows what clients of others asked for, manifests and all else of the last hour."""
    mine, other = SharedUses(bucket(prefix), "one", wall), SharedUses(bucket(prefix), "two", wall)
    other.note(TWO)
    wall.now += RECENT - 1
    other.note(ONE, manifest=True)
    other.note(FOUR)
    await other.write()
    await mine.gather()
    assert mine.last(ONE) == wall.now
    assert [one for one in (ONE, TWO, THREE, FOUR) if mine.since(one, wall.now - RECENT)] == [ONE, TWO, FOUR]
    wall.now += 2
    other.note(ONE, manifest=True)
    await other.write()
    found = await bucket(prefix).read("uses/two")
    assert found
    assert found.value() == {"forgotten": 0, "manifests": {ONE: int(wall.now)}, "read": {FOUR: int(wall.now - 2)}}
    await mine.gather()
    assert mine.last(ONE) == wall.now
    assert RECENT >= READING + UNSEEN
    assert EVERY + GATHERED + 2 * PATIENCE.whole <= UNSEEN


async def test_what_others_read_is_forgotten(prefix: str, wall: Clock) -> None:
    """A replica that lives long remembers manifests, but not each blob that anybody read: those for two hours."""
    mine, other = SharedUses(bucket(prefix), "one", wall), SharedUses(bucket(prefix), "two", wall)
    blobs = [Digest.of(b"blob %d" % number) for number in range(10)]
    for number, blob in enumerate(blobs):
        other.note(blob)
        other.note(ONE if number else TWO, manifest=True)
        await other.write()
        await mine.gather()
        wall.now += RECENT
    assert [blob for blob in blobs if mine.since(blob, 1.0)] == blobs[-2:]
    assert mine.last(TWO) == wall.now - 10 * RECENT


async def test_what_it_costs(prefix: str, proxy: BucketProxy, wall: Clock) -> None:
    """One PUT where something was asked for, and nothing else; one list and one GET for each new document."""
    objects = ObjectBucket(gateway().address(prefix, endpoint=proxy.base))
    mine, *others = (SharedUses(objects, name, wall) for name in ("one", "two", "three", "four"))
    for other in others:
        await other.write()
        other.note(ONE, manifest=True)
        await other.write()
    proxy.forget()
    for number in range(100):
        others[0].note(Digest.of(b"%d" % number), manifest=True)
    await others[0].write()
    await others[0].write()
    assert [one.method for one in proxy.log] == ["PUT"]
    proxy.forget()
    await mine.gather()
    assert proxy.count("GET") == 1 + 1 + 3  # its own, the list, and the others
    proxy.forget()
    await mine.gather()
    others[1].note(TWO, manifest=True)
    await others[1].write()
    await mine.gather()
    assert (proxy.count("GET"), proxy.count("PUT"), len(proxy.log)) == (3, 1, 4)


async def test_a_replica_that_died(prefix: str, wall: Clock) -> None:
    """What it told stays, in one document of all that are gone, and so for a rule that is written years later."""
    objects, mine = bucket(prefix), SharedUses(bucket(prefix), "one", wall)
    began = wall.now
    for name, digest in (("two", ONE), ("three", TWO)):
        dead = SharedUses(objects, name, wall)
        dead.note(digest, manifest=True)
        dead.note(FOUR)
        await dead.write()
        await mine.gather(wall.now - 1)
        assert mine.last(digest) == wall.now
        assert await objects.head(f"uses/{name}")
        wall.now += 10 * DAY
        await mine.gather(wall.now - DAY)
        assert await objects.head(f"uses/{name}") is None
    later = SharedUses(objects, "four", wall)
    await later.gather(wall.now + 1)
    assert [later.last(one) for one in (ONE, TWO, THREE)] == [began, began + 10 * DAY, 0.0]
    assert await objects.head("uses/gone")


async def test_a_replica_that_was_idle_for_long(prefix: str, wall: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it writes while its old document is taken over stays there."""
    objects, (mine, idle) = bucket(prefix), (SharedUses(bucket(prefix), name, wall) for name in ("one", "two"))
    idle.note(ONE, manifest=True)
    await idle.write()
    wall.now += 10 * DAY
    write = mine._objects.write

    async def late(*arguments: Any) -> str:
        idle.note(TWO, manifest=True)
        await idle.write()
        return await write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(mine._objects, "write", late)
        await mine.gather(wall.now - DAY)
    assert await objects.head("uses/two")
    await mine.gather(wall.now - DAY)
    assert (mine.last(ONE), mine.last(TWO)) == (wall.now - 10 * DAY, wall.now)


async def test_many_replicas_that_died(prefix: str, wall: Clock) -> None:
    """Of them so many uses are remembered as of one replica; what is forgotten counts as used at that time."""
    for number, name in enumerate(("two", "three", "four")):
        dead = SharedUses(bucket(prefix), name, wall)
        dead.note(Digest.of(b"%d" % number), manifest=True)
        await dead.write()
        wall.now += 10
    await SharedUses(bucket(prefix), "one", wall, most=2).gather(wall.now)
    later = SharedUses(bucket(prefix), "five", wall)
    await later.gather()
    assert [later.last(one) - wall.now for one in (ONE, TWO, THREE, FOUR)] == [-30, -20, -10, -30]


async def test_what_is_forgotten(prefix: str, wall: Clock) -> None:
    """A replica remembers so many; all others count as used when the last of them was forgotten, for everybody."""
    mine, other = (SharedUses(bucket(prefix), name, wall, most=2) for name in ("one", "two"))
    for digest in (ONE, TWO, THREE):
        other.note(digest, manifest=True)
        wall.now += 10
    await other.write()
    await mine.gather()
    assert [mine.last(one) - wall.now for one in (ONE, TWO, THREE, FOUR)] == [-30, -20, -10, -30]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"forgotten": 0, "manifests": {"x": 1}, "read": {}}', b'{"forgotten": 1e999}', b"[" * 200_000],
    ids=["empty", "list", "digest", "infinite", "deep"],
)
async def test_a_damaged_document(prefix: str, wall: Clock, body: bytes) -> None:
    """Nothing may count as unused: who collects is told which object to remove."""
    await bucket(prefix).write("uses/two", body, "application/json")
    with pytest.raises(StorageError, match=rf"s3://.*/{prefix}/uses/two is damaged; remove it"):
        await SharedUses(bucket(prefix), "one", wall).gather()


async def test_a_bucket_that_is_away(prefix: str, proxy: BucketProxy, wall: Clock) -> None:
    """What could not be written is written the next time, and a replica that ends does not fail because of it."""
    objects = ObjectBucket(gateway().address(prefix, endpoint=proxy.base), BucketPatience(attempts=0))
    mine = SharedUses(objects, "one", wall)
    mine.note(ONE, manifest=True)
    proxy.faults.on("PUT", "uses/one").status(500)
    with pytest.raises(StorageError, match="cannot write uses/one"):
        await mine.write()
    await mine.write()
    assert proxy.count("PUT") == 2
    mine.note(TWO, manifest=True)
    proxy.faults.on("PUT", "uses/one").status(500)
    await mine.aclose()
