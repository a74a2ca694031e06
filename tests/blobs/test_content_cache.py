"""A front's cache: one read for all clients, nothing wrong in it, and nothing that does not fit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirrord.blobs import eviction
from mirrord.blobs.shared_cache import SharedCache
from mirrord.blobs.spool import WITHHELD
from mirrord.errors import DigestError, MirrordError, RestartedError, UnreachableError
from mirrord.model.digest import Digest
from mirrord.testing import Registry
from tests.support.cached import MIB, CachedFront, bytes_of, data_of
from tests.support.disks import small_disk
from tests.support.gateway import bucket

BLOBS = "/blobs/sha256:"


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with Registry() as registry:
        yield registry


@pytest.fixture(params=["alone", "shared"])
async def front(request: pytest.FixtureRequest, registry: Registry, tmp_path: Path) -> AsyncIterator[CachedFront]:
    shared = SharedCache(bucket(f"cache/{tmp_path.name}"), "one") if request.param == "shared" else None
    async with CachedFront(registry, tmp_path, shared=shared) as front:
        yield front


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    try:
        with small_disk(tmp_path / "disk", 12 * MIB) as made:
            yield made
    except UnreachableError as error:
        pytest.skip(str(error))


async def test_fifty_clients_and_one_read(front: CachedFront) -> None:
    """All of a blob, or from some byte on, for 50 clients: one GET of its bytes, afterwards none at all."""
    digest, data = front.add(1, 4 * MIB), data_of(1, 4 * MIB)
    offsets = [0, 1, MIB, 3 * MIB + 7, len(data) - 1] * 10
    got = await asyncio.gather(*(front.get(digest, offset) for offset in offsets))
    assert got == [data[offset:] for offset in offsets]
    await front.settled()
    assert await front.get(digest, 5) == data[5:]
    assert (front.registry.count("GET", BLOBS), front.registry.sent(BLOBS)) == (1, len(data))
    standing = front.cache.standing()
    assert (standing.size, standing.entries, standing.error) == (len(data), 1, "")
    assert bytes_of(front.folder / "cache" / "blobs") == len(data)


async def test_a_later_reader_joins_the_read(front: CachedFront) -> None:
    """Who wants the end of a blob while its beginning comes waits for it, and starts no second read."""
    digest, data = front.add(1, 4 * MIB), data_of(1, 4 * MIB)
    stalled = front.registry.faults.on("GET", BLOBS).stall(MIB)
    first = asyncio.create_task(front.get(digest))
    await stalled.reached.wait()
    ahead = asyncio.create_task(front.get(digest, 3 * MIB))
    async with front.asking(digest, MIB // 4) as chunks:
        assert data[MIB // 4 :].startswith(await anext(chunks))
    assert not ahead.done()
    stalled.release()
    assert await first == data
    assert await ahead == data[3 * MIB :]
    assert (front.registry.count("GET", BLOBS), front.registry.sent(BLOBS)) == (1, len(data))


async def test_an_upstream_that_breaks(front: CachedFront) -> None:
    """The rest is asked for by Range; no client notices, and no byte is read twice."""
    digest, data = front.add(1, 4 * MIB), data_of(1, 4 * MIB)
    front.registry.faults.on("GET", BLOBS).truncate(MIB)
    front.registry.faults.on("GET", BLOBS).truncate(MIB)
    assert set(await asyncio.gather(*(front.get(digest) for _ in range(20)))) == {data}
    await front.settled()
    asked = [exchange.headers.get("range") for exchange in front.registry.select("GET", BLOBS)]
    assert asked == [None, f"bytes={MIB}-", f"bytes={2 * MIB}-"]
    assert front.registry.sent(BLOBS) == len(data)
    assert digest in front.cache.store


async def test_wrong_bytes(front: CachedFront) -> None:
    """An upstream that always sends one wrong byte: no client gets the end, and nothing is kept anywhere."""
    digest, data = front.add(1, 4 * MIB), data_of(1, 4 * MIB)
    front.registry.faults.on("GET", BLOBS, times=None).corrupt(-1)
    got = [0] * 20

    async def read(number: int) -> None:
        async with front.asking(digest, number * 100_000) as chunks:
            async for chunk in chunks:
                got[number] += len(chunk)

    ends = await asyncio.gather(*map(read, range(20)), return_exceptions=True)
    assert {type(end) for end in ends} <= {RestartedError, DigestError}
    assert all(count <= len(data) - number * 100_000 - WITHHELD for number, count in enumerate(got))
    await front.settled()
    assert front.registry.count("GET", BLOBS) <= 2  # once more while somebody waits, in case the line was bad
    assert digest not in front.cache.store
    assert front.cache.standing().size == bytes_of(front.folder / "cache") == 0
    front.registry.faults.clear()
    assert await front.get(digest) == data


async def test_who_leaves_early_wastes_little(front: CachedFront) -> None:
    """A blob that all clients left before its half is not read on for long; the next client gets the rest by Range."""
    digest, data = front.add(1, 8 * MIB), data_of(1, 8 * MIB)
    stalled = front.registry.faults.on("GET", BLOBS).stall(2 * MIB)
    async with front.asking(digest) as chunks, front.asking(digest, MIB) as others:
        await anext(chunks)
        await anext(others)
        await stalled.reached.wait()
        (entry,) = front.pool.cache.busy
        while entry.spool.written < 2 * MIB:
            await entry.spool.changed()
    await front.settled()
    assert not front.pool.cache.busy
    assert await front.get(digest) == data
    await front.settled()
    asked = [exchange.headers.get("range") for exchange in front.registry.select("GET", BLOBS)]
    assert asked == [None, f"bytes={2 * MIB}-"]
    assert digest in front.cache.store


async def test_what_is_mostly_there_is_finished(front: CachedFront) -> None:
    """A blob that all clients left after its half is read to the end and kept."""
    digest, data = front.add(1, 8 * MIB), data_of(1, 8 * MIB)
    stalled = front.registry.faults.on("GET", BLOBS).stall(5 * MIB)
    async with front.asking(digest) as chunks:
        await anext(chunks)
        await stalled.reached.wait()
        (entry,) = front.pool.cache.busy
        while entry.spool.written < 5 * MIB:
            await entry.spool.changed()
    await asyncio.sleep(0.2)  # longer than a client that reads parts may stay away
    stalled.release()
    await front.settled()
    assert await front.get(digest) == data
    assert front.registry.count("GET", BLOBS) == 1


async def test_slow_clients_take_all_budget(registry: Registry, tmp_path: Path) -> None:
    """While slow clients hold the spool, the misses of others stream through memory: whole, and not kept."""
    async with CachedFront(registry, tmp_path, budget=4 * MIB) as front:
        await front.cache.limits(MIB)
        held = [front.add(seed, 2 * MIB) for seed in (1, 2)]
        wanted = [front.add(seed, 2 * MIB) for seed in (3, 4, 5)]
        async with contextlib.AsyncExitStack() as stack:
            for digest in held:
                await anext(await stack.enter_async_context(front.asking(digest)))
            await front.settled()
            names = {file.name.partition(".")[0] for file in (tmp_path / "spool").iterdir()}
            assert await asyncio.gather(*map(front.get, wanted)) == [data_of(seed, 2 * MIB) for seed in (3, 4, 5)]
            assert await front.get(wanted[0]) == data_of(3, 2 * MIB)
            assert {file.name.partition(".")[0] for file in (tmp_path / "spool").iterdir()} == names
            assert [registry.count("GET", digest) for digest in wanted] == [2, 1, 1]
            assert front.cache.standing().size == 0
        await front.cache.limits(4 * MIB)
        assert await front.get(wanted[1]) == data_of(4, 2 * MIB)
        await front.settled()
        assert wanted[1] in front.cache.store
        assert front.cache.standing().size == bytes_of(tmp_path / "cache" / "blobs") == 2 * MIB


async def test_slow_clients_of_what_is_kept(registry: Registry, tmp_path: Path) -> None:
    """Slow clients of blobs that the cache has take no budget: others are read once and kept, and the slow get all."""
    async with CachedFront(registry, tmp_path, budget=4 * MIB) as front:
        held = [front.add(seed, 2 * MIB) for seed in (1, 2)]
        wanted = [front.add(seed, 2 * MIB) for seed in (3, 4, 5)]
        async with contextlib.AsyncExitStack() as stack:
            slow = [await stack.enter_async_context(front.asking(digest)) for digest in held]
            got = [await anext(chunks) for chunks in slow]
            await front.settled()
            for digest, seed in zip(wanted, (3, 4, 5), strict=True):
                both = await asyncio.gather(front.get(digest), front.get(digest, MIB))
                assert list(both) == [data_of(seed, 2 * MIB), data_of(seed, 2 * MIB)[MIB:]]
                await front.settled()
                assert digest in front.cache.store
            assert registry.count("GET", BLOBS) == 5
            for number, chunks in enumerate(slow):
                got[number] += b"".join([chunk async for chunk in chunks])
        assert got == [data_of(seed, 2 * MIB) for seed in (1, 2)]
        assert bytes_of(tmp_path / "spool") == front.pool.cache.used <= 4 * MIB


async def test_a_run_reads_what_the_cache_has(front: CachedFront) -> None:
    """A mirror that needs a blob of the cache does not read its source; nor does a client that asks at a bad moment."""
    digest, data = front.add(1, 4 * MIB), data_of(1, 4 * MIB)
    await front.get(digest)
    await front.settled()
    for client in (False, True):
        front.pool.cache.give_up(digest)
        async with front.pool.reader(front.source(digest), "mirror/target", client=client) as reader:
            assert b"".join([chunk async for chunk in reader.chunks()]) == data
    assert front.registry.count("GET", BLOBS) == 1
    assert bytes_of(front.folder / "cache" / "blobs") == len(data)


@pytest.mark.parametrize("damage", ["other bytes", "shorter", "gone"])
async def test_a_damaged_file_of_the_cache(damage: str, front: CachedFront) -> None:
    """What the cache gives to a mirror is verified, and a bad file is neither used nor written to."""
    digest, data = front.add(1, 4 * MIB), data_of(1, 4 * MIB)
    await front.get(digest)
    await front.settled()
    front.pool.cache.give_up(digest)
    found = await front.cache.store.find(digest)
    assert found
    bad = {"other bytes": data[:-1] + b"!", "shorter": data[:MIB], "gone": b""}[damage]
    found.path.write_bytes(bad)
    if damage == "gone":
        found.path.unlink()
    async with front.pool.reader(front.source(digest), "mirror/target") as reader:
        assert b"".join([chunk async for chunk in reader.chunks()]) == data
    assert front.registry.count("GET", BLOBS) == 2
    assert damage == "gone" or found.path.read_bytes() == bad


async def test_a_descriptor_with_a_wrong_size(front: CachedFront) -> None:
    """Who expects another size than the cache has gets an error from the source, and the cache keeps its file."""
    digest, data = front.add(1, 4 * MIB), data_of(1, 4 * MIB)
    await front.get(digest)
    await front.settled()
    front.pool.cache.give_up(digest)
    wrong = replace(front.source(digest), size=MIB)
    with pytest.raises(DigestError):
        async with front.pool.reader(wrong, "mirror/target") as reader:
            await reader.verified()
    found = await front.cache.store.find(digest)
    assert found
    assert found.path.read_bytes() == data


async def test_larger_than_the_cache(front: CachedFront) -> None:
    """What can never be kept is served all the same, and takes nothing else away."""
    await front.cache.limits(2 * MIB)
    small, large = front.add(1), front.add(2, 3 * MIB)
    for digest, data in ((small, data_of(1)), (large, data_of(2, 3 * MIB))):
        assert await front.get(digest) == data
        await front.settled()
    assert small in front.cache.store
    assert large not in front.cache.store
    assert front.evicted.empty()


async def test_many_more_than_fit(front: CachedFront) -> None:
    """The cache stays within its size while content comes, and what was used for longest ago was evicted."""
    await front.cache.limits(3 * MIB)
    digests = [front.add(seed) for seed in range(9)]
    for digest in digests:
        await front.get(digest)
        await front.settled()
        assert front.cache.standing().size == bytes_of(front.folder / "cache" / "blobs") <= 3 * MIB
    assert [digest for digest in digests if digest in front.cache.store] == digests[-3:]
    standing = front.cache.standing()
    assert (standing.entries, standing.evictions, standing.evicted) == (3, 6, 6 * MIB)


async def test_smaller_limits_begin_at_once(registry: Registry, tmp_path: Path) -> None:
    """A reload with a smaller size makes content go without anybody asking for anything; it is reported once."""
    async with CachedFront(registry, tmp_path) as front:
        for seed in range(5):
            await front.cache.store.put(front.add(seed), data_of(seed))
        await front.cache.limits(2 * MIB)
        assert await front.evicted.get() == (3, 3 * MIB)
        await front.cache.store.evict()  # has nothing to do, and reports nothing
        assert front.evicted.empty()
        assert front.cache.standing().size == bytes_of(tmp_path / "cache" / "blobs") == 2 * MIB


async def test_a_disk_that_is_full_of_cache(registry: Registry, disk: Path) -> None:
    """The cache makes way for what comes: for content of its own, and for a run that needs space in the spool."""
    async with CachedFront(registry, disk, budget=9 * MIB) as front:
        digests = [front.add(seed, 2 * MIB) for seed in range(8)]
        for digest in digests:
            assert Digest.of(await front.get(digest)) == digest
            await front.settled()
            assert digest in front.cache.store
        assert 1 <= front.cache.standing().evictions <= 4
        assert await front.cache.store.has_room(6 * MIB)  # also of the spool, which had the same files
        assert bytes_of(disk) <= 6 * MIB
        large = front.add(99, 8 * MIB)
        async with front.pool.reader(front.source(large), "mirror/target") as reader:
            assert b"".join([chunk async for chunk in reader.chunks()]) == data_of(99, 8 * MIB)
        assert front.cache.standing().size == bytes_of(disk / "cache" / "blobs")
        assert digests[0] not in front.cache.store


async def test_a_disk_that_is_full_of_what_was_just_found(
    registry: Registry, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run waits for the space of content that must not go at this moment, and gets it."""
    monkeypatch.setattr(eviction, "JUST", 0.5)
    async with CachedFront(registry, disk, budget=9 * MIB) as front:
        large, digests = front.add(99, 8 * MIB), [front.add(seed, 2 * MIB) for seed in range(5)]
        for digest in digests:
            await front.get(digest)
            await front.settled()
        for digest in digests:
            assert await front.cache.store.find(digest)
        async with front.pool.reader(front.source(large), "mirror/target") as reader:
            assert b"".join([chunk async for chunk in reader.chunks()]) == data_of(99, 8 * MIB)


