"""Blobs that another repository of the registry has."""

from __future__ import annotations

import pytest

from mirrord.errors import UsageError
from mirrord.testing import Registry
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.reference import Reference
from mirrord.wire.secret import Credential, Secret
from tests.support.auth import Auth
from tests.support.uploading import DATA, UPLOADS, Source, blob, requests


async def test_mount(repo: Repository, registry: Registry) -> None:
    """A blob of another repository is taken over by one request and no byte."""
    registry.content.put_blob("base/image", DATA)
    assert await repo.mount(blob().digest, "base/image")
    assert await repo.has_blob(blob())
    assert requests(registry) == ["POST", "HEAD"]
    assert registry.received() == 0


async def test_mount_that_opens_a_session(repo: Repository, registry: Registry) -> None:
    """A registry that will not mount opens a session; the upload uses it, which saves a POST."""
    assert not await repo.mount(blob().digest, "base/image")
    await repo.put_blob(blob(), Source(DATA).open)
    assert requests(registry) == ["POST", "PUT"]
    assert registry.protocol.uploads.open == {}
    assert registry.blobs[blob().digest] == DATA


async def test_mount_whose_session_is_gone(repo: Repository, registry: Registry) -> None:
    """The session of a mount may be gone when the blob comes (regclient#323): then a new one is opened, once."""
    assert not await repo.mount(blob().digest, "base/image")
    registry.protocol.uploads.open.clear()
    await repo.put_blob(blob(), Source(DATA).open)
    assert requests(registry) == ["POST", "PUT", "HEAD", "POST", "PUT"]
    assert registry.blobs[blob().digest] == DATA


async def test_mount_of_another_algorithm_is_cancelled(repo: Repository, registry: Registry) -> None:
    """The session of such a mount would compute a sha256: it is closed, and a refusal to close it is no error."""
    other = blob(algorithm="sha512")
    assert not await repo.mount(other.digest, "base/image")
    registry.faults.on("DELETE", UPLOADS).status(401)
    assert not await repo.mount(other.digest, "base/image")
    assert requests(registry) == ["POST", "DELETE", "POST", "DELETE"]
    await repo.put_blob(other, Source(DATA).open)
    assert registry.log[-2].query == "digest-algorithm=sha512"


@pytest.mark.parametrize("status", [400, 401, 404, 405, 500, 200])
async def test_mount_that_fails(repo: Repository, registry: Registry, status: int) -> None:
    """Whatever goes wrong with a mount only means that the blob has to be sent; it is not tried twice."""
    registry.faults.on("POST", UPLOADS, times=None).status(status)
    assert not await repo.mount(blob().digest, "base/image")
    assert registry.count("POST", UPLOADS) == 1


async def test_mount_needs_a_repository(repo: Repository, registry: Registry) -> None:
    """A host in the source is refused (go-containerregistry#1393), and mounting from itself is no request."""
    for source in ("reg.io:5000/x", "../x", "", "A"):
        with pytest.raises(UsageError):
            await repo.mount(blob().digest, source)
    assert not await repo.mount(blob().digest, "a/b")
    assert registry.log == []


async def test_mount_asks_for_both_scopes() -> None:
    """The token for a mount names the push scope first, since a few registries look at the first one only."""
    async with Registry(auth=Auth(bearer=("ann", "pw"))) as registry:
        registry.content.put_blob("base/image", DATA)
        book = HostBook({registry.host: HostPolicy(registry.host, Credential("ann", Secret("pw")))})
        async with Http(book) as http:
            assert await Repository(http, Reference(registry.host, "a/b")).mount(blob().digest, "base/image")
        assert isinstance(registry.auth, Auth)
        assert registry.auth.asked[-1] == ("repository:a/b:pull,push", "repository:base/image:pull")
