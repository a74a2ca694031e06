"""A bucket that fails: bounded attempts, one clear error, nothing half published (F38)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mirrord.blobs.repositories import ManifestRef
from mirrord.blobs.s3 import S3Store
from mirrord.blobs.s3_repositories import S3Repositories
from mirrord.blobs.store import read_stored
from mirrord.errors import StorageError
from mirrord.model.digest import Digest
from mirrord.model.objects import BucketAwayError
from mirrord.wire.bucket import PATIENCE, BucketPatience, ObjectBucket
from tests.support.bucketproxy import BucketProxy
from tests.support.gateway import ACCESS, BUCKET, SECRET, bucket, gateway

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
HURRIED = BucketPatience(stalled=0.3, attempts=3, whole=2.0)
PATIENT = BucketPatience(stalled=20.0, attempts=3, whole=8.0)  # a busy machine is not away
RECOVERS = BucketPatience(stalled=1.0, attempts=20, whole=8.0)
SMALL, LARGE = b"small" * 100, bytes(range(256)) * 80_000
ONE = Digest.of(b"one")
LINK = ManifestRef("application/json", 3)


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return f"faults/{tmp_path.name}"


@pytest.fixture
def objects(proxy: BucketProxy, prefix: str) -> ObjectBucket:
    return ObjectBucket(gateway().address(prefix, endpoint=proxy.base), PATIENT)


async def test_it_recovers(proxy: BucketProxy, prefix: str, tmp_path: Path) -> None:
    """503 SlowDown, resets and answers that do not come are met by asking again, in every kind of request."""
    objects = ObjectBucket(gateway().address(prefix, endpoint=proxy.base), RECOVERS)
    store, names, file = S3Store(objects), S3Repositories(objects), tmp_path / "file"
    faults = [
        proxy.faults.on("HEAD", "blobs").status(503),
        proxy.faults.on("PUT", Digest.of(SMALL).hex).status(503, SLOW_DOWN),
        proxy.faults.on("POST", "uploads").status(503, SLOW_DOWN),
        proxy.faults.on("PUT", "partNumber=1").close(),
        proxy.faults.on("PUT", "partNumber=2").hold(),
        proxy.faults.on("POST", "uploadId").status(500),
        proxy.faults.on("GET", Digest.of(LARGE).hex).truncate(1 << 20),
        proxy.faults.on("PUT", "_links").status(503, SLOW_DOWN),
    ]
    for data in (SMALL, LARGE):
        file.write_bytes(data)
        assert await store.missing([Digest.of(data)])
        await store.adopt(Digest.of(data), file)
        found = await store.find(Digest.of(data))
        assert found
        assert await read_stored(found, len(data)) == data
    await names.publish("app", {ONE: LINK}, {"main": ONE})
    assert await names.tag("app", "main") == ONE
    assert [fault.hits for fault in faults] == [1] * len(faults)


async def test_a_small_blob_whose_connection_is_cut(proxy: BucketProxy, prefix: str) -> None:
    """It is sent again, as large ones are: a server may cut off whoever sends what another replica just wrote."""
    objects = ObjectBucket(gateway().address(prefix, endpoint=proxy.base), RECOVERS)
    fault = proxy.faults.on("PUT", Digest.of(SMALL).hex).close()
    store = S3Store(objects)
    await store.put(Digest.of(SMALL), SMALL)
    assert fault.hits == 1
    assert await S3Store(objects).find(Digest.of(SMALL))


async def test_it_is_waited_for(proxy: BucketProxy, prefix: str) -> None:
    """A bucket that refuses at once, again and again, is asked for as long as one that hangs, and not for a second."""
    fault = proxy.faults.on("HEAD", "", times=9).status(503, SLOW_DOWN)
    objects = ObjectBucket(gateway().address(prefix, endpoint=proxy.base), replace(PATIENCE, whole=4.0))
    assert await objects.head("one") is None
    assert fault.hits == 9


@pytest.mark.parametrize("how", ["slow down", "reset", "stall"])
async def test_it_gives_up(proxy: BucketProxy, prefix: str, tmp_path: Path, how: str) -> None:
    """What fails again and again ends after a few attempts with one line; nothing can be found, no name is changed."""
    await S3Repositories(bucket(prefix)).publish("app", {ONE: LINK}, {"main": ONE})
    fault, file = proxy.faults.on("*", "", times=None), tmp_path / "file"
    _ = {"slow down": lambda: fault.status(503, SLOW_DOWN), "reset": fault.close, "stall": fault.hold}[how]()
    file.write_bytes(LARGE)
    objects = ObjectBucket(gateway().address(prefix, endpoint=proxy.base), HURRIED)
    store, names = S3Store(objects), S3Repositories(objects)
    attempts = [
        store.missing([ONE]),
        store.put(Digest.of(SMALL), SMALL),
        store.adopt(Digest.of(LARGE), file),
        names.tag("app", "main"),
        names.publish("app", {}, {"main": ONE, "v2": ONE}),
        names.linked(),
        store.remove_all([ONE, Digest.of(SMALL)]),
    ]
    for error in await asyncio.gather(*attempts, return_exceptions=True):
        assert isinstance(error, StorageError), error
        text = str(error)
        assert text.startswith(f"s3://{BUCKET}/{prefix}: cannot ")
        assert len(text) < 500
        assert "\n" not in text
        assert [one for one in (ACCESS, SECRET, "X-Amz", "uthorization") if one in text] == []
    fault.release()
    assert proxy.count("*") <= (len(attempts) + 1) * (HURRIED.attempts + 1)
    assert gateway().objects(prefix) == ["repositories/app/_links.jsonl"]
    state = await S3Repositories(bucket(prefix)).state("app")
    assert state
    assert state.tags == {"main": ONE}


async def test_who_waits_for_a_document_shares_its_failure(proxy: BucketProxy, objects: ObjectBucket) -> None:
    """While a bucket does not answer, many who look at one repository cost one series of attempts, not one each."""
    ticks = 0.0
    names = S3Repositories(objects, ticks=lambda: ticks)
    proxy.faults.on("GET", "_links", times=PATIENT.attempts + 1).close()
    found = await asyncio.gather(*(names.tag("app", f"v{number}") for number in range(20)), return_exceptions=True)
    assert {type(one) for one in found} == {BucketAwayError}
    assert len(set(map(str, found))) == 1
    assert proxy.count("GET", "_links") == PATIENT.attempts + 1
    ticks = 2.0
    assert await names.tag("app", "v1") is None


async def test_many_at_a_bucket_that_is_away(proxy: BucketProxy, objects: ObjectBucket) -> None:
    """Who looks for many, or deletes them, gives up when some have failed, and does not wait for each of them."""
    many = [Digest.of(b"%d" % number) for number in range(200)]
    proxy.faults.on("*", "", times=None).close()
    with pytest.raises(StorageError, match="cannot look at"):
        await S3Store(objects).missing(many)
    assert proxy.count("HEAD") <= 2 * 32 * (PATIENT.attempts + 1)
    with pytest.raises(StorageError, match="cannot delete"):
        await objects.delete([S3Store.key(digest) for digest in many])
    assert proxy.count("DELETE") <= 2 * 32 * (PATIENT.attempts + 1)


async def test_a_write_whose_answer_is_lost(proxy: BucketProxy, objects: ObjectBucket) -> None:
    """A publication that was written, while its answer was lost, counts as written, and as nobody else's."""
    names = S3Repositories(objects)
    revision = await names.publish("app", {ONE: LINK}, {"main": ONE})
    proxy.faults.on("PUT", "_links").close_mid_header()
    await names.publish("app", {}, {"v2": ONE}, expect=revision)
    assert proxy.count("PUT", "_links") == 3
    state = await names.state("app")
    assert state
    assert state.tags == {"main": ONE, "v2": ONE}


