"""Writing to a repository: blobs, mounts, manifests, and registries that lose their sessions."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mirrord.errors import (
    BrokenError,
    ContentError,
    DeniedError,
    DigestError,
    ImmutableError,
    MirrordError,
    MissingError,
    RefusedError,
    ServerError,
    ThrottledError,
    UntrustedError,
    UsageError,
)
from mirrord.model.digest import Digest
from mirrord.testing import Fault, Immutable, Registry, build_image, push
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.oci import endpoint
from mirrord.wire.oci.client import PAUSES, Repository
from mirrord.wire.oci.descriptor import OCI_MANIFEST
from mirrord.wire.oci.manifest import Manifest
from mirrord.wire.oci.reference import Reference
from mirrord.wire.secret import Credential, Secret
from tests.support.auth import Auth
from tests.support.tls import Authority
from tests.support.uploading import DATA, UPLOADS, Source, blob, requests


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("data", [b"", b"x", DATA], ids=["empty", "one", "many"])
async def test_two_requests_a_blob(absolute: bool, algorithm: str, data: bytes) -> None:
    """A blob is one POST and one PUT with its Content-Length, wherever the Location points and whatever its digest."""
    async with Registry(absolute_locations=absolute) as registry, Http(HostBook()) as http:
        repo = Repository(http, Reference(registry.host, "a/b"))
        await repo.put_blob(blob(data, algorithm), Source(data).open)
        assert registry.blobs[Digest.of(data, algorithm)] == data
        assert requests(registry) == ["POST", "PUT"]
        start, put = registry.log
        assert start.query == ("" if algorithm == "sha256" else "digest-algorithm=sha512")
        assert put.headers["content-length"] == str(len(data))
        assert "transfer-encoding" not in put.headers
        assert "_state=" in put.query  # the Location's own query was kept


async def test_body_of_the_wrong_length(repo: Repository, registry: Registry) -> None:
    """36: a source that has more or less than its descriptor says leaves nothing behind, and is not asked again."""
    for size in (len(DATA) - 1, len(DATA) + 1):
        source = Source(DATA)
        with pytest.raises(DigestError, match="the source does not have"):
            await repo.put_blob(replace(blob(), size=size), source.open)
        assert (source.opened, source.closed) == (1, 1)
    assert registry.blobs == {}


async def test_source_that_fails(repo: Repository, registry: Registry) -> None:
    """An error of our own source comes through as it is, without a second session."""

    async def broken() -> AsyncIterator[bytes]:
        yield DATA[:1000]
        raise BrokenError("the source broke")

    with pytest.raises(BrokenError, match="the source broke"):
        await repo.put_blob(blob(), broken)
    assert registry.count("POST", UPLOADS) == 1


async def test_location_is_needed(repo: Repository, registry: Registry) -> None:
    """A session without Location is an error that says so."""
    registry.faults.on("POST", UPLOADS).header("Location", None)
    with pytest.raises(ContentError, match="does not say where"):
        await repo.put_blob(blob(), Source(DATA).open)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://u:p@127.0.0.1/x", "gopher://x/", "http://["])
async def test_location_that_nobody_should_follow(repo: Repository, registry: Registry, location: str) -> None:
    """8: a Location that is no plain http(s) URL is refused before a byte of the blob is sent."""
    registry.faults.on("POST", UPLOADS).header("Location", location)
    source = Source(DATA)
    with pytest.raises(UntrustedError):
        await repo.put_blob(blob(), source.open)
    assert source.opened == 0


async def test_location_on_another_host() -> None:
    """An upload may go to another host: it gets the content, and no credential."""
    async with Registry(auth=Auth(basic=("ann", "pw-canary"))) as registry, Registry() as storage:
        book = HostBook({registry.host: HostPolicy(registry.host, Credential("ann", Secret("pw-canary")))})
        async with Http(book) as http:
            session = "/v2/a/b/blobs/uploads/00000001?_state=s1.0"
            registry.faults.on("POST", UPLOADS).header("Location", f"{storage.url}{session}")
            registry.faults.scripted[-1].times = None  # the first answer asks for credentials
            await _open_session(storage)
            repo = Repository(http, Reference(registry.host, "a/b"))
            await repo.put_blob(blob(), Source(DATA).open)
        assert storage.blobs[blob().digest] == DATA
        assert all("authorization" not in exchange.headers for exchange in storage.log)


async def _open_session(registry: Registry) -> None:
    async with Http(HostBook()) as http:
        at = endpoint.Endpoint.at(http, Reference(registry.host, "a/b"), endpoint.PUSH)
        await http.fetch(replace(at.call("POST", "blobs/uploads/"), ok=(202,)))


async def test_registry_that_thinks_it_is_http(tmp_path: Path) -> None:
    """A registry behind a TLS proxy that gives out http Locations of its own host is reached by https all the same."""
    authority = Authority(tmp_path)
    async with Registry(tls=authority.server()) as registry:
        book = HostBook({registry.host: HostPolicy(registry.host, insecure=False, ca=str(authority.ca))})
        registry.protocol.uploads.prefix = f"http://{registry.host}"
        async with Http(book) as http:
            await Repository(http, Reference(registry.host, "a/b")).put_blob(blob(), Source(DATA).open)
        assert registry.blobs[blob().digest] == DATA


async def test_location_that_downgrades(tmp_path: Path) -> None:
    """8: an https registry cannot send an upload to another host in the clear."""
    authority = Authority(tmp_path)
    async with Registry(tls=authority.server()) as registry, Registry() as other:
        book = HostBook({registry.host: HostPolicy(registry.host, insecure=False, ca=str(authority.ca))})
        registry.faults.on("POST", UPLOADS).header("Location", f"{other.url}/v2/a/b/blobs/uploads/1")
        async with Http(book) as http:
            with pytest.raises(UntrustedError):
                await Repository(http, Reference(registry.host, "a/b")).put_blob(blob(), Source(DATA).open)
        assert other.log == []


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda fault: fault.status(404), id="404-session-gone"),
        pytest.param(lambda fault: fault.status(416), id="416"),
        pytest.param(lambda fault: fault.status(500), id="500"),
        pytest.param(lambda fault: fault.status(503), id="503"),
        pytest.param(lambda fault: fault.refuse_after(70_000, 502), id="502-mid-way"),
        pytest.param(
            lambda fault: fault.status(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"x"}]}'), id="400-damaged"
        ),
        pytest.param(lambda fault: fault.close(), id="reset"),
    ],
)
async def test_lost_session(repo: Repository, registry: Registry, fault: Callable[[Fault], Fault]) -> None:
    """A session that is lost, however, costs a new POST and the whole body again (regclient#323)."""
    fault(registry.faults.on("PUT", UPLOADS))
    source = Source(DATA)
    await repo.put_blob(blob(), source.open)
    assert registry.blobs[blob().digest] == DATA
    # A connection that was kept and turns out to be dead is replaced in place, without a new session.
    assert registry.count("POST", UPLOADS) == len({exchange.path for exchange in registry.select("PUT", UPLOADS)})
    assert registry.count("PUT", UPLOADS) == 2
    assert source.opened == source.closed


async def test_lost_sessions_are_bounded(repo: Repository, registry: Registry) -> None:
    """Three sessions, then the error."""
    registry.faults.on("PUT", UPLOADS, times=None).status(500)
    with pytest.raises(ServerError):
        await repo.put_blob(blob(), Source(DATA).open)
    assert registry.count("POST", UPLOADS) == 3
    assert registry.blobs == {}


async def test_lost_answer(repo: Repository, registry: Registry) -> None:
    """When only the answer was lost, a HEAD finds the blob and nothing is sent again."""
    registry.faults.on("PUT", UPLOADS).close_mid_header()
    await repo.put_blob(blob(), Source(DATA).open)
    assert registry.count("POST", UPLOADS) == 1
    assert requests(registry)[-1] == "HEAD"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, DeniedError),
        (400, RefusedError),
        (409, RefusedError),
        (200, RefusedError),
        (202, RefusedError),
        (204, RefusedError),
    ],
)
async def test_refusals_are_final(repo: Repository, registry: Registry, status: int, error: type[MirrordError]) -> None:
    """What a registry refuses is not sent again; anything but 201 is a refusal: a portal says 200 to everything."""
    registry.faults.on("PUT", UPLOADS, times=None).status(status)
    with pytest.raises(error, match=f"status {status}"):
        await repo.put_blob(blob(), Source(DATA).open)
    assert registry.count("POST", UPLOADS) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_patience_is_not_ours(repo: Repository, registry: Registry, status: int) -> None:
    """A registry that says when to come back is not asked again at once."""
    registry.faults.on("PUT", UPLOADS).status(status, headers={"Retry-After": "900"})
    with pytest.raises((ThrottledError, ServerError)) as caught:
        await repo.put_blob(blob(), Source(DATA).open)
    assert getattr(caught.value, "after", None) == 900
    assert registry.count("POST", UPLOADS) == 1


