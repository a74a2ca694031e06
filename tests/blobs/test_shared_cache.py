"""What replicas share of a front's cache: it stays within its size, and nobody evicts what is pinned or was used."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.blobs.disk import DiskStore
from mirrord.blobs.repositories import ManifestRef
from mirrord.blobs.resting import REST
from mirrord.blobs.s3 import S3Store
from mirrord.blobs.s3_repositories import S3Repositories
from mirrord.blobs.shared_cache import RENEWED, SharedCache
from mirrord.blobs.shared_eviction import EVERY
from mirrord.errors import ConflictError
from mirrord.model.digest import Digest
from mirrord.model.objects import SharedStanding
from mirrord.wire.bucket import BucketPatience, ObjectBucket
from tests.support.bucketproxy import BucketProxy
from tests.support.clocks import Clock
from tests.support.gateway import bucket, gateway

KIB = 1 << 10
FOREVER = 1e12
NAME = "up.test/team/app"


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return f"shared/{tmp_path.name}"


class Sharing:
    """A replica that shares manifests of one KiB, each with one blob of three."""

    def __init__(self, prefix: str, name: str, wall: Clock, folder: Path) -> None:
        self.told = list[str]()
        self.cache = SharedCache(bucket(prefix), name, wall, wall, self.told.append)
        self._disk = DiskStore(folder / name)

    async def share(self, number: int, name: str = NAME) -> tuple[Digest, Digest]:
        """Share an image under its number as a tag, and return its manifest and its blob."""
        made = list[Digest]()
        for data in (b"m%03d" % number * (KIB // 4), b"b%05d" % number * (KIB // 2)):
            made.append(Digest.of(data))
            await self._disk.put(made[-1], data)
        manifest, blob = made
        self.cache.share(blob, self._disk.place)
        self.cache.saw(
            name, {manifest: ManifestRef("application/json", KIB, (blob,))}, {f"v{number}": manifest}, self._disk.place
        )
        await self.cache.settled()
        return manifest, blob


@pytest.fixture
def one(prefix: str, wall: Clock, tmp_path: Path) -> Sharing:
    return Sharing(prefix, "one", wall, tmp_path)


@pytest.fixture
def two(prefix: str, wall: Clock, tmp_path: Path) -> Sharing:
    return Sharing(prefix, "two", wall, tmp_path)


async def there(prefix: str, images: list[tuple[Digest, Digest]]) -> list[int]:
    """Return which images are in the bucket, and expect that none is in parts."""
    found = [[S3Store.key(digest) in gateway().objects(prefix) for digest in image] for image in images]
    assert all(manifest == blob for manifest, blob in found)
    return [number for number, both in enumerate(found) if both[0]]


async def test_within_its_size(prefix: str, one: Sharing, two: Sharing, wall: Clock) -> None:
    """What no replica used for longest goes, with its names; what a client of any replica used stays as it was."""
    first = int(wall.now)
    images = [await (one, two)[number % 2].share(number) for number in range(5)]
    for number in (4, 3, 1):
        wall.now += RENEWED
        for digest in images[number]:
            (one, two)[number % 2].cache.note(digest)
    await two.cache.tend()
    one.cache.limits(8 * KIB, FOREVER, None)
    await one.cache.tend()
    assert await there(prefix, images) == [1, 3]
    state = await S3Repositories(bucket(prefix)).read(NAME)
    assert state
    assert (set(state.manifests), set(state.tags)) == ({images[1][0], images[3][0]}, {"v1", "v3"})
    assert state.tagged == {"v1": first, "v3": first}  # nobody has asked upstream since


async def test_one_evicts_for_all(prefix: str, one: Sharing, two: Sharing, wall: Clock) -> None:
    """Of many replicas one lists the bucket in half an hour; the others do so when that one is gone."""
    images = [await one.share(number) for number in range(2)]
    for replica in (one, two):
        replica.cache.limits(100 * KIB, FOREVER, None)
        await replica.cache.tend()
    two.cache.limits(0, FOREVER, None)
    await two.cache.tend()
    lists = [path for kind, path in await gateway().operations(prefix) if kind == "ListObjectsV2" and "blobs" in path]
    assert len(lists) == 1
    assert await there(prefix, images) == [0, 1]
    wall.now += EVERY
    await two.cache.tend()
    assert await there(prefix, images) == []
    assert await S3Repositories(bucket(prefix)).names() == []


async def test_what_nobody_uses(prefix: str, one: Sharing, wall: Clock) -> None:
    """Content that no client asked for in `unused` seconds goes; a pinned repository keeps what its tags reach."""
    images = [await one.share(0), await one.share(1, "up.test/pinned"), await one.share(2)]
    for digest in images[2]:
        one.cache.note(digest)
    wall.now += 5000
    one.cache.limits(1e9, 6000, lambda name: name == "up.test/pinned")
    await one.cache.tend()
    assert await there(prefix, images) == [1, 2]
    wall.now += 5000
    await one.cache.tend()
    assert await there(prefix, images) == [1]


async def test_a_tag_is_said_anew_once_a_minute(prefix: str, one: Sharing, two: Sharing, wall: Clock) -> None:
    """The time of a tag is that of the last look upstream, written once a minute at most."""
    manifest, _ = await one.share(0)
    first, before = int(wall.now), await gateway().asked(prefix)
    for later in (1, 58, 2):
        wall.now += later
        await one.share(0)
    assert (await gateway().asked(prefix) - before)["PUT"] == 1 + 2  # the document, and two that are there
    seen = await two.cache.tag(NAME, "v0")
    assert seen
    assert (seen.digest, seen.at) == (manifest, first + 61)


async def test_a_repository_that_was_removed(prefix: str, one: Sharing, two: Sharing) -> None:
    """Who knows an older state publishes all the same; a removal on an older state is refused."""
    for replica in (one, two, one):
        await replica.share(0)
    others = S3Repositories(bucket(prefix))
    state = await others.read(NAME)
    assert state
    with pytest.raises(ConflictError):
        await others.remove(NAME, expect="older")
    await others.remove(NAME, expect=state.revision)
    assert (await others.exists(NAME), await others.names()) == (False, [])
    manifest, _ = await two.share(1)
    assert await others.read(NAME)
    assert await S3Repositories(bucket(prefix)).tag(NAME, "v1") == manifest


async def test_a_server_that_misses_what_is_to_be_replaced(prefix: str, proxy: BucketProxy) -> None:
    """AWS says 404 where what `If-Match` names was removed, others 412: the change is made anew on what is there."""
    address = gateway().address(prefix, endpoint=proxy.base)
    repositories, digest = S3Repositories(ObjectBucket(address)), Digest.of(b"one")
    links = {digest: ManifestRef("application/json", 3)}
    await repositories.publish(NAME, links, {"v1": digest})
    missing = b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
    proxy.faults.on("PUT", "/repositories/").status(404, missing)
    await repositories.publish(NAME, links, {"v2": digest})
    state = await S3Repositories(bucket(prefix)).read(NAME)
    assert state
    assert set(state.tags) == {"v1", "v2"}


@pytest.mark.parametrize(
    "body",
    [b"not a document\n", b"", b"[" * 200_000 + b"\n", b'{"log":"x","size":1e999}\n'],
    ids=["text", "empty", "deep", "infinite"],
)
async def test_a_damaged_document(prefix: str, one: Sharing, two: Sharing, wall: Clock, body: bytes) -> None:
    """It is a miss for its name alone, which is told once, and the next pull writes it anew."""
    other, _ = await one.share(1, "up.test/other")
    first, _ = await one.share(0)
    key = f"repositories/{NAME}/_links.jsonl"
    await bucket(prefix).write(key, body, "text/plain")
    for _ in range(3):
        wall.now += 2
        assert await two.cache.tag(NAME, "v0") is None
        seen = await two.cache.tag("up.test/other", "v1")
        assert seen
        assert seen.digest == other
    assert len(two.told) == 1
    assert key in two.told[0]
    assert two.cache.standing().error == ""
    two.cache.limits(0, FOREVER, None)
    again, _ = await two.share(0)
    assert again == first
    state = await S3Repositories(bucket(prefix)).read(NAME)
    assert state
    assert state.tags == {"v0": first}


async def test_a_damaged_document_does_not_stop_evictions(prefix: str, one: Sharing, two: Sharing) -> None:
    """The others' names are tidied."""
    images = [await one.share(number, f"up.test/app{number}") for number in range(3)]
    await bucket(prefix).write("repositories/up.test/app0/_links.jsonl", b"{", "text/plain")
    two.cache.limits(0, FOREVER, None)
    await two.cache.tend()
    assert await there(prefix, images) == []
    assert await S3Repositories(bucket(prefix)).names() == ["up.test/app0"]


