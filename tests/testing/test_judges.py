"""The judges that pull: each gets an image from a real registry, and each notices what is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from tests.support.judges import ANYWHERE, CHUNK, JudgedError, judged

IMAGE = build_image(layer_size=5 * CHUNK, seed="judged")
EACH = pytest.mark.parametrize("name", ANYWHERE)


@pytest.fixture
async def real() -> AsyncIterator[DockerRegistry]:
    require("docker-registry")
    async with DockerRegistry(access_log=True) as registry:
        await push(IMAGE, registry.url, "team/app", ["v1"])
        yield registry


@EACH
async def test_a_real_registry(name: str, real: DockerRegistry, tmp_path: Path) -> None:
    """Each judge gets the image from docker-registry, and says the digest that was pushed."""
    assert await judged(name, f"{real.host}/team/app:v1", tmp_path / "here") == IMAGE.digest


async def test_parallel_ranges(real: DockerRegistry, tmp_path: Path) -> None:
    """Containerd's parallel fetcher asks for a layer in more than one part, cut by itself."""
    before = len(real.hits())
    await judged("containerd-2-parallel", f"{real.host}/team/app:v1", tmp_path / "here")
    hits = [hit for hit in real.hits()[before:] if "/blobs/" in hit.path and hit.status == 206]
    assert len(hits) > 2 * len(IMAGE.layers)


@EACH
async def test_wrong_bytes(name: str, tmp_path: Path) -> None:
    """A layer with one wrong byte is noticed by each of them."""
    async with Registry() as registry:
        await push(IMAGE, registry, "team/app", ["v1"])
        for digest in IMAGE.layers:
            registry.faults.on("GET", f"/blobs/{digest}", times=None).corrupt(100)
        with pytest.raises(JudgedError):
            await judged(name, f"{registry.host}/team/app:v1", tmp_path / "here")
