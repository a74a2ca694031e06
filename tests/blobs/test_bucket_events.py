"""Each request to a bucket is told with its outcome, so that it can be counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.errors import ConflictError, MissingError, StorageError
from mirrord.model.objects import StoredDocument
from mirrord.model.remote import BucketAsked
from mirrord.wire.bucket import BucketPatience, ObjectBucket
from tests.support.bucketproxy import BucketProxy
from tests.support.gateway import gateway

LARGE = bytes(9 << 20)


async def pieces() -> AsyncIterator[bytes]:
    yield LARGE


async def test_every_operation(tmp_path: Path) -> None:
    """What is not there, and what somebody else changed, are outcomes of their own; signing asks nobody."""
    told = list[BucketAsked]()
    bucket = ObjectBucket(gateway().address(f"events/{tmp_path.name}"), tell=told.append)
    assert await bucket.head("a") is None
    assert await bucket.read("a") is None
    etag = await bucket.write("a", b"one", "text/plain", "")
    with pytest.raises(ConflictError):
        await bucket.write("a", b"two", "text/plain", "")
    assert await bucket.read("a", etag) == StoredDocument(etag)
    await bucket.upload("large", pieces(), len(LARGE), "text/plain")
    assert [piece async for piece in bucket.stream("a", 0, 3)] == [b"one"]
    with pytest.raises(MissingError):
        assert [piece async for piece in bucket.stream("b", 0, 3)]
    assert [key async for page in bucket.listed("") for key in page] == ["a", "large"]
    await bucket.url("a", 60)
    await bucket.delete(["a", "large"])
    assert [(one.operation, one.outcome) for one in told] == [
        *(("head", "absent"), ("get", "absent"), ("put", "done"), ("put", "conflict"), ("get", "done")),
        *(("upload", "done"), ("stream", "done"), ("stream", "absent"), ("list", "done")),
        *(("delete", "done"), ("delete", "done")),
    ]
    assert all(0 < one.seconds < 60 for one in told)


async def test_failures(tmp_path: Path) -> None:
    """What is repeated and ends well is one request; what is given up has failed."""
    told = list[BucketAsked]()
    async with BucketProxy() as proxy:
        address = gateway().address(f"events/{tmp_path.name}", endpoint=proxy.base)
        bucket = ObjectBucket(address, BucketPatience(stalled=20.0, attempts=1, whole=20.0), told.append)
        proxy.faults.on("HEAD", "a", times=1).status(503)
        assert await bucket.head("a") is None
        proxy.faults.on("HEAD", "a", times=2).status(503)
        with pytest.raises(StorageError):
            await bucket.head("a")
    assert [(one.operation, one.outcome) for one in told] == [("head", "absent"), ("head", "failed")]
