"""Reading a repository: manifests and blobs, from registries with and without manners."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from mirrord.errors import (
    BrokenError,
    ContentError,
    DeniedError,
    DigestError,
    MirrordError,
    MissingError,
    TooLargeError,
    UnsupportedError,
    UsageError,
)
from mirrord.model.digest import Digest
from mirrord.testing import Image, Registry, build_image, push
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import Limits
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import OCI_MANIFEST, Descriptor
from mirrord.wire.oci.manifest import ACCEPT, LIMIT, Manifest
from mirrord.wire.oci.reference import Reference
from mirrord.wire.secret import Credential, Secret
from tests.support.artifacts import build_artifact, build_nested, build_schema1
from tests.support.auth import Auth

DATA = bytes(range(256)) * 512
BLOB = Descriptor("application/octet-stream", Digest.of(DATA), len(DATA))


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with Registry() as registry:
        registry.content.put_blob("a/b", DATA)
        yield registry


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with Http(HostBook(), limits=Limits(attempts=2), jitter=lambda: 0.0) as http:
        yield http


def repository(http: Http, registry: Registry, **options: Any) -> Repository:
    return Repository(http, Reference(registry.host, "a/b"), **options)


async def collect(repo: Repository, descriptor: Descriptor, offset: int = 0) -> bytes:
    async with repo.open_blob(descriptor, offset) as (_, chunks):
        return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize(
    "image",
    [
        build_image(),
        build_image(docker=True),
        build_image(algorithm="sha512"),
        build_nested(build_image()),
        build_artifact(),
        build_image(["linux/amd64"], media_type_inside=False),
    ],
    ids=["oci", "docker", "sha512", "nested", "artifact", "no-mediaType"],
)
async def test_head_and_get_tell_the_same(http: Http, registry: Registry, image: Image) -> None:
    """What HEAD describes is what GET returns, byte for byte, by tag and by digest, each with one request."""
    await push(image, registry, "a/b", ["v1"])
    repo = repository(http, registry)
    for ref in ("v1", image.digest):
        registry.forget()
        described = await repo.head_manifest(ref)
        assert described == Descriptor(image.media_type, image.digest, len(image.body))
        manifest = await repo.get_manifest(ref)
        assert (manifest.body, manifest.digest, manifest.media_type) == (image.body, image.digest, image.media_type)
        assert [exchange.method for exchange in registry.log] == ["HEAD", "GET"]
        assert {exchange.headers["accept"] for exchange in registry.log} == {ACCEPT}
        assert {exchange.headers["accept-encoding"] for exchange in registry.log} == {"identity"}


async def test_what_is_not_there(http: Http, registry: Registry) -> None:
    """HEAD of an unknown manifest or blob is None, also in a repository that was never made; GET is an error."""
    repo = repository(http, registry)
    assert await repo.head_manifest("v1") is None
    assert await repo.head_manifest(Digest.of(b"x")) is None
    assert not await repo.has_blob(Descriptor("x/y", Digest.of(b"x"), 1))
    with pytest.raises(MissingError):
        await repo.get_manifest("v1")
    with pytest.raises(MissingError):
        await collect(repo, Descriptor("a/b", Digest.of(b"x"), 1))


async def test_head_without_digest_costs_one_get(http: Http, registry: Registry) -> None:
    """Without Docker-Content-Digest the manifest is fetched once and hashed."""
    image = build_image()
    await push(image, registry, "a/b", ["v1"])
    registry.protocol.digest_header = False
    described = await repository(http, registry).head_manifest("v1")
    assert described is not None
    assert described.digest == image.digest
    assert [exchange.method for exchange in registry.log] == ["HEAD", "GET"]


async def test_head_by_digest_needs_no_header(http: Http, registry: Registry) -> None:
    """Asked for a digest, a registry need not repeat it."""
    image = build_image()
    await push(image, registry, "a/b")
    registry.protocol.digest_header = False
    assert await repository(http, registry).head_manifest(image.digest) is not None
    assert [exchange.method for exchange in registry.log] == ["HEAD"]


@pytest.mark.parametrize(
    ("header", "value"),
    [("Docker-Content-Digest", "md5:nonsense"), ("Content-Type", None), ("Content-Type", "text/html")],
)
async def test_head_that_says_too_little(http: Http, registry: Registry, header: str, value: str | None) -> None:
    """A HEAD whose headers are missing or odd is not believed; GET decides."""
    image = build_image()
    await push(image, registry, "a/b", ["v1"])
    registry.faults.on("HEAD", "manifests").header(header, value)
    described = await repository(http, registry).head_manifest("v1")
    assert described is not None
    assert (described.digest, described.media_type) == (image.digest, image.media_type)


async def test_head_that_is_not_allowed(http: Http, registry: Registry) -> None:
    """A registry without HEAD is asked by GET."""
    image = build_image()
    await push(image, registry, "a/b", ["v1"])
    registry.faults.on("HEAD", "manifests", times=None).status(405)
    repo = repository(http, registry)
    described = await repo.head_manifest("v1")
    assert described is not None
    assert described.digest == image.digest
    assert await repo.head_manifest("v2") is None


async def test_head_of_another_digest(http: Http, registry: Registry) -> None:
    """35: a registry that answers with another digest than was asked for is not believed."""
    image = build_image()
    await push(image, registry, "a/b")
    registry.faults.on("HEAD", "manifests").header("Docker-Content-Digest", Digest.of(b"other"))
    with pytest.raises(DigestError, match="asked for"):
        await repository(http, registry).head_manifest(image.digest)


async def test_schema_1_is_described_but_not_fetched(http: Http, registry: Registry) -> None:
    """38: HEAD tells that a tag is schema 1, GET refuses it in clear words."""
    image = build_schema1()
    await push(image, registry, "a/b", ["old"])
    repo = repository(http, registry)
    described = await repo.head_manifest("old")
    assert described is not None
    assert described.media_type == image.media_type
    with pytest.raises(UnsupportedError, match=r"a/b: old: .*schema 1"):
        await repo.get_manifest("old")


@pytest.mark.parametrize("ref", ["", "a/b", "../x", "a?b", "sha256:../../x", "sha256:ABC", "a" * 129, "v1\n", "ü"])
async def test_only_tags_and_digests_reach_a_url(http: Http, registry: Registry, ref: str) -> None:
    """22: what is neither tag nor digest is refused before a request is made."""
    repo = repository(http, registry)
    for method in (repo.head_manifest, repo.get_manifest):
        with pytest.raises((UsageError, ContentError)):
            await method(ref)
    assert registry.log == []


@pytest.mark.parametrize("by_digest", [True, False])
async def test_damaged_manifest_is_asked_for_once_more(http: Http, registry: Registry, by_digest: bool) -> None:
    """35: one bad answer heals by asking again; two are an error, and nothing is returned."""
    image = build_image()
    await push(image, registry, "a/b", ["v1"])
    ref = image.digest if by_digest else "v1"
    registry.faults.on("GET", "manifests").corrupt(5)
    repo = repository(http, registry)
    assert (await repo.get_manifest(ref)).body == image.body
    registry.faults.on("GET", "manifests", times=2).corrupt(5)
    registry.forget()
    with pytest.raises(DigestError):
        await repo.get_manifest(ref)
    assert registry.count("GET", "manifests") == 2


async def test_header_that_lies_about_the_right_bytes(http: Http, registry: Registry) -> None:
    """35: bytes, requested digest and Docker-Content-Digest have to agree, all three."""
    image = build_image()
    await push(image, registry, "a/b")
    registry.faults.on("GET", "manifests", times=2).header("Docker-Content-Digest", Digest.of(b"other"))
    with pytest.raises(DigestError, match="Docker-Content-Digest"):
        await repository(http, registry).get_manifest(image.digest)


async def test_manifest_of_four_mebibytes(http: Http, registry: Registry) -> None:
    """37: 4 MiB pass; one byte more is refused."""
    body = json.dumps(build_image(["linux/amd64"]).document()).encode()
    padded = body + b" " * (LIMIT - len(body))
    digest = registry.content.put_manifest("a/b", OCI_MANIFEST, padded)
    assert len((await repository(http, registry).get_manifest(str(digest))).body) == LIMIT
    digest = registry.content.put_manifest("a/b", OCI_MANIFEST, padded + b" ")
    with pytest.raises(TooLargeError):
        await repository(http, registry).get_manifest(str(digest))


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        pytest.param(b"<html>log in</html>", "text/html", id="26-portal"),
        pytest.param(b'{"manifests":[],"layers":[]}', "application/json", id="38-ambiguous"),
        pytest.param(b"", OCI_MANIFEST, id="empty"),
    ],
)
async def test_answers_that_are_no_manifest(http: Http, registry: Registry, body: bytes, media_type: str) -> None:
    """Whatever else comes with status 200 is refused, and the message names repository and tag."""
    await push(build_image(), registry, "a/b", ["v1"])
    registry.protocol.digest_header = False
    registry.faults.on("*", "manifests", times=None).answer(body, media_type)
    for method in (repository(http, registry).get_manifest, repository(http, registry).head_manifest):
        with pytest.raises(ContentError, match="a/b: v1: manifest"):
            await method("v1")


async def test_encoded_content_is_refused(http: Http, registry: Registry) -> None:
    """41: a Content-Encoding on manifest or blob is refused before the body is read."""
    await push(build_image(), registry, "a/b", ["v1"])
    registry.faults.on("GET", "", times=None).encode("gzip, gzip")
    with pytest.raises(ContentError, match="Content-Encoding"):
        await repository(http, registry).get_manifest("v1")
    with pytest.raises(ContentError, match="Content-Encoding"):
        await collect(repository(http, registry), BLOB)


async def test_blob_sizes(http: Http, registry: Registry) -> None:
    """HEAD of a blob tells its size, and of another size it is not there; an answer about something else is none."""
    repo = repository(http, registry)
    assert await repo.has_blob(BLOB)
    assert not await repo.has_blob(replace(BLOB, size=BLOB.size + 1))
    registry.content.put_blob("a/b", b"")
    assert await repo.has_blob(Descriptor("x/y", Digest.of(b""), 0))
    registry.faults.on("HEAD", "blobs").header("Docker-Content-Digest", Digest.of(b"other"))
    assert not await repo.has_blob(BLOB)


async def test_blob_from_the_start_and_from_the_middle(http: Http, registry: Registry) -> None:
    """A blob streams whole, or from an offset by one Range request that sends the rest only."""
    repo = repository(http, registry)
    assert await collect(repo, BLOB) == DATA
    registry.forget()
    assert await collect(repo, BLOB, 1000) == DATA[1000:]
    assert [exchange.headers.get("range") for exchange in registry.log] == ["bytes=1000-"]
    assert registry.sent() == len(DATA) - 1000


async def test_registry_without_ranges(http: Http, registry: Registry) -> None:
    """Where Range is ignored, the bytes before the offset are dropped."""
    registry.protocol.ranges = False
    repo = repository(http, registry)
    for offset in (1, 100_000, len(DATA) - 1):
        assert await collect(repo, BLOB, offset) == DATA[offset:]


async def test_empty_blob(http: Http, registry: Registry) -> None:
    """The empty blob is a blob."""
    registry.content.put_blob("a/b", b"")
    assert await collect(repository(http, registry), Descriptor("a/b", Digest.of(b""), 0)) == b""


@pytest.mark.parametrize(
    "content_range",
    [
        None,
        "",
        "bytes 0-9/10",
        "bytes 999-131071/131072",
        "bytes */131072",
        "bytes 1000-131072/131072",
        "bytes 1000-999/131072",
        "items 1000-2000/131072",
        "bytes 1000-x/y",
    ],
)
async def test_another_part_than_asked_for(http: Http, registry: Registry, content_range: str | None) -> None:
    """A 206 of another part is refused before its bytes are taken."""
    registry.faults.on("GET", "blobs").header("Content-Range", content_range)
    with pytest.raises(ContentError, match="another part"):
        await collect(repository(http, registry), BLOB, 1000)


@pytest.mark.parametrize("difference", [-1, 1])
@pytest.mark.parametrize("offset", [0, 10])
async def test_announced_size_differs(http: Http, registry: Registry, difference: int, offset: int) -> None:
    """36: a blob whose announced size is not the descriptor's is refused before it is read."""
    wrong = Descriptor(BLOB.media_type, BLOB.digest, BLOB.size + difference)
    with pytest.raises(DigestError, match="in its descriptor"):
        await collect(repository(http, registry), wrong, offset)


