"""The registry double keeps the promises of a real one."""

import asyncio
import io
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from mirrord.model.digest import Digest
from mirrord.testing import Content, Immutable, Moment, Registry, Wire, build_image, push
from tests.support.artifacts import build_artifact
from tests.support.auth import Auth
from tests.support.tls import Authority

DATA = bytes(range(256)) * 1000
DIGEST = Digest.of(DATA)
LOGIN = {"Authorization": "Basic YW5uOnB3"}  # ann:pw


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def upload(client: aiohttp.ClientSession, base: str, data: bytes, digest: str = "", chunks: int = 0) -> int:
    async with client.post(f"{base}/v2/a/b/blobs/uploads/") as answer:
        assert answer.status == 202
        place = answer.headers["Location"]
    for number in range(chunks):
        part = data[len(data) * number // chunks : len(data) * (number + 1) // chunks]
        async with client.patch(base + place, data=part) as answer:
            assert answer.status == 202
            place = answer.headers["Location"]
    rest = b"" if chunks else data
    async with client.put(f"{base}{place}&digest={digest or Digest.of(data)}", data=rest) as answer:
        return answer.status


async def test_ping(client: aiohttp.ClientSession) -> None:
    """GET /v2/ says that this is a registry."""
    async with Registry() as registry, client.get(f"{registry.url}/v2/") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("chunks", [0, 1, 3])
async def test_uploads(client: aiohttp.ClientSession, chunks: int) -> None:
    """A blob comes whole in one PUT or in PATCHes, and its bytes are what was sent."""
    async with Registry() as registry:
        assert await upload(client, registry.url, DATA, chunks=chunks) == 201
        assert registry.blobs[DIGEST] == DATA
        assert registry.received("uploads") == len(DATA)


async def test_empty_and_sha512_blobs(client: aiohttp.ClientSession) -> None:
    """A blob of no bytes and one named by sha512 are blobs like others."""
    async with Registry() as registry:
        assert await upload(client, registry.url, b"") == 201
        long = Digest.of(DATA, "sha512")
        assert await upload(client, registry.url, DATA, long) == 201
        assert set(registry.blobs) == {Digest.of(b""), long}


async def test_wrong_digest_is_refused(client: aiohttp.ClientSession) -> None:
    """Bytes that are not what the digest says are not kept (bad input 36)."""
    async with Registry() as registry:
        assert await upload(client, registry.url, DATA, Digest.of(b"other")) == 400
        assert not registry.blobs


async def test_location_must_be_kept_as_given(client: aiohttp.ClientSession) -> None:
    """A client that rebuilds the upload URL loses the state in its query and is refused."""
    async with Registry() as registry:
        async with client.post(f"{registry.url}/v2/a/b/blobs/uploads/") as answer:
            place = answer.headers["Location"].partition("?")[0]
        async with client.put(f"{registry.url}{place}?digest={DIGEST}", data=DATA) as answer:
            assert answer.status == 400


async def test_chunk_out_of_order(client: aiohttp.ClientSession) -> None:
    """A PATCH that does not go on where the last one ended is answered 416 with the range that is there."""
    async with Registry(absolute_locations=True) as registry:
        async with client.post(f"{registry.url}/v2/a/b/blobs/uploads/") as answer:
            place = answer.headers["Location"]
        assert place.startswith(registry.url)
        async with client.patch(place, data=b"x", headers={"Content-Range": "5-5"}) as answer:
            assert answer.status == 416


async def test_mount(client: aiohttp.ClientSession) -> None:
    """A blob is mounted from a repository that has it; elsewhere the POST opens a session."""
    async with Registry() as registry:
        registry.content.put_blob("a/b", DATA)
        url = f"{registry.url}/v2/c/d/blobs/uploads/?mount={DIGEST}&from="
        async with client.post(f"{url}x/y") as answer:
            assert answer.status == 202
        async with client.post(f"{url}a/b") as answer:
            assert answer.status == 201
        assert registry.content.blob("c/d", DIGEST) == DATA


async def test_a_blob_of_another_repository_is_not_there(client: aiohttp.ClientSession) -> None:
    """Blobs are seen through their repositories only (bad input 25)."""
    async with Registry() as registry:
        registry.content.put_blob("a/b", DATA)
        async with client.head(f"{registry.url}/v2/c/d/blobs/{DIGEST}") as answer:
            assert answer.status == 404


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-", 206, 0, 256_000),
        ("bytes=1000-1999", 206, 1000, 2000),
        ("bytes=-6", 206, 255_994, 256_000),
        ("bytes=255999-300000", 206, 255_999, 256_000),
        ("bytes=256000-", 416, 0, 0),
        ("lines=1-2", 200, 0, 256_000),
    ],
)
async def test_ranges(client: aiohttp.ClientSession, asked: str, status: int, start: int, stop: int) -> None:
    """Range on a blob gives exactly that part (bad input 29)."""
    async with Registry() as registry:
        registry.content.put_blob("a/b", DATA)
        async with client.get(f"{registry.url}/v2/a/b/blobs/{DIGEST}", headers={"Range": asked}) as answer:
            assert answer.status == status
            assert await answer.read() == DATA[start:stop]
            if status == 206:
                assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"


