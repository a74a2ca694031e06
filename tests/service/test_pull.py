"""Other people's tools pull from the daemon: what is kept locally is served as a registry at `/v2/`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from mirrord.commands import Sync
from mirrord.errors import UnreachableError
from mirrord.model.run import Result
from mirrord.serve.remote import ControlClient
from mirrord.testing import DockerRegistry, Image, Registry, build_image, push, require
from mirrord.testing.running import run
from tests.support.commands import Desk
from tests.support.imagetools import podman, skopeo_copy

LAYER = 60_000
KINDS = pytest.mark.parametrize("docker", [False, True], ids=["oci-index", "docker-list"])


class Served:
    """A daemon that has mirrored one image, as `team/app`, tags `v1` and `v2`."""

    def __init__(self, host: str, image: Image) -> None:
        self.host, self.image = host, image
        self.url = f"http://{host}/v2/team/app"


@pytest.fixture
def docker(request: pytest.FixtureRequest) -> bool:
    return bool(getattr(request, "param", False))


@pytest.fixture
async def served(tmp_path: Path, docker: bool) -> AsyncIterator[Served]:
    desk = Desk(tmp_path)
    image = build_image(layer_size=LAYER, docker=docker)
    async with Registry() as source:
        await push(image, source, "up/app", ["v1", "v2"])
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\nmirrors:\n"
            f"  - {{name: app, kind: image, as: team/app, from: {{repository: {source.host}/up/app, tags: ['*']}}, "
            "to: local}\n"
        )
        async with desk.serving() as daemon:
            runs = await ControlClient(desk.folder / "state").carry_out(Sync())
            assert [one.result for one in runs] == [Result.SUCCESS]
            yield Served(daemon.address, image)


@KINDS
async def test_skopeo_copies_all(served: Served) -> None:
    """`skopeo copy --all` takes the whole tree, byte by byte, to a real registry."""
    require("skopeo", "docker-registry")
    async with DockerRegistry() as target:
        copied = await skopeo_copy(f"docker://{served.host}/team/app:v1", f"docker://{target.host}/copy:v1")
        assert copied.status == 0, copied.output
        raw = await run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{target.host}/copy:v1")
        assert raw.output.encode() == served.image.body
    tags = await run("skopeo", "list-tags", "--tls-verify=false", f"docker://{served.host}/team/app")
    assert json.loads(tags.output)["Tags"] == ["v1", "v2"]


@KINDS
async def test_podman_pulls(served: Served) -> None:
    """`podman pull` unpacks the image of its platform, by tag and by digest."""
    require("podman")
    async with contextlib.AsyncExitStack() as stack:
        try:
            call = await stack.enter_async_context(podman())
        except UnreachableError as error:
            pytest.skip(str(error))
        for name in ("team/app:v1", f"team/app@{served.image.digest}"):
            pulled = await call("pull", "--tls-verify=false", "--platform=linux/amd64", f"{served.host}/{name}")
            assert pulled.status == 0, pulled.output
        inspected = await call("image", "inspect", f"{served.host}/team/app:v1")
        found = json.loads(inspected.output)[0]
        child = served.image.document()["manifests"][0]["digest"]
        assert len(found["RootFS"]["Layers"]) == len(served.image.document(child)["layers"])
        assert found["Architecture"] == "amd64"


@KINDS
async def test_manifests(served: Served) -> None:
    """By tag and by digest: the true bytes and type; HEAD says the same without a body; 304 for who has it."""
    image = served.image
    async with aiohttp.ClientSession() as session:
        for name in ("v1", "v2", image.digest):
            async with session.get(f"{served.url}/manifests/{name}") as answer:
                assert (answer.status, await answer.read()) == (200, image.body)
                assert answer.headers["Content-Type"] == image.media_type
                assert answer.headers["Docker-Content-Digest"] == image.digest
                etag = answer.headers["ETag"]
            async with session.head(f"{served.url}/manifests/{name}") as head:
                assert (head.status, await head.read()) == (200, b"")
                assert head.headers["Content-Length"] == str(len(image.body))
                assert head.headers["Docker-Content-Digest"] == image.digest
            async with session.get(f"{served.url}/manifests/v1", headers={"If-None-Match": etag}) as known:
                assert known.status == 304


async def test_blobs_in_parts(served: Served) -> None:
    """A blob whole, by HEAD, from the middle, its end, and beyond its end (bad input 29)."""
    digest, data = max(served.image.blobs.items(), key=lambda entry: len(entry[1]))
    url, size = f"{served.url}/blobs/{digest}", len(data)
    asked = [
        (None, 200, data),
        ("bytes=0-", 206, data),
        ("bytes=100-199", 206, data[100:200]),
        (f"bytes={size - 5}-", 206, data[-5:]),
        ("bytes=-7", 206, data[-7:]),
        (f"bytes={size}-", 416, b""),
        ("bytes=x-", 200, data),
        ("bytes=0-1,3-4", 200, data),
    ]
    async with aiohttp.ClientSession() as session:
        for header, status, body in asked:
            async with session.get(url, headers={"Range": header} if header else {}) as answer:
                assert (answer.status, header) == (status, header)
                assert await answer.read() == body, header
        async with session.head(url) as head:
            assert (head.status, head.headers["Content-Length"], head.headers["Accept-Ranges"]) == (
                200,
                str(size),
                "bytes",
            )


async def test_pages_of_tags(served: Served) -> None:
    """`tags/list` with `n` and `last`, and a Link to what follows."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{served.url}/tags/list?n=1") as first:
            assert await first.json() == {"name": "team/app", "tags": ["v1"]}
            following = first.links["next"]["url"]
        async with session.get(following) as second:
            assert await second.json() == {"name": "team/app", "tags": ["v2"]}
            assert "next" not in second.links


async def test_nobody_writes(served: Served) -> None:
    """Everything but reading is 405 UNSUPPORTED, as the specification spells it (bad input 34)."""
    async with aiohttp.ClientSession() as session:
        for method in ("PUT", "POST", "PATCH", "DELETE"):
            for path in ("manifests/v9", "blobs/uploads/", f"blobs/{served.image.digest}"):
                async with session.request(method, f"{served.url}/{path}", data=b"{}") as answer:
                    assert answer.status == 405
                    assert (await answer.json(content_type=None))["errors"][0]["code"] == "UNSUPPORTED"
        async with session.get(f"{served.url}/manifests/v9") as answer:
            assert answer.status == 404
