"""The same promises with Debian's docker-registry at the other end."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mirrord.errors import DeniedError, MissingError, UnsupportedError
from mirrord.model.digest import Digest
from mirrord.testing import DockerRegistry, Image, build_image, require
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import OCI_MANIFEST, Descriptor
from mirrord.wire.oci.manifest import Manifest
from mirrord.wire.oci.reference import Reference
from mirrord.wire.secret import Credential, Secret
from tests.support.artifacts import build_artifact, build_nested

IMAGES = {
    "oci": build_image(),
    "docker": build_image(docker=True),
    "one": build_image(["linux/amd64"], empty_layer=True, inline_config=True),
    "nested": build_nested(build_image(["linux/amd64"]), build_image(seed="b")),
    "artifact": build_artifact(),
    "foreign": build_image(["linux/amd64"], docker=True, foreign=["https://layers.example.test/x"]),
    "large": build_image(["linux/amd64"], layers=1, layer_size=9_000_000),
}


def body_of(data: bytes) -> AsyncIterator[bytes]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 1 << 20):
            yield data[start : start + (1 << 20)]

    return chunks()


async def put(repo: Repository, image: Image, *tags: str) -> None:
    for digest, data in image.blobs.items():
        descriptor = Descriptor("application/octet-stream", Digest(digest), len(data))
        await repo.put_blob(descriptor, lambda data=data: body_of(data))  # type: ignore[misc]  # mypy cannot infer it
    for digest, (media_type, body) in image.manifests.items():
        await repo.put_manifest(Manifest.parse(body, media_type), digest)
    for tag in tags:
        await repo.put_manifest(Manifest.parse(image.body, image.media_type), tag)


@pytest.mark.parametrize("kind", IMAGES)
async def test_round_trip(kind: str) -> None:
    """An image that was pushed is read back byte for byte, by two requests a blob and one a manifest."""
    require("docker-registry")
    image = IMAGES[kind]
    async with DockerRegistry(access_log=True) as server, Http(HostBook()) as http:
        repo = Repository(http, Reference(server.host, "team/app"), push=True)
        assert await repo.head_manifest("v1") is None
        await put(repo, image, "v1")
        described = await repo.head_manifest("v1")
        assert described == Descriptor(image.media_type, image.digest, len(image.body))
        for digest, (media_type, body) in image.manifests.items():
            manifest = await repo.get_manifest(digest)
            assert (manifest.body, manifest.media_type) == (body, media_type)
        for digest, data in image.blobs.items():
            assert await repo.has_blob(Descriptor("a/b", Digest(digest), len(data)))
            for offset in (0, len(data) // 2):
                async with repo.open_blob(Descriptor("a/b", Digest(digest), len(data)), offset) as (_, chunks):
                    assert b"".join([chunk async for chunk in chunks]) == data[offset:]
        hits = [hit for hit in server.hits() if hit.path.startswith("/v2/team/app/")]
        assert sum(hit.method in ("POST", "PUT") for hit in hits) == 2 * len(image.blobs) + len(image.manifests) + 1


async def test_tags_and_mounts() -> None:
    """Tags come page by page, blobs are mounted between repositories, and a mount that fails leaves no harm."""
    require("docker-registry")
    image = build_image(["linux/amd64"], layer_size=64)
    async with DockerRegistry() as server, Http(HostBook()) as http:
        base = Repository(http, Reference(server.host, "base/image"), push=True)
        names = [f"v{number}" for number in range(12)]
        with pytest.raises(MissingError):
            await anext(base.tags())
        await put(base, image, *names)
        assert sorted([tag async for tag in base.tags()]) == sorted(names)
        repo = Repository(http, Reference(server.host, "team/app"), push=True)
        for digest in image.blobs:
            assert await repo.mount(Digest(digest), "base/image")
        assert not await repo.mount(Digest.of(b"nowhere"), "base/image")
        assert not await repo.mount(Digest(next(iter(image.blobs))), "no/such")
        await repo.put_manifest(Manifest.parse(image.body, image.media_type), "v1")


async def test_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are put together again, when a registry or a proxy wants them."""
    require("docker-registry")
    async with DockerRegistry() as server, Http(HostBook()) as http:
        repo = Repository(http, Reference(server.host, "team/app"), push=True)
        data = bytes(range(256)) * 4096
        repo._endpoint = replace(repo._endpoint, profile=replace(repo._endpoint.profile, chunk=300_000, put_limit=1))
        await repo.put_blob(Descriptor("a/b", Digest.of(data), len(data)), lambda: body_of(data))
        assert await repo.has_blob(Descriptor("a/b", Digest.of(data), len(data)))


async def test_credentials() -> None:
    """With the right password everything works, without it nothing does."""
    require("docker-registry", "htpasswd")
    image = build_image(["linux/amd64"], layer_size=64)
    async with DockerRegistry(user=("ann", "pw")) as server:
        book = HostBook({server.host: HostPolicy(server.host, Credential("ann", Secret("pw")))})
        async with Http(book) as http:
            await put(Repository(http, Reference(server.host, "team/app"), push=True), image, "v1")
        async with Http(HostBook()) as http:
            with pytest.raises(DeniedError):
                await Repository(http, Reference(server.host, "team/app")).head_manifest("v1")


def test_schema_1_is_known() -> None:
    """The registry would convert to schema 1 for clients that ask for nothing else; we never take it."""
    with pytest.raises(UnsupportedError):
        Manifest.parse(b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws")
    assert Manifest.parse(IMAGES["one"].body, "").media_type == OCI_MANIFEST
