"""`local` in a bucket: blobs go there while they come, each once, and what is wrong does not arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirrord.blobs.s3 import S3Store
from mirrord.blobs.s3_repositories import S3Repositories
from mirrord.model.digest import Digest
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL, Services
from mirrord.testing import build_image, push
from mirrord.testing.exchange import Moment
from mirrord.wire.bucket import ObjectBucket
from tests.support.bucketproxy import BucketProxy
from tests.support.gateway import gateway
from tests.support.layouts import write_layout
from tests.support.world import World

LARGE = build_image(["linux/amd64"], layers=1, layer_size=20 << 20)
LAYER = Digest(LARGE.layers[0])


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return f"image/{tmp_path.name}"


@pytest.fixture
async def far(world: World, prefix: str) -> AsyncIterator[BucketProxy]:
    """A world whose `local` is in a bucket, and what that is asked."""
    gateway()
    async with BucketProxy() as proxy:
        world.services = opened(world.services, prefix, proxy)
        yield proxy


def opened(services: Services, prefix: str, proxy: BucketProxy) -> Services:
    """Return services whose `local` is read anew, as by another replica; their clock stands still."""
    objects = ObjectBucket(gateway().address(prefix, endpoint=proxy.base))
    store = S3Store(objects, ticks=lambda: 0.0)
    names = S3Repositories(objects, ticks=lambda: 0.0, confirm=store.confirm)
    return replace(services, blobs=store, repositories=names)


def kept(prefix: str) -> list[str]:
    return [key.rpartition("/")[2] for key in gateway().objects(prefix) if key.startswith("blobs/")]


async def test_a_blob_goes_there_while_it_comes(world: World, far: BucketProxy, prefix: str) -> None:
    """The first parts are there while the source still sends, the object only when all of it is verified."""
    async with world.stack:
        source = await world.registry("source")
        await push(LARGE, source, "team/app", ["v1"])
        stalled = source.faults.on("GET", f"/blobs/{LAYER}").stall(after=18 << 20)

        async def let_go() -> None:
            await far.wait(Moment.ENDED, "PUT", f"{LAYER.hex}.*partNumber=2")
            await stalled.reached.wait()
            assert LAYER.hex not in kept(prefix)
            stalled.release()

        _, run = await asyncio.gather(
            let_go(), world.run(world.mirror({"repository": f"{source.host}/team/app:v1"}, LOCAL))
        )
        assert run.result == Result.SUCCESS
        assert LAYER.hex in kept(prefix)
        assert source.count("GET", f"/blobs/{LAYER}") == 1
        assert far.received(LAYER.hex) - (20 << 20) < 1 << 20


async def test_what_an_image_costs(world: World, far: BucketProxy, prefix: str) -> None:
    """Three looks and three writes for three new objects, one write for its name; then one look each, then nothing."""
    image = build_image(["linux/amd64"], layers=1, index=False)
    async with world.stack:
        source = await world.registry("source")
        await push(image, source, "team/app", ["v1", "v2"])
        await world.run(world.mirror({"repository": f"{source.host}/team/app:v1"}, LOCAL))
        counts = {method: far.count(method) for method in ("HEAD", "GET", "PUT", "POST", "DELETE")}
        assert counts == {"HEAD": 2, "GET": 3, "PUT": 4, "POST": 0, "DELETE": 0}
        assert far.count("GET", "list-type") == 0
        far.forget()
        world.services = opened(world.services, prefix, far)
        mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["v1", "v2"]}, LOCAL)
        await world.run(mirror)
        counts = {method: far.count(method) for method in ("HEAD", "GET", "PUT", "POST", "DELETE")}
        assert counts == {"HEAD": 3, "GET": 1, "PUT": 1, "POST": 0, "DELETE": 0}
        far.forget()
        await world.run(mirror)
        assert [far.count(method) for method in ("HEAD", "GET", "PUT")] == [0, 0, 0]


@pytest.mark.parametrize("large", [False, True])
async def test_wrong_bytes_do_not_arrive(world: World, far: BucketProxy, prefix: str, large: bool) -> None:
    """A source that sends something else fails the image; the object is not there, and its parts are taken back."""
    image = LARGE if large else build_image(["linux/amd64"], layers=1)
    layer = Digest(image.layers[0])
    async with world.stack:
        source = await world.registry("source")
        await push(image, source, "team/app", ["v1"])
        source.faults.on("GET", f"/blobs/{layer}", times=None).corrupt(-1)
        run = await world.run(world.mirror({"repository": f"{source.host}/team/app:v1"}, LOCAL))
        assert run.result != Result.SUCCESS
        assert layer.hex not in kept(prefix)
        assert far.count("POST", f"{layer.hex}.uploads") == far.count("DELETE", layer.hex)
        assert await world.services.repositories.state("app") is None  # type: ignore[union-attr]  # it is there


async def test_a_layout(world: World, far: BucketProxy, prefix: str, tmp_path: Path) -> None:
    """An image of a layout on this disk goes there, too."""
    image = build_image(["linux/amd64"])
    async with world.stack:
        run = await world.run(
            world.mirror({"layout": write_layout(image, tmp_path / "layout"), "names": ["v1"]}, LOCAL)
        )
        assert run.result == Result.SUCCESS
        assert {Digest(one).hex for one in image.blobs} <= set(kept(prefix))
        assert (await world.local(f"app/blobs/{image.layers[0]}")).status == 200