async def test_a_document_that_is_damaged(objects: ObjectBucket) -> None:
    """It is named, and not replaced."""
    await objects.write("repositories/app/_links.jsonl", b"{", "text/plain")
    names = S3Repositories(objects)
    for attempt in (names.tag("app", "main"), names.linked(), names.publish("app", {ONE: LINK}, {"main": ONE})):
        with pytest.raises(StorageError, match=r"repositories/app/_links\.jsonl"):
            await attempt
    assert await objects.read("repositories/app/_links.jsonl") is not None


PROGRAM = """
import asyncio, sys
from mirrord.blobs.repositories import ManifestRef
from mirrord.blobs.s3 import S3Store
from mirrord.blobs.s3_repositories import S3Repositories
from mirrord.model.digest import Digest
from mirrord.wire.bucket import ObjectBucket
from mirrord.wire.bucket_address import BucketAddress
from mirrord.wire.secret import Secret

endpoint, bucket, prefix, access, secret = sys.argv[1:]
objects = ObjectBucket(BucketAddress(bucket, prefix, endpoint, "us-east-1", (Secret(access), Secret(secret))))

async def publish():
    store, names, one = S3Store(objects), S3Repositories(objects), Digest.of(b"one")
    await store.put(one, b"one")
    await names.publish("app", {one: ManifestRef("application/json", 3)}, {"main": one})

async def upload():
    async def pieces():
        for _ in range(4):
            yield bytes(3 << 20)
    await objects.upload("large", pieces(), 12 << 20, "text/plain")

"""


def program(prefix: str, what: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a part of `PROGRAM` in a process of its own."""
    command = [
        sys.executable,
        "-c",
        f"{PROGRAM}asyncio.run({what}())",
        gateway().endpoint,
        BUCKET,
        prefix,
        ACCESS,
        SECRET,
    ]
    return subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=60, check=False)


def test_the_end_of_a_process(prefix: str) -> None:
    """A process that ends right after an upload does not abort, as it would in five of six cases without our pause."""
    ran = program(prefix, "upload")
    assert ran.returncode == 0, ran


@pytest.mark.parametrize(
    ("where", "named"),
    [("store.linked", False), ("links.written", False), ("links.renamed", True)],
)
def test_a_kill_between_content_and_name(prefix: str, where: str, named: bool) -> None:
    """A process that is killed leaves content without a name, or both, and the next one finishes."""
    ran = program(prefix, "publish", MIRRORD_FAILPOINTS=f"{where}=exit")
    assert ran.returncode == 137, ran.stderr
    assert ("repositories/app/_links.jsonl" in gateway().objects(prefix)) is named

    async def look() -> None:
        store, names = S3Store(bucket(prefix)), S3Repositories(bucket(prefix))
        assert await store.missing([ONE]) == frozenset()
        assert (await names.tag("app", "main") == ONE) is named
        await names.publish("app", {ONE: LINK}, {"main": ONE})
        assert await names.tag("app", "main") == ONE

    asyncio.run(look())