async def test_unknown_repository_is_not_a_lost_session(repo: Repository, registry: Registry) -> None:
    """A 404 on POST means that there is no such repository."""
    registry.faults.on("POST", UPLOADS).status(404)
    with pytest.raises(MissingError):
        await repo.put_blob(blob(), Source(DATA).open)
    assert registry.count("POST", UPLOADS) == 1


@pytest.mark.parametrize(("read", "posts"), [(0, 2), (70_000, 3)], ids=["session-lives", "session-spoilt"])
async def test_token_that_ends_during_an_upload(read: int, posts: int) -> None:
    """A 401 to a PUT brings a new token and the body again, in a new session if the old one is spoilt (F20)."""
    async with Registry(auth=Auth(bearer=("ann", "pw"))) as registry:
        book = HostBook({registry.host: HostPolicy(registry.host, Credential("ann", Secret("pw")))})
        challenge = f'Bearer realm="{registry.url}/token",scope="repository:a/b:pull,push"'
        registry.faults.on("PUT", UPLOADS).refuse_after(read, 401, headers={"WWW-Authenticate": challenge})
        source = Source(DATA)
        async with Http(book) as http:
            await Repository(http, Reference(registry.host, "a/b")).put_blob(blob(), source.open)
        assert registry.blobs[blob().digest] == DATA
        assert registry.count("POST", UPLOADS) == posts  # one of them without a token
        assert source.opened == source.closed