@pytest.mark.parametrize(("status", "rests"), [(400, False), (403, True), (503, True)])
async def test_what_says_that_the_bucket_is_away(prefix: str, proxy: BucketProxy, *, status: int, rests: bool) -> None:
    """An answer about one object does not; what would be said of any other one does, and is shown until it is over."""
    told = list[str]()
    objects = ObjectBucket(gateway().address(prefix, endpoint=proxy.base), BucketPatience(20.0, 0, 20.0))
    cache = SharedCache(objects, "one", tell=told.append)
    proxy.faults.on("GET", "/", times=1).status(status, b"<Error><Code>OhNo</Code></Error>")
    assert await cache.tag(NAME, "v1") is None
    assert await cache.find(Digest.of(b"x")) is None
    assert len(proxy.log) == (1 if rests else 2)
    assert ("OhNo" in cache.standing().error, len(told)) == (rests, not rests)


async def test_what_was_counted(prefix: str, one: Sharing, two: Sharing, wall: Clock, tmp_path: Path) -> None:
    """Each replica says what the last eviction has left and what all of them removed, also one that begins later."""
    for number in range(5):
        await one.share(number)
    one.cache.limits(8 * KIB, FOREVER, None)
    two.cache.limits(4 * KIB, FOREVER, None)
    await one.cache.tend()
    await two.cache.tend()
    now = int(wall.now)
    assert one.cache.standing() == two.cache.standing() == SharedStanding(now, 8 * KIB, 4, 6, 12 * KIB)
    wall.now += EVERY
    await two.cache.tend()
    three = Sharing(prefix, "three", wall, tmp_path)
    await three.cache.look()
    assert three.cache.standing() == SharedStanding(now + int(EVERY), 4 * KIB, 2, 8, 16 * KIB)
    await bucket(prefix).write("evicted", b'{"began": []}', "text/plain")
    await three.cache.tend()
    assert three.cache.standing() == SharedStanding()