async def test_no_ranges(client: aiohttp.ClientSession) -> None:
    """A registry without Range sends everything."""
    async with Registry(ranges=False) as registry:
        registry.content.put_blob("a/b", DATA)
        async with client.get(f"{registry.url}/v2/a/b/blobs/{DIGEST}", headers={"Range": "bytes=9-"}) as answer:
            assert (answer.status, await answer.read()) == (200, DATA)


@pytest.mark.parametrize("header", [True, False])
async def test_manifests(client: aiohttp.ClientSession, header: bool) -> None:
    """A manifest is served byte for byte by tag and digest; the digest header can be left out."""
    image = build_image(["linux/amd64"])
    async with Registry(digest_header=header) as registry:
        await push(image, registry, "a/b", ["main"])
        for reference in ("main", image.digest):
            async with client.get(f"{registry.url}/v2/a/b/manifests/{reference}") as answer:
                assert await answer.read() == image.body
                assert answer.headers["Content-Type"] == image.media_type
                assert answer.headers.get("Docker-Content-Digest") == (image.digest if header else None)


@pytest.mark.parametrize("strict", [True, False])
async def test_references_are_checked(client: aiohttp.ClientSession, strict: bool) -> None:
    """A manifest whose blobs are not there is refused, unless the registry is lax."""
    image = build_image(["linux/amd64"])
    async with Registry(strict=strict) as registry:
        headers = {"Content-Type": image.media_type}
        async with client.put(f"{registry.url}/v2/a/b/manifests/x", data=image.body, headers=headers) as answer:
            assert answer.status == (404 if strict else 201)
            assert strict == ("MANIFEST_BLOB_UNKNOWN" in await answer.text())
        assert bool(registry.content.dangling()) is not strict


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("x", b"{", 400),
        ("x", b"[]", 400),
        (f"sha256:{'0' * 64}", b"{}", 400),
        ("x", b" " * (4 * 1024 * 1024 + 1), 413),
        (".dot", b"{}", 404),
        ("sha256:ABC", b"{}", 404),
    ],
)
async def test_bad_manifests(client: aiohttp.ClientSession, path: str, body: bytes, status: int) -> None:
    """What is no manifest, or not the one it says, or too large is refused (bad inputs 22, 37, 38)."""
    async with (
        Registry() as registry,
        client.put(f"{registry.url}/v2/a/b/manifests/{path}", data=io.BytesIO(body)) as answer,
    ):
        assert answer.status == status


@pytest.mark.parametrize("name", ["A/b", "a//b", "-a", "a/b-", "%2e%2e/a", "a/../../v2"])
async def test_bad_names(client: aiohttp.ClientSession, name: str) -> None:
    """Only names of the OCI grammar exist (bad input 21)."""
    async with Registry() as registry, client.get(f"{registry.url}/v2/{name}/tags/list") as answer:
        assert answer.status == 404