async def test_blob_that_breaks_off(http: Http, registry: Registry) -> None:
    """A blob that ends early is an error that says so; the reader can go on from where it was."""
    registry.faults.on("GET", "blobs").truncate(70_000)
    repo = repository(http, registry)
    got = bytearray()

    async def read() -> None:
        async with repo.open_blob(BLOB, len(got)) as (_, chunks):
            async for chunk in chunks:
                got.extend(chunk)

    with pytest.raises(BrokenError):
        await read()
    await read()
    assert bytes(got) == DATA


async def test_redirected_blob(http: Http, registry: Registry) -> None:
    """7: a blob at another host is followed without credentials, Range and all."""
    book = HostBook({registry.host: HostPolicy(registry.host, Credential("ann", Secret("pw-canary")))})
    async with Registry(content=registry.content) as storage, Http(book) as authenticated:
        registry.auth = Auth(basic=("ann", "pw-canary"))
        registry.protocol.redirect_blobs_to = storage.url
        repo = Repository(authenticated, Reference(registry.host, "a/b"))
        assert await collect(repo, BLOB, 100) == DATA[100:]
        assert [exchange.headers.get("authorization") for exchange in storage.log] == [None]
        assert [exchange.headers.get("range") for exchange in storage.log] == ["bytes=100-"]