async def test_registry_that_stores_something_else(repo: Repository, registry: Registry) -> None:
    """A Docker-Content-Digest that differs is an error, for blobs and for manifests."""
    registry.faults.on("PUT", "", times=None).header("Docker-Content-Digest", Digest.of(b"other"))
    with pytest.raises(DigestError, match="says it stored"):
        await repo.put_blob(blob(), Source(DATA).open)
    image = build_image(["linux/amd64"])
    await push(image, registry, "a/b")
    with pytest.raises(DigestError, match="says it stored"):
        await repo.put_manifest(Manifest.parse(image.body, image.media_type), "v1")


@pytest.mark.parametrize(("target", "missing"), [(True, True), (False, False)], ids=["target", "source"])
async def test_denied_that_means_missing(
    http: Http, registry: Registry, profile: Callable[..., None], target: bool, missing: bool
) -> None:
    """Where a profile says that 403 means "not there yet", it does at targets; at sources it stays a denial."""
    profile(missing=frozenset({403, 404}))
    registry.faults.on("HEAD|GET", "", times=None).status(403)
    repo = Repository(http, Reference(registry.host, "a/b"), push=target)
    for question in (repo.head_manifest("v1"), repo.has_blob(blob())):
        if missing:
            assert not await question
        else:
            with pytest.raises(DeniedError):
                await question