async def test_deletes(client: aiohttp.ClientSession) -> None:
    """Tags, manifests and blobs can be deleted, and are gone."""
    image = build_image(["linux/amd64"])
    async with Registry() as registry:
        await push(image, registry, "a/b", ["x", "y"])
        for path in ("manifests/x", f"manifests/{image.digest}", f"blobs/{image.layers[0]}"):
            async with client.delete(f"{registry.url}/v2/a/b/{path}") as answer:
                assert answer.status == 202
            async with client.get(f"{registry.url}/v2/a/b/{path}") as answer:
                assert answer.status == 404
        assert registry.tags["a/b"] == {}


async def test_tag_pages(client: aiohttp.ClientSession) -> None:
    """Tags come in order, in pages bound by Link (spec.md#listing-tags)."""
    async with Registry(page_size=2) as registry:
        await push(build_image(["linux/amd64"]), registry, "a/b", "edcba")
        url, seen = "/v2/a/b/tags/list?n=100", []
        while url:
            async with client.get(registry.url + url) as answer:
                seen += (await answer.json())["tags"]
                url = URL(answer.links["next"]["url"]).raw_path_qs if answer.links else ""
        assert (seen, len(registry.log)) == (list("abcde"), 3)


async def test_referrers(client: aiohttp.ClientSession) -> None:
    """What has a subject is found by it."""
    image = build_image(["linux/amd64"])
    about = build_artifact(image)
    async with Registry() as registry:
        await push(image, registry, "a/b")
        await push(about, registry, "a/b")
        async with client.get(f"{registry.url}/v2/a/b/referrers/{image.digest}") as answer:
            document = json.loads(await answer.read())
        assert [entry["digest"] for entry in document["manifests"]] == [about.digest]


async def test_immutable_tags(client: aiohttp.ClientSession) -> None:
    """A frozen tag takes the same content again and nothing else."""
    first, second = build_image(["linux/amd64"]), build_image(["linux/amd64"], seed="other")
    async with Registry(immutable_tags=Immutable(r"v.*", 409)) as registry:
        await push(first, registry, "a/b", ["v1", "main"])
        await push(second, registry, "a/b")
        for image, tag, status in ((first, "v1", 201), (second, "v1", 409), (second, "main", 201)):
            url, headers = f"{registry.url}/v2/a/b/manifests/{tag}", {"Content-Type": image.media_type}
            async with client.put(url, data=image.body, headers=headers) as answer:
                assert answer.status == status


async def test_redirected_blobs(client: aiohttp.ClientSession) -> None:
    """Blob GETs go to another server, which wants no second set of credentials (bad input 7)."""
    content = Content()
    async with Registry(content=content) as storage, Registry(content=content) as registry:
        registry.protocol.redirect_blobs_to = storage.url
        content.put_blob("a/b", DATA)
        url = f"{registry.url}/v2/a/b/blobs/{DIGEST}"
        async with client.get(url, headers={"Range": "bytes=5-9"}) as answer:
            assert await answer.read() == DATA[5:10]
        async with client.get(url, allow_redirects=False) as answer:
            place = answer.headers["Location"]
        async with client.get(place, headers={"Authorization": "Basic eDp5"}) as answer:
            assert answer.status == 400


async def test_basic(client: aiohttp.ClientSession) -> None:
    """Basic lets in who knows the password."""
    async with Registry(auth=Auth(basic=("ann", "pw"))) as registry:
        async with client.get(f"{registry.url}/v2/") as answer:
            assert (answer.status, answer.headers["WWW-Authenticate"][:5]) == (401, "Basic")
        async with client.get(f"{registry.url}/v2/", headers=LOGIN) as answer:
            assert answer.status == 200


async def token(
    client: aiohttp.ClientSession, registry: Registry, scope: str, headers: dict[str, str] | None = None
) -> Any:
    async with client.get(f"{registry.url}/token", params={"scope": scope}, headers=headers) as answer:
        return (await answer.json())["token"] if answer.status == 200 else answer.status