@pytest.mark.parametrize(("push", "actions"), [(False, "pull"), (True, "pull,push")])
async def test_one_token_serves_a_repository(push: bool, actions: str) -> None:
    """All requests to a repository ask for one scope, so one token serves them: pull at sources, push at targets."""
    async with Registry(auth=Auth(bearer=("ann", "pw"))) as registry:
        registry.content.put_blob("a/b", DATA)
        book = HostBook({registry.host: HostPolicy(registry.host, Credential("ann", Secret("pw")))})
        async with Http(book) as http:
            repo = Repository(http, Reference(registry.host, "a/b"), push=push)
            assert await repo.head_manifest("v1") is None
            assert await repo.has_blob(BLOB)
            assert await collect(repo, BLOB) == DATA
        assert isinstance(registry.auth, Auth)
        assert set(registry.auth.asked) == {(f"repository:a/b:{actions}",)}
        assert len(registry.auth.issued) == 1


async def test_denied_is_not_missing(http: Http, registry: Registry) -> None:
    """401 and 403 for HEAD and GET mean that we may not know; only a profile may say otherwise, for targets."""
    registry.faults.on("HEAD|GET", "", times=None).status(403)
    repo = repository(http, registry, push=True)
    with pytest.raises(DeniedError):
        await repo.head_manifest("v1")
    assert not await repo.has_blob(BLOB)  # nothing is known of it, and the upload decides
    with pytest.raises(DeniedError):
        await repository(http, registry).has_blob(BLOB)