async def test_who_joins_a_read_needs_no_more_space(registry: Registry, disk: Path) -> None:
    """Many readers of one blob on a disk that is almost full need its space once: nothing is evicted for them."""
    async with CachedFront(registry, disk, budget=9 * MIB) as front:
        await front.cache.store.put(front.add(1, 4 * MIB), data_of(1, 4 * MIB))
        digest = front.add(2, 5 * MIB)
        stalled = registry.faults.on("GET", BLOBS).stall(MIB)
        readers = [asyncio.create_task(front.get(digest))]
        await stalled.reached.wait()
        readers += [asyncio.create_task(front.get(digest, MIB)) for _ in range(20)]
        async with front.asking(digest) as chunks:  # all of them have joined
            await anext(chunks)
        stalled.release()
        await asyncio.gather(*readers)
        assert registry.count("GET", BLOBS) == 1
        assert front.evicted.empty()


async def test_a_disk_that_is_full_of_others(registry: Registry, disk: Path) -> None:
    """When nothing can be evicted, a client gets its blob through memory, and a run an error that says why."""
    async with CachedFront(registry, disk, budget=9 * MIB) as front:
        (disk / "others").write_bytes(bytes(11 * MIB))
        digest = front.add(1, 2 * MIB)
        assert await front.get(digest) == data_of(1, 2 * MIB)
        await front.settled()
        assert digest not in front.cache.store
        assert not await front.cache.store.has_room(2 * MIB)
        with pytest.raises(MirrordError, match="free some space"):
            async with front.pool.reader(front.source(digest), "mirror/target"):
                pass


async def test_what_would_not_fit_anyway(registry: Registry, disk: Path) -> None:
    """Nothing is evicted for a blob for which all of the cache would not be enough."""
    async with CachedFront(registry, disk, budget=9 * MIB) as front:
        await front.cache.store.put(kept := front.add(1), data_of(1))
        (disk / "others").write_bytes(bytes(8 * MIB))
        large = front.add(2, 6 * MIB)
        assert await front.get(large) == data_of(2, 6 * MIB)
        assert kept in front.cache.store
        assert front.evicted.empty()
