"""Content of a bucket is removed while other replicas link it: what is linked stays, or whoever linked it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from mirrord.blobs import removals, s3
from mirrord.blobs.collector import Collector
from mirrord.blobs.removals import Removals
from mirrord.blobs.repositories import ManifestRef
from mirrord.blobs.s3 import S3Store
from mirrord.blobs.s3_repositories import S3Repositories
from mirrord.blobs.uses import ContentUses
from mirrord.errors import ConflictError, StorageError
from mirrord.model.digest import Digest
from mirrord.model.objects import StoredDocument
from mirrord.wire import bucket as wire_bucket
from mirrord.wire.bucket import BucketPatience, ObjectBucket
from tests.support.bucketproxy import BucketProxy
from tests.support.gateway import bucket, gateway
from tests.support.jumping import JumpingLoop

BODIES = {Digest.of(b"body %d" % number): b"body %d" % number for number in range(12)}
ONE, TWO, THREE, *_ = BODIES
LINK = ManifestRef("application/json", 3)


class Replica:
    """A process with the bucket, after `ahead` seconds."""

    def __init__(self, prefix: str, ahead: float = 0.0, *, endpoint: str = "") -> None:
        objects = ObjectBucket(gateway().address(prefix, endpoint=endpoint))
        self.store = S3Store(objects, clock=lambda: time.time() + ahead)
        self.names = S3Repositories(objects, lambda: time.time() + ahead, confirm=self.store.confirm)
        self.uses = ContentUses()
        self.collector = Collector(self.store, self.names, self.uses, shared=True)

    async def collect(self) -> set[Digest]:
        """Remove what nothing links; return it."""
        gone = set[Digest]()
        async with self.collector.collection() as collection:
            linked = await self.names.linked()
            async for loose in collection.unlinked(linked):
                gone |= await collection.remove(loose)
        return gone


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return f"removals/{tmp_path.name}"


async def test_what_is_removed(prefix: str) -> None:
    """A collection removes what is older than a day and not linked, and that alone."""
    now, tomorrow = Replica(prefix), Replica(prefix, s3.YOUNG + 60)
    for digest, body in BODIES.items():
        await now.store.put(digest, body)
    await now.names.publish("app", {ONE: ManifestRef("application/json", 3, (TWO,))}, {"main": ONE})
    assert await now.collect() == set()
    assert await tomorrow.collect() == BODIES.keys() - {ONE, TWO}
    assert await Replica(prefix).store.missing(BODIES) == BODIES.keys() - {ONE, TWO}


async def test_who_links_what_was_removed_is_told(prefix: str) -> None:
    """A writer that saw content, which another replica removed before it was linked, is told so."""
    writer, remover = Replica(prefix), Replica(prefix, s3.YOUNG + 60)
    await writer.store.put(ONE, BODIES[ONE])
    assert await writer.store.missing([ONE]) == frozenset()
    assert await remover.collect() == {ONE}
    with pytest.raises(StorageError, match="was removed while it was named; the next run copies it again"):
        await writer.names.publish("app", {ONE: LINK}, {"main": ONE})
    assert await writer.store.missing([ONE]) == {ONE}
    await writer.store.put(ONE, BODIES[ONE])
    await writer.names.publish("app", {ONE: LINK}, {"v2": ONE})


async def test_who_removes_sees_what_was_linked_meanwhile(prefix: str) -> None:
    """What another replica links after the mark, and before the removal, stays."""
    writer, remover = Replica(prefix), Replica(prefix, s3.YOUNG + 60)
    for digest in (ONE, TWO):
        await writer.store.put(digest, BODIES[digest])
    async with remover.collector.collection() as collection:
        linked = await remover.names.linked()
        await writer.names.publish("app", {ONE: LINK}, {"main": ONE})
        gone = [await collection.remove(loose) async for loose in collection.unlinked(linked)]
    assert gone == [{TWO}]
    assert await Replica(prefix).store.missing([ONE, TWO]) == {TWO}


async def test_an_answer_from_before_a_removal(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that was answered before others removed something, and is heard of later, does not count as seen."""
    first, other, late = Replica(prefix), Replica(prefix, 2 * s3.YOUNG), Replica(prefix)
    await first.store.put(ONE, BODIES[ONE])
    answered, heard, head = asyncio.Event(), asyncio.Event(), late.store._objects.head

    async def slow(key: str) -> Any:
        found = await head(key)
        answered.set()
        await heard.wait()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(late.store._objects, "head", slow)
        looking = asyncio.create_task(late.store.missing([ONE]))
        await answered.wait()
    assert await other.collect() == {ONE}
    await first.store.put(TWO, BODIES[TWO])
    await late.store.confirm([TWO])
    heard.set()
    assert await looking == frozenset()
    assert await late.store.missing([ONE]) == {ONE}