async def test_errors_are_ours_and_short(http: Http, registry: Registry) -> None:
    """Whatever a registry answers ends in an error of ours, with its host and without its page."""
    for status in (400, 402, 418, 500, 503, 599):
        registry.faults.clear()
        registry.faults.on("*", "", times=None).status(status, b"x" * 100_000)
        for attempt in (repository(http, registry).get_manifest("v1"), repository(http, registry).head_manifest("v1")):
            with pytest.raises(MirrordError) as caught:
                await attempt
            assert registry.host in str(caught.value)
            assert len(str(caught.value)) < 1200


def test_manifests_come_back_as_values() -> None:
    """A manifest that was fetched equals one that was parsed from the same bytes."""
    image = build_image()
    assert Manifest.parse(image.body, image.media_type) == Manifest.parse(image.body, image.media_type, image.digest)


async def test_content_that_is_not_seen_for_a_moment(http: Http, registry: Registry) -> None:
    """A registry that does not see at once what is there gets the manifest again, and takes it."""
    image = build_image(["linux/amd64"])
    await push(image, registry, "a/b")
    body = b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry"}]}'
    registry.faults.on("PUT", "manifests/v1", times=2).status(404, body)
    await repository(http, registry, push=True).put_manifest(Manifest.parse(image.body, image.media_type), "v1")
    assert registry.count("PUT", "manifests/v1") == 3
    assert registry.tags["a/b"]["v1"] == image.digest
