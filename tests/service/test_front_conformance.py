"""The front is a registry by the distribution specification: its conformance program, and what that one leaves out.

Without pushing the program asks for no parts of blobs, for no missing blob and for no sha512: these are asked for here
as it would.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.model.digest import Digest
from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from tests.support.conformance import REPOSITORY, conformance, contents
from tests.support.frontdesk import ALIAS, FrontDesk, fronted

NAME = "team/app"
DATA = bytes(range(256)) * 8
BLOB = Digest.of(DATA)
LONG = build_image(["linux/amd64"], seed="long", algorithm="sha512")
ABSENT = f"sha256:{'0' * 64}"


@pytest.mark.timeout(300)
async def test_pull_and_content_discovery(tmp_path: Path) -> None:
    """All that the program pushes to a real registry is pulled through the front by its read-only mode: no failure."""
    require("registry3", "oci-conformance")  # release 2.8 leaves `last` of a list of tags out of account
    async with DockerRegistry(program="registry3") as source:
        made, _ = await conformance(tmp_path / "made", source.host, OCI_DATA_SHA512="false")
        assert made > 50
        there = await contents(source.host)
        assert all(there.values()), there
        async with fronted(tmp_path, source.host) as front:
            names = {"OCI_REPO1": f"{ALIAS}/{REPOSITORY}", "OCI_REPO2": f"{ALIAS}/{REPOSITORY}-2"}
            # The same switch for manifests fails with registries that do send the header, too.
            wanted = {"OCI_API_PUSH": "false", "OCI_API_BLOBS_DIGEST_HEADER": "true"}
            passed, failed = await conformance(tmp_path / "read", front.host, **names, **wanted, **there)
    assert failed == []
    assert passed > 100


@pytest.fixture
async def upstream() -> AsyncIterator[Registry]:
    async with Registry() as double:
        double.content.put_blob(NAME, DATA, BLOB)
        await push(LONG, double, NAME, ["long"])
        yield double


@pytest.fixture
async def front(upstream: Registry, tmp_path: Path) -> AsyncIterator[FrontDesk]:
    async with fronted(tmp_path, upstream.host) as made:
        yield made


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize(
    "part",
    [
        ("500-1499", 500, 1500),
        ("500-", 500, 2048),
        ("-500", 1548, 2048),
        ("2000-5000", 2000, 2048),
        ("0-0", 0, 1),
        ("0-", 0, 2048),
        ("-5000", 0, 2048),
    ],
)
async def test_parts(front: FrontDesk, upstream: Registry, part: tuple[str, int, int], warm: bool) -> None:
    """A part of a blob is 206 with its place and its bytes, whether the blob is here already or comes only now."""
    asked, start, end = part
    path = f"{front.path(NAME)}/blobs/{BLOB}"
    if warm:
        assert (await front.get(path)).body == DATA
    answer = await front.get(path, Range=f"bytes={asked}")
    assert (answer.status, answer.body) == (206, DATA[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert answer.headers["Content-Length"] == str(end - start)
    assert answer.headers["Docker-Content-Digest"] == BLOB
    assert upstream.count("GET", f"/blobs/{BLOB}") == 1


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("asked", ["5000-10000", "2048-", "-0"])
async def test_parts_beyond_the_end(front: FrontDesk, asked: str, warm: bool) -> None:
    """A part that begins behind the end is 416, which says how long the blob is."""
    path = f"{front.path(NAME)}/blobs/{BLOB}"
    if warm:
        assert (await front.get(path)).body == DATA
    answer = await front.get(path, Range=f"bytes={asked}")
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{len(DATA)}")


@pytest.mark.parametrize("asked", ["500-0", "x-y", "0-1,5-6", "1"])
async def test_parts_that_are_none(front: FrontDesk, asked: str) -> None:
    """A Range that is none, or several, is left out of account as HTTP says: the whole blob comes, or 416."""
    answer = await front.get(f"{front.path(NAME)}/blobs/{BLOB}", Range=f"bytes={asked}")
    assert (answer.status, answer.body) == (200, DATA) or answer.status == 416


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"blobs/{ABSENT}", "BLOB_UNKNOWN"),
        (f"manifests/{ABSENT}", "MANIFEST_UNKNOWN"),
        ("manifests/absent", "MANIFEST_UNKNOWN"),
    ],
)
async def test_missing_content(front: FrontDesk, path: str, code: str) -> None:
    """What upstream does not have is 404, with the specification's error as JSON; HEAD says the same without a body."""
    asked = f"{front.path(NAME)}/{path}"
    answer, head = await front.get(asked), await front.get(asked, "HEAD")
    assert (answer.status, head.status, head.body) == (404, 404, b"")
    assert answer.headers["Content-Type"].partition(";")[0] == "application/json"
    assert [one["code"] for one in json.loads(answer.body)["errors"]] == [code]


async def test_sha512(front: FrontDesk, upstream: Registry) -> None:
    """An image whose digests are sha512 is read by tag and by digest, and each blob of it comes once from upstream."""
    for _ in range(2):
        for reference in ("long", str(LONG.digest)):
            found = await front.get(f"{front.path(NAME)}/manifests/{reference}", Accept=LONG.media_type)
            assert (found.status, found.body) == (200, LONG.body)
            assert found.headers["Content-Type"] == LONG.media_type
            assert Digest.parse(found.headers["Docker-Content-Digest"]).algorithm in {"sha256", "sha512"}
        for digest, data in LONG.blobs.items():
            blob = await front.get(f"{front.path(NAME)}/blobs/{digest}")
            assert (blob.status, blob.body, blob.headers["Docker-Content-Digest"]) == (200, data, digest)
    assert [upstream.count("GET", f"/blobs/{digest}") for digest in LONG.blobs] == [1] * len(LONG.blobs)


async def test_the_root(front: FrontDesk) -> None:
    """`/v2/` and `/v2` are 200; nothing can be written."""
    for path in ("/v2/", "/v2"):
        assert (await front.get(path)).status == 200
    answer = await front.get(f"{front.path(NAME)}/blobs/uploads/", "POST")
    assert answer.status == 405
    assert json.loads(answer.body)["errors"][0]["code"] == "UNSUPPORTED"
