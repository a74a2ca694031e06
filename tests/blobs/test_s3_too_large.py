"""Objects of a bucket that nobody of us wrote: what is too large costs its headers, and counts as damaged."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from mirrord.blobs import collector
from mirrord.blobs.named import NamedFiles
from mirrord.blobs.removals import Removals
from mirrord.blobs.repositories import ManifestRef
from mirrord.blobs.s3 import S3Store
from mirrord.blobs.s3_repositories import S3Repositories
from mirrord.blobs.s3_uses import SharedUses, _parsed, _written
from mirrord.blobs.shared_cache import SharedCache
from mirrord.blobs.uses import MOST
from mirrord.errors import StorageError, TooLargeError
from mirrord.model.digest import Digest
from mirrord.model.objects import LARGEST, VALUES, SharedStanding, StoredDocument
from mirrord.wire.bucket import ObjectBucket
from tests.support.clocks import Clock
from tests.support.gateway import bucket, gateway

FEW = LARGEST // 4
"""Bytes that may be in buffers of the system when a connection is given up; a body has four times as much."""
ONE = Digest.of(b"one")
LINK = ManifestRef("application/json", 3)
LOG = "repositories/app/_links.jsonl"


class Hostile:
    """The objects of a test, behind what counts the bytes of answers, and a way to make one of them large.

    Attributes:
        passed: bytes of answers; of a body that was read before a read has ended all of them.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix, self.objects = prefix, bucket(prefix)
        self.passed = 0

    async def enlarge(self, key: str, begin: bytes = b"[") -> None:
        """Write an object of more than `LARGEST` bytes, most of which take no room on the disk."""
        await bucket(self.prefix).write(key, begin, "text/plain")
        os.truncate(gateway().folder / self.prefix / key, LARGEST + 1)

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[None]:
        tasks = set[asyncio.Task[None]]()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.add(asyncio.create_task(self._carry(reader, writer)))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        address = gateway().address(self.prefix, endpoint=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        self.objects = ObjectBucket(address)
        async with server:
            yield
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection(*gateway().endpoint.removeprefix("http://").split(":"))
        try:
            await asyncio.gather(self._pass(reader, to_there), self._pass(there, writer, down=True))
        finally:
            for end in (writer, to_there):
                end.transport.abort()
            for end in (writer, to_there):
                with suppress(OSError):
                    await end.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, down: bool = False) -> None:
        with suppress(OSError):
            while piece := await reader.read(1 << 16):
                self.passed += len(piece) if down else 0
                writer.write(piece)
                await writer.drain()
        writer.close()


@pytest.fixture
async def hostile(tmp_path: Path) -> AsyncIterator[Hostile]:
    hostile = Hostile(f"large/{tmp_path.name}")
    async with hostile.counted():
        yield hostile


async def test_the_body_is_left(hostile: Hostile) -> None:
    """The headers say how large it is; the connection is given up, and the rest of the bucket is used as before."""
    await hostile.enlarge("a")
    found = await hostile.objects.read("a")
    assert found
    assert (found.size, found.content) == (LARGEST + 1, None)
    await hostile.objects.write("a", b"[]", "text/plain")
    found = await hostile.objects.read("a")
    assert found
    assert found.value() == []
    assert (await hostile.objects.read("a", most=1) or found).content is None
    assert hostile.passed < FEW


def of_names(objects: ObjectBucket) -> list[Awaitable[object]]:
    names = S3Repositories(objects)
    return [names.tag("app", "main"), names.linked(), names.publish("app", {ONE: LINK}, {"main": ONE})]


@pytest.mark.parametrize(
    ("key", "asked", "said"),
    [
        (LOG, of_names, rf"{LOG}: too large: {LARGEST + 1} bytes"),
        ("removals", lambda objects: [Removals(objects).newest()], rf"removals: too large: {LARGEST + 1} bytes"),
        ("uses/two", lambda objects: [SharedUses(objects, "one").gather()], "uses/two is damaged; remove it"),
        ("uses/one", lambda objects: [SharedUses(objects, "one").gather()], "uses/one is damaged; remove it"),
    ],
    ids=["names", "removals", "uses", "own uses"],
)
async def test_what_is_ours(
    hostile: Hostile, key: str, asked: Callable[[ObjectBucket], list[Awaitable[object]]], said: str
) -> None:
    """It is named, and not replaced."""
    await hostile.enlarge(key)
    for attempt in asked(hostile.objects):
        with pytest.raises(StorageError, match=said):
            await attempt
    found = await hostile.objects.head(key)
    assert found
    assert found.size == LARGEST + 1
    assert hostile.passed < 3 * FEW


