"""Content and names in a bucket: how many requests they cost, and what is left when something breaks."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirrord.blobs import s3
from mirrord.blobs.repositories import ManifestRef
from mirrord.blobs.s3 import S3Store
from mirrord.blobs.s3_repositories import S3Repositories
from mirrord.blobs.store import read_stored
from mirrord.errors import StorageError
from mirrord.model.digest import Digest
from mirrord.wire.bucket import BucketPatience, ObjectBucket
from mirrord.wire.secret import Secret
from tests.support.bucketproxy import BucketProxy
from tests.support.clocks import Clock
from tests.support.gateway import ACCESS, BUCKET, bucket, gateway

SMALL, LARGE = b"small" * 100, bytes(range(256)) * 80_000
HURRIED = BucketPatience(attempts=1)
ONE = Digest.of(b"one")
LINK = ManifestRef("application/json", 3)
Cost = Callable[[], Awaitable[dict[str, int]]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return f"s3/{tmp_path.parent.name}-{tmp_path.name}"


@pytest.fixture
def store(prefix: str, clock: Clock) -> S3Store:
    return S3Store(bucket(prefix), ticks=clock)


@pytest.fixture
def cost(prefix: str) -> Cost:
    """Return what was asked since the last time."""
    before = Counter[str]()

    async def asked() -> dict[str, int]:
        nonlocal before
        now = await gateway().asked(prefix)
        since, before = now - before, now
        return dict(since)

    return asked


async def test_a_small_blob(store: S3Store, cost: Cost, tmp_path: Path, clock: Clock) -> None:
    """A look and one PUT for a new one, nothing for what was just seen, one look a minute later, one PUT in vain."""
    digest, file = Digest.of(SMALL), tmp_path / "file"
    file.write_bytes(SMALL)
    assert await store.missing([digest]) == {digest}
    await store.adopt(digest, file)
    assert await cost() == {"HEAD": 1, "PUT": 1}
    assert await store.missing([digest]) == frozenset()
    await store.adopt(digest, file)
    assert await store.find(digest)
    assert await cost() == {}
    clock.now += s3.FRESH
    assert await asyncio.gather(*(store.missing([digest]) for _ in range(20))) == [frozenset()] * 20
    assert await cost() == {"HEAD": 1}
    clock.now += s3.FRESH
    await store.put(digest, SMALL)
    assert await cost() == {"PUT": 1}


async def test_what_is_linked(store: S3Store, cost: Cost, clock: Clock) -> None:
    """It is looked for once a day, and no sooner; what was not there is looked for again."""
    digest, absent = Digest.of(SMALL), Digest.of(b"absent")
    await store.put(digest, SMALL)
    clock.now += s3.FRESH
    await cost()
    for _ in range(3):
        assert await store.missing([digest, absent], linked=True) == {absent}
        clock.now += s3.TRUSTED / 4
    assert await cost() == {"HEAD": 4}
    clock.now += s3.TRUSTED / 4
    assert await store.missing([digest], linked=True) == frozenset()
    assert await cost() == {"HEAD": 1}


async def test_a_large_blob(store: S3Store, cost: Cost, tmp_path: Path, clock: Clock) -> None:
    """A look, a beginning, three parts and an end for 20 MB; one look, and no byte, for what is there already."""
    digest, file = Digest.of(LARGE), tmp_path / "file"
    file.write_bytes(LARGE)
    await store.adopt(digest, file)
    assert await cost() == {"HEAD": 1, "POST": 2, "PUT": 3}
    clock.now += s3.FRESH
    await store.adopt(digest, file)
    assert await cost() == {"HEAD": 1}
    found = await store.find(digest)
    assert found
    assert await read_stored(found, len(LARGE)) == LARGE
    assert await cost() == {"GET": 1}


async def test_many_are_looked_for_at_once(prefix: str, clock: Clock) -> None:
    """Each costs one look, and nobody lists the bucket."""
    gateway()
    many = [Digest.of(b"%d" % number) for number in range(100)]
    async with BucketProxy() as proxy:  # lines of the server's log about requests at once get into each other
        store = S3Store(ObjectBucket(gateway().address(prefix, endpoint=proxy.base)), ticks=clock)
        for digest, data in ((many[3], b"3"), (many[7], b"7")):
            await store.put(digest, data)
        proxy.forget()
        assert await store.missing(many) == frozenset(many) - {many[3], many[7]}
        assert Counter(one.method for one in proxy.log) == {"HEAD": 98}


async def test_an_upload_that_is_cancelled(
    store: S3Store, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts that were sent are taken back, and no object is there."""
    digest, file = Digest.of(LARGE), tmp_path / "file"
    file.write_bytes(LARGE)
    begun, go_on = asyncio.Event(), asyncio.Event()
    pieces = s3._pieces

    async def slow(place: Path, size: int) -> AsyncIterator[bytes]:
        count = 0
        async for piece in pieces(place, size):
            yield piece
            count += 1
            if count == 12:
                begun.set()
                await go_on.wait()

    monkeypatch.setattr(s3, "_pieces", slow)
    adopting = asyncio.create_task(store.adopt(digest, file))
    await begun.wait()
    adopting.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await adopting
    assert gateway().objects(prefix) == []
    assert (await gateway().asked(prefix))["DELETE"] == 1


