"""Blobs in chunks, where nothing else passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mirrord.errors import DigestError, MissingError, RefusedError, UnsupportedError
from mirrord.model.digest import Digest
from mirrord.testing import DockerRegistry, Fault, Registry, require
from mirrord.wire.http.client import Http
from mirrord.wire.oci import upload
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.reference import Reference
from tests.support.uploading import DATA, UPLOADS, Source, blob, requests


async def test_proxy_that_limits_bodies(repo: Repository, registry: Registry, profile: Callable[..., None]) -> None:
    """After 413 the blob goes in chunks, each at its offset, the last one with the PUT."""
    profile(chunk=100_000)
    repo = Repository(repo._endpoint.http, repo.reference, push=True)
    registry.faults.on("PUT", UPLOADS).status(413)
    source = Source(DATA, step=30_000)
    await repo.put_blob(blob(), source.open)
    assert registry.blobs[blob().digest] == DATA
    assert requests(registry) == ["POST", "PUT", "POST", "PATCH", "PATCH", "PUT"]
    ranges = [exchange.headers.get("content-range") for exchange in registry.log[3:]]
    assert ranges == ["0-99999", "100000-199999", "200000-262143"]
    assert source.opened == source.closed


@pytest.mark.parametrize("size", [0, 99_999, 100_000, 100_001, 200_000])
async def test_registry_that_wants_chunks(
    http: Http, registry: Registry, profile: Callable[..., None], size: int
) -> None:
    """Above the profile's limit blobs go in chunks at once (harbor#23015), the last chunk being full or not."""
    profile(chunk=50_000, put_limit=100_000)
    repo = Repository(http, Reference(registry.host, "a/b"))
    data = DATA[:size]
    await repo.put_blob(blob(data), Source(data).open)
    assert registry.blobs[Digest.of(data)] == data
    assert registry.count("PATCH", UPLOADS) == (0 if size <= 100_000 else -(-size // 50_000) - 1)


async def test_chunks_are_as_long_as_the_registry_wants(
    http: Http, registry: Registry, profile: Callable[..., None]
) -> None:
    """`OCI-Chunk-Min-Length` is honoured (distribution-spec, "Pushing a blob in chunks")."""
    profile(chunk=1000, put_limit=0)
    registry.faults.on("POST", UPLOADS).header("OCI-Chunk-Min-Length", "200000")
    await Repository(http, Reference(registry.host, "a/b")).put_blob(blob(), Source(DATA).open)
    assert registry.count("PATCH", UPLOADS) == 1


@pytest.mark.parametrize("least", ["67108865", "99999999999", "9" * 5000])
async def test_chunks_that_nobody_can_hold(
    http: Http, registry: Registry, profile: Callable[..., None], least: str
) -> None:
    """A registry does not get to choose how much memory we need: above 64 MiB a chunk it gets none."""
    profile(chunk=1000, put_limit=0)
    registry.faults.on("POST", UPLOADS).header("OCI-Chunk-Min-Length", least)
    repo = Repository(http, Reference(registry.host, "a/b"))
    with pytest.raises(UnsupportedError, match="67108864 are the most"):
        await repo.put_blob(blob(), Source(DATA).open)
    assert registry.count("PATCH|PUT", ".") == 0


@pytest.mark.parametrize(
    ("fault", "ranges"),
    [
        (lambda one: one.status(416), ["0-99999", "100000-199999", "100000-199999", "200000-262143"]),
        (lambda one: one.close_mid_header(), ["0-99999", "100000-199999", "200000-262143"]),
        (lambda one: one.status(500), ["0-99999", "100000-199999", "100000-199999", "200000-262143"]),
    ],
    ids=["416", "lost answer", "500"],
)
async def test_chunks_go_on_where_the_registry_is(
    http: Http, registry: Registry, profile: Callable[..., None], fault: Callable[[Fault], Fault], ranges: list[str]
) -> None:
    """After a chunk that failed the registry says by `Range` how far it came; the session goes on from there."""
    profile(chunk=100_000, put_limit=0)
    repo = Repository(http, Reference(registry.host, "a/b"))
    fault(registry.faults.on("PATCH", UPLOADS, skip=1))
    source = Source(DATA)
    await repo.put_blob(blob(), source.open)
    assert registry.blobs[blob().digest] == DATA
    assert [one.headers["content-range"] for one in registry.log if "content-range" in one.headers] == ranges
    assert (registry.count("POST", UPLOADS), registry.count("GET", UPLOADS), source.opened) == (1, 1, 1)


async def test_a_chunk_of_which_a_part_arrived(http: Http, registry: Registry, profile: Callable[..., None]) -> None:
    """A registry that took a part of a chunk gets the rest of it."""
    profile(chunk=100_000, put_limit=0)
    repo = Repository(http, Reference(registry.host, "a/b"))

    def take() -> None:
        (upload,) = registry.protocol.uploads.open.values()
        upload.data += DATA[100_000:130_000]
        upload.hashes["sha256"].update(DATA[100_000:130_000])

    registry.faults.on("PATCH", UPLOADS, skip=1).do(take).status(500)
    await repo.put_blob(blob(), Source(DATA).open)
    assert registry.blobs[blob().digest] == DATA
    assert "130000-199999" in [one.headers.get("content-range") for one in registry.log]


@pytest.mark.parametrize("said", [None, "", "0-5", "0-99", "0-999999", "bytes 0-1", "0-" + "9" * 30])
async def test_chunks_that_are_lost(
    http: Http, registry: Registry, profile: Callable[..., None], said: str | None
) -> None:
    """A registry that is not where it should be gets all in a new session; a source that ends early is an error."""
    profile(chunk=100_000, put_limit=0)
    repo = Repository(http, Reference(registry.host, "a/b"))
    registry.faults.on("PATCH", UPLOADS, skip=1).status(416)
    registry.faults.on("GET", UPLOADS).header("Range", said)
    await repo.put_blob(blob(), Source(DATA).open)
    assert registry.blobs[blob().digest] == DATA
    assert (registry.count("POST", UPLOADS), registry.count("PATCH", UPLOADS)) == (2, 4)
    with pytest.raises(DigestError, match="the source does not have"):
        await repo.put_blob(replace(blob(), size=len(DATA) + 1), Source(DATA).open)


async def test_registry_without_chunks(http: Http, registry: Registry, profile: Callable[..., None]) -> None:
    """Where chunks are known to be broken, 413 is final."""
    profile(chunk=None)
    registry.faults.on("PUT", UPLOADS).status(413)
    with pytest.raises(RefusedError, match="status 413"):
        await Repository(http, Reference(registry.host, "a/b")).put_blob(blob(), Source(DATA).open)


@pytest.mark.parametrize(("program", "goes_on"), [("docker-registry", False), ("registry3", True)])
async def test_a_real_registry_whose_answer_was_lost(http: Http, program: str, goes_on: bool) -> None:
    """Version 3 says by `Range` that it has the chunk; 2.8 wants the state of the lost answer: then all begins anew."""
    require(program)
    async with DockerRegistry(program=program, access_log=True) as real:
        place = Repository(http, Reference(real.host, "a/b"), push=True)._endpoint
        begun = place.location(await upload._open(place, blob().digest))
        first, last = DATA[:100_000], DATA[100_000:]
        await upload._patch(place, begun, first, 0)
        if not goes_on:
            with pytest.raises(MissingError, match="BLOB_UPLOAD_INVALID"):
                await upload._patch(place, begun, first, 0)
            return
        url = await upload._patch(place, begun, first, 0)
        await upload._send(place, "PUT", upload.finish(url, blob().digest), last, len(first))
        assert await Repository(http, Reference(real.host, "a/b")).has_blob(blob())
        assert [hit.status for hit in real.hits()[1:]] == [202, 202, 416, 204, 201, 200]