async def test_what_is_shared(hostile: Hostile, wall: Clock) -> None:
    """Names count as empty, which is told once, and are written anew; so is whose turn it is to evict."""
    told = list[str]()
    cache = SharedCache(hostile.objects, "one", wall, wall, told.append)
    for key in (LOG, "evicted"):
        await hostile.enlarge(key)
    for _ in range(3):
        wall.now += 2
        assert await cache.tag("app", "main") is None
    assert len(told) == 1
    assert f"{LOG}: too large" in told[0]
    cache.limits(1, 1, None)
    await cache.tend()
    assert cache.standing() == SharedStanding(int(wall.now))
    cache.saw("app", {ONE: LINK}, {"main": ONE}, lambda _: Path("/nowhere"))
    await cache.settled()
    assert [key for key in gateway().objects(hostile.prefix) if key == LOG]
    assert hostile.passed < 2 * FEW


async def test_a_shared_manifest(hostile: Hostile, wall: Clock) -> None:
    """One that is larger than a manifest may be is a miss, and goes."""
    names, cache = S3Repositories(bucket(hostile.prefix)), SharedCache(hostile.objects, "one", wall, wall)
    await names.publish("app", {ONE: LINK}, {"main": ONE})
    key = S3Store.key(ONE)
    await bucket(hostile.prefix).write(key, b"one", "text/plain")
    found = await cache.manifest("app", ONE, 3)
    assert found
    assert found[1] == b"one"
    await hostile.enlarge(key, b"one")
    assert await cache.manifest("app", ONE, 3) is None
    await cache.settled()
    assert await bucket(hostile.prefix).head(key) is None
    assert cache.standing().error == ""
    assert hostile.passed < FEW


async def test_a_named_file(hostile: Hostile) -> None:
    """Of an index, or a provenance, so much is read as was kept; its digest is wrong, as that of other bytes."""
    files = NamedFiles(S3Store(bucket(hostile.prefix)), S3Repositories(bucket(hostile.prefix)), "charts")
    await files.put("index.yaml", b"one", "text/plain")
    await files.show({"index.yaml": ONE})
    await hostile.enlarge(S3Store.key(ONE), b"two")
    files = NamedFiles(S3Store(hostile.objects), S3Repositories(hostile.objects), "charts")
    assert await files.read("index.yaml") == b"two"
    assert hostile.passed < FEW


@pytest.mark.parametrize("text", [b"[],", b"{},", b"[[", b'{"a":{"b":1}},'])
def test_many_values(text: bytes) -> None:
    """A few bytes of JSON that take hundred times as many in memory are not read."""
    document = b"[" + text * (VALUES + 1)
    with pytest.raises(TooLargeError, match="values in one piece"):
        StoredDocument("", len(document), document).value()


async def test_many_values_of_a_repository(hostile: Hostile) -> None:
    """Neither are they in one line of many."""
    line = b'{"tags":{' + b'"a":"b",' * (VALUES + 1) + b"}}\n"
    await hostile.objects.write(LOG, b'{"log":"5f3a","size":0}\n' + line, "text/plain")
    with pytest.raises(StorageError, match=rf"{LOG}: too large: more than \d+ values"):
        await S3Repositories(hostile.objects).tag("app", "main")


def test_the_largest_of_ours() -> None:
    """What a replica writes of its last uses at most can be read, and so can a removal of content with long digests."""
    digests = [Digest(f"sha512:{number:0128x}") for number in range(2 * MOST)]
    data = _written(dict.fromkeys(digests[:MOST], 4e9), [(one, 4e9) for one in digests[MOST:]], 4e9)
    assert len(data) <= LARGEST
    _, manifests, read = _parsed(StoredDocument("", len(data), data))
    assert (len(manifests), len(read)) == (MOST, MOST)


async def test_a_removal_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told in parts, each of which others can read."""
    monkeypatch.setattr(collector, "AT_ONCE", 2)
    prefix = f"large/{tmp_path.name}"
    store, names = S3Store(bucket(prefix)), S3Repositories(bucket(prefix))
    bodies = {Digest.of(body): body for body in (b"one", b"two", b"three")}
    for digest, body in bodies.items():
        await store.put(digest, body)
    await names.remove_unlinked(store, bodies, names.lease())
    assert await S3Store(bucket(prefix)).missing(bodies) == bodies.keys()
    asked = await gateway().operations(prefix)
    assert len([path for operation, path in asked if operation == "PutObject" and "removals" in path]) == 4


async def test_what_nobody_could_read(hostile: Hostile) -> None:
    """It is not written."""
    with pytest.raises(StorageError, match=rf"cannot write a: too large: {LARGEST + 1} bytes"):
        await hostile.objects.write("a", bytes(LARGEST + 1), "text/plain")
    assert await hostile.objects.head("a") is None
