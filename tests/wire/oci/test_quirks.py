"""What each profile is for: a registry with that quirk, by its profile and by the generic one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mirrord.errors import DeniedError, ImmutableError, RefusedError
from mirrord.model.digest import Digest
from mirrord.syncers.image.upstream.referrers import ReferrersApis, RepositoryReferrers
from mirrord.testing import Exchange, Registry, build_image, push
from mirrord.testing.reply import Reply
from mirrord.wire.http.client import Http
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import OCI_INDEX, Descriptor, index_of
from mirrord.wire.oci.manifest import Manifest
from mirrord.wire.oci.reference import Reference
from mirrord.wire.oci.tags import delete_manifest, delete_tag
from tests.support.artifacts import build_artifact
from tests.support.auth import Auth
from tests.support.quirks import (
    ALIYUN,
    SWR,
    Manifests,
    Quirk,
    Quirky,
    acr,
    artifactory,
    book,
    ecr_public,
    gar,
    ghcr,
    gitlab,
    hub,
    nexus,
)

IMAGE = build_image(["linux/amd64"])
BIG = bytes(21_000_000)


async def sent(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1 << 20):
        yield data[start : start + (1 << 20)]


def too_large(registry: Registry, exchange: Exchange, quirk: Quirk) -> Reply | None:
    """Answer as a proxy with a limit of 1 MB in front of `quirk` does."""
    length = int(exchange.headers.get("content-length", "0"))
    return Reply(413) if exchange.method == "PUT" and length > 1_000_000 else quirk(registry, exchange)


async def upload(registry: Registry, profile: str, data: bytes = BIG) -> list[str]:
    """Push a blob; return the methods of the requests that it took."""
    blob = Descriptor("application/octet-stream", Digest.of(data), len(data))
    registry.wire.exchanges.clear()
    async with Http(book(registry, profile), jitter=lambda: 0.0) as http:
        await Repository(http, Reference(registry.host, "a/b"), push=True).put_blob(blob, lambda: sent(data))
    assert registry.blobs[blob.digest] == data
    return [exchange.method for exchange in registry.log]


async def test_acr_is_sent_chunks_at_once() -> None:
    """Above 16 MiB three requests; without the profile the blob is sent once in vain."""
    async with Quirky(acr) as registry:
        assert await upload(registry, "acr") == ["POST", "PATCH", "PUT"]
        assert sum(exchange.received for exchange in registry.log) == len(BIG)
    async with Quirky(acr) as registry:
        assert await upload(registry, "generic") == ["POST", "PUT", "POST", "PATCH", "PUT"]


@pytest.mark.parametrize(("profile", "quirk"), [("ghcr", ghcr), ("gar", gar)])
async def test_ghcr_and_gar_are_never_sent_chunks(profile: str, quirk: Quirk) -> None:
    """One PUT of any size; where a proxy refuses that, its 413 is the error, not what the registry says to chunks."""
    async with Quirky(quirk) as registry:
        assert await upload(registry, profile) == ["POST", "PUT"]
    for kind, methods in ((profile, ["POST", "PUT"]), ("generic", ["POST", "PUT", "POST", "PATCH"])):
        async with Quirky(lambda one, exchange: too_large(one, exchange, quirk)) as registry:
            with pytest.raises(RefusedError) as refused:
                await upload(registry, kind)
            assert [exchange.method for exchange in registry.log][:4] == methods
            assert (refused.value.status == 413) is (kind == profile)


async def test_artifactory_denies_what_is_not_there() -> None:
    """A 403 to HEAD before a push means missing; without the profile the GET after it is denied, too."""
    async with Quirky(artifactory) as registry:
        async with Http(book(registry, "artifactory")) as http:
            assert await Repository(http, Reference(registry.host, "a/b"), push=True).head_manifest("v1") is None
        assert [exchange.method for exchange in registry.log] == ["HEAD"]
        async with Http(book(registry, "generic")) as http:
            with pytest.raises(DeniedError):
                await Repository(http, Reference(registry.host, "a/b"), push=True).head_manifest("v1")


@pytest.mark.parametrize("pushing", [False, True])
async def test_nexus_is_asked_by_get(pushing: bool) -> None:
    """One GET says what a tag is, also before a push; without the profile a tag at a target seems to be missing."""
    async with Quirky(nexus) as registry:
        await push(IMAGE, registry, "a/b", ["v1"])
        registry.wire.exchanges.clear()
        async with Http(book(registry, "nexus")) as http:
            repository = Repository(http, Reference(registry.host, "a/b"), push=pushing)
            head = await repository.head_manifest("v1")
            assert head is not None
            assert head.digest == IMAGE.digest
            assert await repository.head_manifest("v2") is None or not pushing
        assert {exchange.method for exchange in registry.log} == {"GET"}
        async with Http(book(registry, "generic")) as http:
            head = await Repository(http, Reference(registry.host, "a/b"), push=pushing).head_manifest("v1")
            assert (head is None) is pushing


@pytest.mark.parametrize(
    ("profile", "said"), [("hub", "hub.docker.com"), ("ghcr", "packages API"), ("coding", "page of the artifact")]
)
async def test_where_nothing_can_be_deleted(profile: str, said: str) -> None:
    """Docker Hub, GHCR, CODING: no DELETE is sent, and the error says where to delete."""
    async with Quirky(hub) as registry:
        await push(IMAGE, registry, "a/b", ["v1"])
        registry.wire.exchanges.clear()
        async with Http(book(registry, profile)) as http:
            repository = Repository(http, Reference(registry.host, "a/b"), push=True)
            with pytest.raises(RefusedError, match=said):
                await delete_tag(repository, "v1")
        assert registry.count("DELETE", "") == 0
        async with Http(book(registry, "generic")) as http:
            repository = Repository(http, Reference(registry.host, "a/b"), push=True)
            assert not await delete_tag(repository, "v1")
            with pytest.raises(RefusedError, match=r"UNSUPPORTED.*REGISTRY_STORAGE_DELETE_ENABLED=true"):
                await delete_manifest(repository, IMAGE.digest)
        assert registry.count("DELETE", "") == 2


@pytest.mark.parametrize(
    ("profile", "refused", "said"),
    [
        ("aliyun", ALIYUN, "no attestations and no other OCI artifacts"),
        ("swr", SWR, "no OCI index and no attestations"),
    ],
)
async def test_what_aliyun_and_swr_refuse_is_explained(profile: str, refused: Mapping[bytes, Reply], said: str) -> None:
    """The refusal of an artifact or an index says what to do; by the generic profile it is bare."""
    index = Manifest.parse(index_of([]), OCI_INDEX)
    artifact = build_artifact(IMAGE, "application/vnd.example.sbom", b"{}")
    manifest = index if profile == "swr" else Manifest.parse(artifact.body, artifact.media_type)
    async with Manifests(refused) as registry:
        registry.protocol.strict = False
        for kind in (profile, "generic"):
            async with Http(book(registry, kind)) as http:
                repository = Repository(http, Reference(registry.host, "a/b"), push=True)
                with pytest.raises(RefusedError) as caught:
                    await repository.put_manifest(manifest)
            assert (said in str(caught.value)) is (kind == profile)
            assert not isinstance(caught.value, ImmutableError)
            assert caught.value.status in (400, 403)


@pytest.mark.parametrize(("profile", "asked"), [("ghcr", 0), ("gitlab", 0), ("distribution", 0), ("generic", 1)])
async def test_a_registry_that_is_known_to_have_no_referrers(profile: str, asked: int) -> None:
    """It is not asked for them; one of which nothing is known is."""
    async with Quirky(ghcr) as registry:
        async with Http(book(registry, profile)) as http:
            found = await Repository(http, Reference(registry.host, "a/b")).referrers(Digest(IMAGE.digest))
        assert found is None
        assert registry.count("GET", "/referrers/") == asked


async def test_gitlab_takes_the_tag_of_referrers_for_the_image() -> None:
    """The list of referrers begins empty, not with what the image itself lists; nothing is said about its children."""
    image = build_image(["linux/amd64", "linux/arm64"])
    artifact = build_artifact(image, "application/vnd.example.sbom", b"{}")
    async with Quirky(gitlab) as registry:
        await push(image, registry, "a/b", ["v1"])
        await push(artifact, registry, "a/b", [])
        registry.faults.on("PUT", f"/manifests/{artifact.digest}", times=None).header("OCI-Subject", None)
        registry.faults.on("PUT", "/manifests/sha256-", times=None).header("OCI-Subject", None)
        async with Http(book(registry, "gitlab")) as http:
            repository = Repository(http, Reference(registry.host, "a/b"), push=True)
            await repository.put_manifest(Manifest.parse(artifact.body, artifact.media_type))
            listed = await repository.get_manifest(image.digest.replace(":", "-"))
        assert [child.digest for child in listed.children] == [artifact.digest]


async def test_gitlab_lists_no_children_as_signatures() -> None:
    """Where tags cannot be listed the tag is asked for, and the image itself is no list of what is about it."""
    image = build_image(["linux/amd64", "linux/arm64"])
    async with Quirky(gitlab) as registry:
        await push(image, registry, "a/b", ["v1"])
        registry.faults.on("GET", "tags/list", times=None).status(403)
        async with Http(book(registry, "gitlab")) as http:
            repository = Repository(http, Reference(registry.host, "a/b"))
            about = RepositoryReferrers(repository, ReferrersApis(), datetime.now(UTC))
            assert await about.of(Digest(image.digest)) == ()
            assert about.ignored(Digest(image.digest)) == ()


@pytest.mark.parametrize(("profile", "tokens"), [("ecr-public", 2), ("generic", 1)])
async def test_ecr_public_has_no_401_for_a_token_that_ran_out(profile: str, tokens: int) -> None:
    """The token is renewed once and the upload sent again, by the profile alone (F20)."""
    auth = Auth(bearer=("", ""))
    async with Quirky(ecr_public, auth=auth) as registry, Http(book(registry, profile)) as http:
        data = b"layer"
        blob, target = Descriptor("text/plain", Digest.of(data), len(data)), Reference(registry.host, "a/b")
        await Repository(http, target, push=True).put_blob(blob, lambda: sent(data))
        auth.expire()
        other = replace(blob, digest=Digest.of(data * 2), size=2 * len(data))
        with nullcontext() if tokens == 2 else pytest.raises(RefusedError, match="Your Authorization Token is invalid"):
            await Repository(http, target, push=True).put_blob(other, lambda: sent(data * 2))
        assert len(auth.issued) == tokens
        assert (other.digest in registry.blobs) == (tokens == 2)
