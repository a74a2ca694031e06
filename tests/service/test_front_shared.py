"""Two daemons with one bucket: what clients pulled through one, the other one has."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from mirrord.testing import Image, Registry, build_image, push, require
from tests.support.commands import Desk
from tests.support.frontdesk import ALIAS, configuration
from tests.support.gateway import ACCESS, BUCKET, SECRET, gateway
from tests.support.judges import crane


def all_shared(prefix: str, upstream: Registry, image: Image) -> bool:
    """Whether the bucket has all content, and a name for it."""
    cache = gateway().folder / prefix / "cache" / "image"
    links = cache / "repositories" / upstream.host.replace(":", "_") / "team/app" / "_links.jsonl"
    names = links.read_text() if links.exists() else ""
    content = {file.name for file in cache.glob("blobs/*/*/*")}
    return (
        all(f'"{one}":' in names for one in image.manifests)
        and {one.partition(":")[2] for one in image.blobs} <= content
    )


async def test_what_one_daemon_pulled(tmp_path: Path) -> None:
    """Crane pulls an image through one; the other one is told within moments, and asks upstream nothing."""
    require("crane", "versitygw")
    prefix, image = f"daemons/{tmp_path.name}", build_image(["linux/amd64", "linux/arm64"], layer_size=60_000)
    blobs = {
        "url": f"s3://{BUCKET}/{prefix}",
        "endpoint": gateway().endpoint,
        "access_key": {"env": "S3_ACCESS"},
        "secret_key": {"env": "S3_SECRET"},
    }
    async with Registry() as upstream:
        await push(image, upstream, "team/app", ["v1"])
        text = configuration(upstream.host, "mirrors: []\n").replace(
            '{"listen"', f'{{"blobs": {json.dumps(blobs)}, "listen"'
        )
        upstream.forget()
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            desk = Desk(tmp_path / name, S3_ACCESS=ACCESS, S3_SECRET=SECRET)
            desk.configure(text)
            async with desk.serving() as daemon:
                reference = f"{daemon.address}/{ALIAS}/team/app:v1"
                assert await crane(reference, tmp_path / f"{name}-pulled") == image.digest
                asked = [one.path for one in upstream.log if "tags/list" not in one.path]  # which is always asked for
                assert bool(asked) is (name == "one")
                async with asyncio.timeout(60):
                    while not all_shared(prefix, upstream, image):  # noqa: ASYNC110 - another process writes it
                        await asyncio.sleep(0.02)
            upstream.forget()