async def test_an_upload_whose_source_breaks(
    store: S3Store, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of it, and the error is the source's."""
    digest, file, pieces = Digest.of(LARGE), tmp_path / "file", s3._pieces
    file.write_bytes(LARGE)

    def shrinking(place: Path, size: int) -> AsyncIterator[bytes]:
        os.truncate(place, size // 2)
        return pieces(place, size)

    monkeypatch.setattr(s3, "_pieces", shrinking)
    with pytest.raises(StorageError, match="truncated while it was read"):
        await store.adopt(digest, file)
    assert gateway().objects(prefix) == []
    assert (await gateway().asked(prefix))["DELETE"] == 1


async def test_names_cost_one_look_a_second(prefix: str, cost: Cost, clock: Clock) -> None:
    """Readers of a repository ask once a second, and get it anew only when it has changed; a publication is one PUT."""
    names = S3Repositories(bucket(prefix), ticks=clock)
    await names.publish("app", {ONE: LINK}, {"main": ONE})
    assert await cost() == {"GET": 1, "PUT": 1}
    for _ in range(5):
        assert await names.tag("app", "main") == ONE
        assert await names.links("app", ONE)
        assert not await names.exists("other")
    assert await cost() == {"GET": 1}  # of the other one
    clock.now += 1
    assert await names.tag("app", "main") == ONE
    await names.publish("app", {}, {"v2": ONE})
    assert await cost() == {"GET": 1, "PUT": 1}
    await names.publish("app", {}, {"v2": ONE})
    assert await cost() == {"GET": 1}  # nothing is new, by the newest


async def test_two_writers(prefix: str) -> None:
    """Two replicas publish into one repository at once, and drop from it: no update is lost (bad input 56)."""
    writers = [S3Repositories(bucket(prefix)) for _ in range(2)]
    await writers[0].publish("app", {ONE: LINK}, {f"old{number}": ONE for number in range(10)})

    async def write(number: int) -> None:
        mine = writers[number % 2]
        await mine.publish("app", {}, {f"v{number}": ONE})
        await mine.drop("app", {f"old{number}": ONE})

    await asyncio.gather(*(write(number) for number in range(10)))
    for reader in (*writers, S3Repositories(bucket(prefix))):
        state = await reader.read("app")
        assert state
        assert set(state.tags) == {f"v{number}" for number in range(10)}


async def test_a_tag_of_what_another_dropped(prefix: str) -> None:
    """Who names a manifest that another replica dropped meanwhile is told so; no tag is left without its manifest."""
    one, other = S3Repositories(bucket(prefix)), S3Repositories(bucket(prefix))
    await one.publish("app", {ONE: LINK}, {"main": ONE})
    await other.drop("app", {"main": ONE})
    with pytest.raises(StorageError, match="was dropped before its tag was set"):
        await one.publish("app", {}, {"v2": ONE})
    state = await other.read("app")
    assert state
    assert not state.tags


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bucket": "nowhere"}, "s3://nowhere/p: the bucket does not exist; make it, or correct `settings.blobs`"),
        (
            {"keys": (Secret(ACCESS), Secret("wrong-key-of-ours"))},
            f"s3://{BUCKET}/p: cannot write mirrord: SignatureDoesNotMatch",
        ),
        (
            {"keys": (Secret("a-stranger-of-ours"), Secret("wrong-key-of-ours"))},  # versitygw answers 404
            f"s3://{BUCKET}/p: cannot write mirrord: XAdminUserNotFound (No user exists with the provided access key",
        ),
        (
            {"region": "eu-west-9"},
            f"s3://{BUCKET}/p: cannot write mirrord: AuthorizationHeaderMalformed (",
        ),
        (
            {"endpoint": "http://127.0.0.1:1"},
            f"s3://{BUCKET}/p: cannot write mirrord: HTTP error: error sending request to http://127.0.0.1:1: Conn",
        ),
    ],
)
async def test_at_the_start(change: dict[str, Any], said: str) -> None:
    """A wrong bucket or key is one line that says what to do, without key, signature or request."""
    address = replace(gateway().address("p"), **change)
    with pytest.raises(StorageError) as caught:
        await S3Store(ObjectBucket(address, HURRIED)).open_()
    text = str(caught.value)
    assert text.startswith(said)
    assert [one for one in ("\n", "&#") if one in text] == []
    assert [one for one in (ACCESS, "wrong-key", "X-Amz", "StringToSign", "AWS4-") if one in text] == []


async def test_a_404_about_us_is_no_absence() -> None:
    """Where the access key is not known any more, what is there is not said to be gone."""
    objects = ObjectBucket(
        replace(gateway().address("p"), keys=(Secret("a-stranger-of-ours"), Secret("wrong-key-of-ours")))
    )
    for asked in (objects.read("mirrord"), objects.delete(["mirrord"])):
        with pytest.raises(StorageError, match=r"XAdminUserNotFound.*check the keys of `settings\.blobs`"):
            await asked


@pytest.mark.parametrize("ignored", ["If-None-Match", "If-Match"])
async def test_a_server_without_conditional_writes(
    store: S3Store, monkeypatch: pytest.MonkeyPatch, ignored: str
) -> None:
    """A server that replaces what it must not replace is refused at the start: replicas would lose names."""
    await store.open_()
    await store.open_()
    write = ObjectBucket.write

    async def heedless(self: ObjectBucket, key: str, data: bytes, media_type: str, over: str | None = None) -> str:
        heeded = over if bool(over) is (ignored == "If-None-Match") else None
        return await write(self, key, data, media_type, heeded)

    monkeypatch.setattr(ObjectBucket, "write", heedless)
    with pytest.raises(StorageError, match=f"in spite of {ignored},"):
        await store.open_()
