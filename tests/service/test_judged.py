"""What the daemon serves, judged by the clients that people use, and by registries that cache what they get from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.commands import Sync
from mirrord.model.run import Result
from mirrord.serve.remote import ControlClient
from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from tests.support.commands import Desk, Served
from tests.support.judges import ANYWHERE, CHUNK, judged

IMAGE = build_image(layer_size=5 * CHUNK, seed="judged")
NAME = "docker.io/library/app"
CACHES = pytest.mark.parametrize("program", ["docker-registry", "registry3"])


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Served]:
    """Mirror an image to `local` under a name of four segments."""
    desk = Desk(tmp_path)
    async with Registry() as source:
        await push(IMAGE, source, "up/app", ["v1"])
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\nmirrors:\n"
            f"  - {{name: app, kind: image, as: {NAME}, to: local, "
            f"from: {{repository: {source.host}/up/app, tags: [v1]}}}}\n"
        )
        async with desk.serving() as served:
            runs = await ControlClient(desk.folder / "state").carry_out(Sync())
            assert [one.result for one in runs] == [Result.SUCCESS]
            yield served


@pytest.mark.parametrize("judge", ANYWHERE)
async def test_local(judge: str, daemon: Served, tmp_path: Path) -> None:
    """Each judge gets what is mirrored to `local`, with the digests of its source."""
    assert await judged(judge, f"{daemon.address}/{NAME}:v1", tmp_path / "judge") == IMAGE.digest


async def cached(cache: DockerRegistry) -> None:
    """Wait until a cache has written all that it sent: release 2.8 reads each blob a second time for that."""
    layers = cache.folder / "content/docker/registry/v2/repositories" / NAME / "_layers"
    links = [layers / blob.replace(":", "/") / "link" for blob in IMAGE.blobs]
    async with asyncio.timeout(60):
        while not all(link.exists() for link in links):  # noqa: ASYNC110 - another process writes them
            await asyncio.sleep(0.05)


@CACHES
async def test_a_cache_above(program: str, daemon: Served, tmp_path: Path) -> None:
    """docker-registry as a cache of the daemon has all of it, and serves it again when the daemon is gone."""
    require("skopeo", program)
    async with DockerRegistry(upstream=f"http://{daemon.address}", program=program) as cache:
        reference = f"{cache.host}/{NAME}:v1"
        assert await judged("skopeo", reference, tmp_path / "first") == IMAGE.digest
        await cached(cache)
        daemon.process.kill()
        await daemon.process.wait()
        assert await judged("skopeo", reference, tmp_path / "second") == IMAGE.digest