async def test_looking_costs_one_request(prefix: str) -> None:
    """While nobody removes anything, a publication costs one look more than its writes."""
    writer = Replica(prefix)
    await writer.store.put(ONE, BODIES[ONE])
    await writer.names.publish("app", {ONE: LINK}, {"main": ONE})
    asked = await gateway().asked(prefix)
    await writer.store.put(TWO, BODIES[TWO])
    await writer.names.publish("app", {TWO: LINK}, {"main": TWO})
    assert await gateway().asked(prefix) - asked == {"PUT": 2, "GET": 1}


async def test_a_remover_that_died(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one replica removes, no other does, and writers of what is going wait; a dead one is given up."""
    monkeypatch.setattr(removals, "WAITS", 0.02)
    monkeypatch.setattr(removals, "_PAUSE", 0.01)
    writer, other = Replica(prefix), Replica(prefix)
    await writer.store.put(ONE, BODIES[ONE])
    await writer.store.put(TWO, BODIES[TWO])
    first, last = sorted((ONE, TWO))
    turn = Removals(bucket(prefix)).turn([last])
    await turn.__aenter__()  # and never leaves
    with pytest.raises(ConflictError, match="another replica removes content now"):
        await other.names.remove_unlinked(other.store, [first], other.names.lease())
    with pytest.raises(StorageError, match=f"another replica removes {last};"):
        await writer.names.publish("app", {first: LINK, last: LINK}, {"main": last})
    await writer.names.publish("app", {}, {"v2": first})
    later = Replica(prefix, removals.TAKES + 1)
    await later.store.put(THREE, BODIES[THREE])
    await later.names.remove_unlinked(later.store, [THREE], later.names.lease())
    assert await later.store.missing([THREE]) == {THREE}


class Noted:
    """One object, in memory; each write has another entity tag."""

    def __init__(self) -> None:
        self.data, self.number = b"", 0

    async def read(self, key: str, unless: str = "") -> StoredDocument | None:
        return StoredDocument(str(self.number), len(self.data), self.data) if self.number else None

    async def write(self, key: str, data: bytes, media_type: str, over: str | None = None) -> str:
        if over != (str(self.number) if self.number else ""):
            raise ConflictError("another was faster")
        self.data, self.number = data, self.number + 1
        return str(self.number)


def test_a_removal_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it goes on it says so again and again, and nobody takes it for that of a process that is gone."""
    monkeypatch.setattr(removals, "WAITS", removals._PAUSE)

    async def work(clock: Callable[[], float]) -> int:
        objects: Any = Noted()
        mine, other, refused = Removals(objects, clock), Removals(objects, clock), 0
        async with mine.turn([ONE]):
            while clock() < 5 * removals.TAKES:
                with pytest.raises(ConflictError):
                    await other.turn([TWO]).__aenter__()
                refused += 1
        async with other.turn([TWO]):
            return refused

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        assert runner.run(work(runner.get_loop().time)) == 5 * removals.TAKES / removals._PAUSE


class Slow:
    """A bucket whose deletions do not end before they are let go."""

    def __init__(self, objects: ObjectBucket) -> None:
        self._objects, self.let, self.reached = objects, asyncio.Event(), asyncio.Event()
        self.under_way, self.left = 0, list[int]()  # deletions, and of them when somebody said that all had ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    async def delete(self, keys: Collection[str]) -> None:
        self.reached.set()
        self.under_way += 1
        try:
            await self.let.wait()
            await self._objects.delete(keys)
        finally:
            self.under_way -= 1

    async def write(self, key: str, data: bytes, media_type: str, over: str | None = None) -> str:
        if key == removals.KEY and not json.loads(data)["going"]:
            self.left.append(self.under_way)
        return await self._objects.write(key, data, media_type, over)


async def removal(objects: Any, digests: Collection[Digest], *, collects: bool) -> None:
    """Remove these as a collection does, or as the end of a run."""
    store, names = S3Store(objects), S3Repositories(objects)
    if collects:
        async with Collector(store, names, ContentUses(), shared=True).collection() as collection:
            await collection.remove(digests)
    else:
        await names.remove_unlinked(store, digests, names.lease())


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("collects", [False, True])
async def test_a_removal_that_is_cancelled(prefix: str, collects: bool, times: int) -> None:
    """What was asked for ends, however often it is cancelled; nothing more goes, and nobody waits for it afterwards."""
    mine, other = Replica(prefix), Replica(prefix)
    for digest, body in BODIES.items():
        await mine.store.put(digest, body)
    slow = Slow(bucket(prefix))
    removing = asyncio.create_task(removal(slow, set(BODIES), collects=collects))
    await slow.reached.wait()
    for _ in range(times):
        removing.cancel()
        await asyncio.sleep(0)
    assert (await Removals(bucket(prefix)).newest()).going == BODIES.keys()
    slow.let.set()
    with pytest.raises(asyncio.CancelledError):
        await removing
    assert slow.left == [0]
    assert not (await Removals(bucket(prefix)).newest()).going
    assert await other.store.missing(BODIES) == BODIES.keys()


@pytest.mark.parametrize("collects", [False, True])
async def test_requests_that_hang_are_given_up(prefix: str, monkeypatch: pytest.MonkeyPatch, collects: bool) -> None:
    """Once others may link content again, no request of a removal that was cancelled is left that could remove it."""
    monkeypatch.setattr(removals, "SETTLES", 0.0)
    monkeypatch.setattr(s3, "SETTLES", 0.0)
    mine = Replica(prefix)
    await mine.store.put(ONE, BODIES[ONE])
    slow = Slow(bucket(prefix))
    removing = asyncio.create_task(removal(slow, {ONE}, collects=collects))
    await slow.reached.wait()
    removing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await removing
    assert not (await Removals(bucket(prefix)).newest()).going
    assert [task for task in asyncio.all_tasks() if "delete" in repr(task.get_coro())] == []
    assert await Replica(prefix).store.missing([ONE]) == set()


async def test_a_cancellation_goes_on_when_the_bucket_is_away(prefix: str, proxy: BucketProxy) -> None:
    """That the end of a removal could not be written holds nobody up: others take it for given up later."""
    objects = ObjectBucket(gateway().address(prefix, endpoint=proxy.base), BucketPatience(attempts=0))

    async def remove() -> None:
        async with Removals(objects).turn([ONE]):
            proxy.faults.on("PUT", "removals").status(500)
            asyncio.current_task().cancel()  # type: ignore[union-attr]  # of this very task
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(remove())
    assert (await Removals(bucket(prefix)).newest()).going == {ONE}


async def test_a_removal_is_given_up_before_others_think_so(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time counts from before the write that says until when it lasts, however long that takes."""
    monkeypatch.setattr(removals, "TAKES", 0.2)
    objects, written = bucket(prefix), list[str]()

    class Late:
        def __getattr__(self, name: str) -> Any:
            return getattr(objects, name)

        async def write(self, *arguments: Any) -> str:
            etag = await objects.write(*arguments)
            if not written:
                written.append(etag)
                await asyncio.sleep(0.12)
            return etag

    with pytest.raises(StorageError, match="removing takes too long; the next collection removes it"):
        async with Removals(Late()).turn([ONE]):
            await asyncio.sleep(0.05)
    assert not (await Removals(objects).newest()).going


async def test_what_a_collection_costs(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GET of each document for the mark, and one more where something goes; then a DELETE for each of that."""
    monkeypatch.setattr(wire_bucket, "_PAGE", 10)  # several pages have something that goes

    async def cost(proxy: BucketProxy, part: str, number: int, *, loose: int) -> Counter[str]:
        now = Replica(f"{prefix}/{part}")
        await now.store.put(ONE, BODIES[ONE])
        await now.store.put(TWO, BODIES[TWO])
        for name in range(number):
            await now.names.publish(f"app{name}", {ONE: LINK}, {"main": ONE})
        for one in range(loose):
            await now.store.put(Digest.of(b"%d" % one), b"%d" % one)
        proxy.forget()
        tomorrow = Replica(f"{prefix}/{part}", s3.YOUNG + 60, endpoint=proxy.base)
        assert len(await tomorrow.collect()) == loose + 1
        return Counter(one.method for one in proxy.log)

    gateway()
    async with BucketProxy() as proxy:
        small, large = await cost(proxy, "small", 10, loose=20), await cost(proxy, "large", 40, loose=80)
    assert small == {"DELETE": 21, "GET": 10 + 10 + 4, "PUT": 2}  # of the GETs three list, and one looks at `removals`
    assert large == {"DELETE": 81, "GET": 40 + 40 + 4, "PUT": 2}


async def test_writers_against_removers(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas publish, drop and remove at once: nobody who was not told links what is not there."""
    monkeypatch.setattr(removals, "WAITS", 5.0)
    monkeypatch.setattr(removals, "_PAUSE", 0.005)
    chance, told, removed, there = random.Random(7), 0, 0, bucket(prefix)

    async def write(number: int) -> None:
        nonlocal told
        mine, name, written = Replica(prefix), f"app{number}", 0
        while written < 10 or removed <= 10 or not told:  # otherwise this says nothing
            written += 1
            some = chance.sample(sorted(BODIES), 2)
            for digest in await mine.store.missing(some):
                await mine.store.put(digest, BODIES[digest])
            try:
                await mine.names.publish(name, dict.fromkeys(some, LINK), {"v": some[0]})
            except StorageError:
                told += 1
            else:
                assert all([await there.head(S3Store.key(digest)) for digest in some])
            state = await mine.names.state(name)
            assert state
            await mine.names.drop(name, state.tags, state.manifests)

    async def remove() -> None:
        nonlocal removed
        mine = Replica(prefix)
        while True:
            with contextlib.suppress(ConflictError):
                await mine.names.remove_unlinked(mine.store, set(BODIES), mine.names.lease())
                removed += 1

    removing = [asyncio.create_task(remove()) for _ in range(2)]
    async with asyncio.timeout(100):
        await asyncio.gather(*map(write, range(3)))
    for task in removing:
        task.cancel()
    await asyncio.gather(*removing, return_exceptions=True)