async def test_what_tending_fails_at(prefix: str, one: Sharing) -> None:
    """It is said until tending succeeds, and harms nobody."""
    manifest, _ = await one.share(0)
    await bucket(prefix).write("uses/two", b"{", "text/plain")
    one.cache.limits(0, FOREVER, None)
    await one.cache.bucket.asked(one.cache.tend)
    assert "uses/two is damaged" in one.cache.standing().error
    assert one.told == [one.cache.standing().error]
    seen = await one.cache.tag(NAME, "v0")
    assert seen
    assert seen.digest == manifest
    await bucket(prefix).delete(["uses/two"])
    await one.cache.tend()
    assert one.cache.standing().error == ""


async def test_a_bucket_that_fails_rests(prefix: str, proxy: BucketProxy, wall: Clock) -> None:
    """One request that fails is enough: nothing is asked for half a minute, and then once."""
    address = gateway().address(prefix, endpoint=proxy.base)
    cache = SharedCache(ObjectBucket(address, BucketPatience(20.0, 0, 20.0)), "one", wall, wall)
    proxy.faults.on("GET", "/", times=2).status(503)
    for _ in range(3):
        assert not await cache.links(NAME, Digest.of(b"x"))
        assert await cache.find(Digest.of(b"x")) is None
    assert len(proxy.log) == 1
    wall.now += REST
    assert await cache.tag(NAME, "v1") is None
    assert await cache.find(Digest.of(b"x")) is None
    assert len(proxy.log) == 2
    wall.now += REST
    assert await cache.find(Digest.of(b"x")) is None
    assert [one.method for one in proxy.log] == ["GET", "GET", "HEAD"]