@pytest.mark.parametrize("docker", [False, True])
async def test_manifests_by_digest_and_tag(repo: Repository, registry: Registry, docker: bool) -> None:
    """A manifest's bytes arrive unchanged under its own Content-Type, by digest and by tag."""
    image = build_image(docker=docker)
    await push(image, registry, "other")
    for digest, data in image.blobs.items():
        registry.content.put_blob("a/b", data, digest)
    for digest, (media_type, body) in image.manifests.items():
        await repo.put_manifest(Manifest.parse(body, media_type), digest)
    await repo.put_manifest(Manifest.parse(image.body, image.media_type), "v1")
    assert registry.manifests["a/b"] == dict(image.manifests)
    assert registry.tags["a/b"] == {"v1": image.digest}
    assert registry.count("*", "") == len(image.manifests) + 1


async def test_manifest_under_a_wrong_name(repo: Repository, registry: Registry) -> None:
    """A manifest is pushed under a tag or its own digest, nothing else."""
    image = build_image(["linux/amd64"])
    for ref in (Digest.of(b"other"), "a/b", "", "../x"):
        with pytest.raises(UsageError):
            await repo.put_manifest(Manifest.parse(image.body, image.media_type), ref)
    assert registry.log == []


@pytest.mark.parametrize("known", [True, False])
async def test_tag_of_a_sha512_manifest(repo: Repository, registry: Registry, known: bool) -> None:
    """A tag of a sha512 manifest goes along with the digest; where that is not known, by tag as well."""
    image = build_image(["linux/amd64"], algorithm="sha512")
    await push(image, registry, "a/b")
    if known:
        registry.faults.on("PUT", r"\?tag=").header("OCI-Tag", "v0, v1")
    await repo.put_manifest(Manifest.parse(image.body, image.media_type, image.digest), "v1")
    assert [exchange.target for exchange in registry.log] == [
        f"/v2/a/b/manifests/{image.digest}?tag=v1",
        *([] if known else ["/v2/a/b/manifests/v1"]),
    ]


async def test_manifest_to_a_host_that_says_yes_to_everything(repo: Repository, registry: Registry) -> None:
    """201 is the only good answer to a PUT."""
    image = build_image(["linux/amd64"])
    registry.faults.on("PUT", "manifests", times=None).status(200)
    with pytest.raises(RefusedError, match="status 200"):
        await repo.put_manifest(Manifest.parse(image.body, image.media_type), "v1")


@pytest.mark.parametrize("status", [400, 403, 405, 409, 412])
async def test_immutable_tag(repo: Repository, registry: Registry, status: int) -> None:
    """A registry that does not let a tag move gets an error of its own, without a second try."""
    registry.protocol.immutable = Immutable(status=status)
    old, new = build_image(["linux/amd64"], seed="old"), build_image(["linux/amd64"], seed="new")
    await push(old, registry, "a/b", ["v1"])
    await push(new, registry, "a/b")
    with pytest.raises(ImmutableError, match="v1 may not be overwritten"):
        await repo.put_manifest(Manifest.parse(new.body, new.media_type), "v1")
    assert registry.count("PUT", "manifests/v1") == 1
    assert registry.tags["a/b"]["v1"] == old.digest


async def test_other_refusals_of_a_tag(repo: Repository, registry: Registry) -> None:
    """A manifest that lacks its blobs is refused by the registry as such, with its own words."""
    image = build_image(["linux/amd64"])
    with pytest.raises(MissingError, match="MANIFEST_BLOB_UNKNOWN"):
        await repo.put_manifest(Manifest.parse(image.body, OCI_MANIFEST), "v1")
    assert registry.count("PUT", "manifests/v1") == 1 + len(PAUSES)
