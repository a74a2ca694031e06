"""Other people's tools pull from a daemon that keeps `local` in a bucket, by way of it and from the bucket itself."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest

from mirrord.commands import Sync
from mirrord.model.run import Result
from mirrord.serve.remote import ControlClient
from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from tests.support.commands import Desk
from tests.support.gateway import ACCESS, BUCKET, SECRET, gateway
from tests.support.imagetools import skopeo_copy
from tests.support.judges import crane


@pytest.mark.parametrize("redirect", [False, True], ids=["streamed", "redirected"])
async def test_pull(tmp_path: Path, redirect: bool) -> None:
    """Skopeo and crane get every byte; a redirect has the digest, takes parts, and is in no log and no status."""
    require("skopeo", "crane", "docker-registry", "versitygw")
    server, prefix, image = gateway(), f"pull/{tmp_path.name}-{redirect}", build_image(layer_size=60_000)
    desk = Desk(tmp_path, S3_ACCESS=ACCESS, S3_SECRET=SECRET)
    async with Registry() as source, DockerRegistry() as target:
        await push(image, source, "up/app", ["v1", "v2"])
        desk.configure(
            f"settings:\n  listen: '127.0.0.1:0'\n  log: {{level: debug}}\n  blobs:\n"
            f"    {{url: 's3://{BUCKET}/{prefix}', endpoint: '{server.endpoint}', redirect: {str(redirect).lower()},"
            " access_key: {env: S3_ACCESS}, secret_key: {env: S3_SECRET}}\nmirrors:\n"
            f"  - {{name: app, kind: image, as: team/app, from: {{repository: {source.host}/up/app, tags: ['*']}}, "
            "to: local}\n"
        )
        async with desk.serving() as daemon:
            runs = await ControlClient(desk.folder / "state").carry_out(Sync())
            assert [one.result for one in runs] == [Result.SUCCESS]
            copied = await skopeo_copy(f"docker://{daemon.address}/team/app:v1", f"docker://{target.host}/copy:v1")
            assert copied.status == 0, copied.output
            assert await crane(f"{daemon.address}/team/app:v2", tmp_path / "crane") == image.digest
            digest, data = max(image.blobs.items(), key=lambda entry: len(entry[1]))
            url = f"http://{daemon.address}/v2/team/app/blobs/{digest}"
            async with aiohttp.ClientSession() as session:
                async with session.head(url, allow_redirects=False) as head:
                    assert (head.status, head.headers["Content-Length"]) == (200, str(len(data)))
                async with session.get(url, allow_redirects=False) as first:
                    assert first.status == (307 if redirect else 200)
                    assert first.headers["Docker-Content-Digest"] == digest
                async with session.get(url, headers={"Range": "bytes=5-99"}) as part:
                    assert (part.status, await part.read()) == (206, data[5:100])
                    assert part.url.path.startswith(f"/{BUCKET}/") is redirect
                async with session.get(f"http://{daemon.address}/status") as status:
                    told = await status.text()
            daemon.process.terminate()
            assert await daemon.process.wait() == 0
        told += json.dumps(daemon.lines) + (await desk.run("status", "--json")).out
        assert [one for one in ("X-Amz", SECRET, ACCESS) if one in told] == []
    objects = server.objects(prefix)
    assert objects[0].startswith("blobs/sha256/")
    others = [one for one in objects if not one.startswith("blobs/")]
    assert others[:2] == ["mirrord", "repositories/team/app/_links.jsonl"]
    (used,) = others[2:]
    assert used == f"uses/{(tmp_path / 'state' / 'replica').read_text().strip()}"
    assert image.digest in json.loads((server.folder / prefix / used).read_bytes())["manifests"]
    assert not [file for file in (tmp_path / "state").glob("*") if file.name in ("blobs", "repositories")]