async def test_bearer(client: aiohttp.ClientSession) -> None:
    """A token opens exactly its repositories and actions, as long as it lives."""
    auth = Auth(bearer=("ann", "pw"), anonymous_pull=True)
    async with Registry(auth=auth) as registry:
        assert await token(client, registry, "", {"Authorization": "Basic YW5uOm5v"}) == 401

        async def status(method: str, text: Any) -> tuple[int, str]:
            url = f"{registry.url}/v2/a/b/blobs/uploads/" if method == "POST" else f"{registry.url}/v2/a/b/tags/list"
            headers = {"Authorization": f"Bearer {text}"} if text else {}
            async with client.request(method, url, headers=headers) as answer:
                return answer.status, answer.headers.get("WWW-Authenticate", "")

        refused, challenge = await status("GET", "")
        assert refused == 401
        assert challenge == (f'Bearer realm="{registry.url}/token",service="registry.test",scope="repository:a/b:pull"')
        reader = await token(client, registry, "repository:a/b:pull,push")
        writer = await token(client, registry, "repository:a/b:pull,push", LOGIN)
        other = await token(client, registry, "repository:x/y:pull,push", LOGIN)
        assert (await status("GET", reader))[0] == 404
        assert "insufficient_scope" in (await status("POST", reader))[1]
        assert (await status("POST", writer))[0] == 202
        assert (await status("GET", other))[0] == 401
        auth.expire()
        assert "invalid_token" in (await status("POST", writer))[1]
        assert len(auth.issued) == 3


async def test_bearer_quirks(client: aiohttp.ClientSession) -> None:
    """Lifetimes, field names and refresh tokens can be as odd as out there (bad input 16)."""
    auth = Auth(bearer=("", ""), key="access_token", expires_in="60", uses=1, identity="refresh")
    async with Registry(auth=auth) as registry:
        async with client.get(f"{registry.url}/token?scope=repository:a/b:pull") as answer:
            document = await answer.json()
        assert document["expires_in"] == "60"
        headers = {"Authorization": f"Bearer {document['access_token']}"}
        for status in (404, 401):
            async with client.get(f"{registry.url}/v2/a/b/tags/list", headers=headers) as answer:
                assert answer.status == status
        for said, status in (("refresh", 200), ("wrong", 401)):
            async with client.post(f"{registry.url}/token", data={"refresh_token": said}) as answer:
                assert answer.status == status


async def test_tls_with_client_certificate(tmp_path: Path) -> None:
    """TLS of an own authority is spoken, and a client certificate can be demanded."""
    authority = Authority(tmp_path)
    context = ssl.create_default_context(cafile=str(authority.ca))
    async with Registry(tls=authority.server(demand_client=True)) as registry, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{registry.url}/v2/", ssl=context)
        trusted = ssl.create_default_context(cafile=str(authority.ca))
        trusted.load_cert_chain(str(authority.client()))
        async with session.get(f"{registry.url}/v2/", ssl=trusted) as answer:
            assert answer.status == 200


async def test_order_across_registries(client: aiohttp.ClientSession) -> None:
    """Marks of registries on one wire have one order, and can be waited for."""
    wire = Wire()
    async with Registry(wire=wire, name="one") as one, Registry(wire=wire, name="two") as two:
        waiting = asyncio.ensure_future(two.wait(Moment.LAST_SENT, "GET", "/blobs/"))
        for registry in (one, two):
            registry.content.put_blob("a/b", DATA)
            async with client.get(f"{registry.url}/v2/a/b/blobs/{DIGEST}") as answer:
                await answer.read()
        second = await waiting
        assert one.log[0].at(Moment.FIRST_SENT) <= one.log[0].at(Moment.LAST_SENT) < second.at(Moment.STARTED)
        assert (one.sent("/blobs/"), len(one.log), len(two.log)) == (len(DATA), 1, 1)
        with pytest.raises(LookupError):
            second.at(Moment.FIRST_RECEIVED)


async def test_dead_and_back() -> None:
    """A stopped registry refuses connections; started again it has its port and its content."""
    async with Registry() as registry:
        registry.content.put_blob("a/b", DATA)
        await registry.stop()
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"{registry.url}/v2/")
            await registry.start()
            async with session.get(f"{registry.url}/v2/a/b/blobs/{DIGEST}") as answer:
                assert await answer.read() == DATA
