"""Images that nobody mirrored, pulled through the front from a real registry by real clients."""

from __future__ import annotations

from pathlib import Path

from mirrord.testing import build_image, push
from mirrord.testing.servers import DockerRegistry
from tests.support.judges import judged
from tests.support.pulling import pulling

IMAGE = build_image(["linux/amd64", "linux/arm64"], shared_layers=1)


async def test_skopeo_copies_what_nobody_mirrored(tmp_path: Path) -> None:
    """Each blob and each manifest is read once from upstream; the second copy asks for the tag by nothing at all."""
    async with DockerRegistry(access_log=True) as upstream:
        await push(IMAGE, upstream.url, "team/app", ["v1"])
        before = len(upstream.hits())
        async with pulling(tmp_path / "front", upstream.host) as pulls:
            reference = f"{pulls.host}/up.test/team/app:v1"
            assert await judged("skopeo", reference, tmp_path / "one") == IMAGE.digest
            asked = upstream.hits()[before:]
            blobs = [hit.path for hit in asked if hit.method == "GET" and "/blobs/" in hit.path]
            assert len(blobs) == len(set(blobs)) == len(IMAGE.blobs)
            manifests = [hit.path for hit in asked if hit.method == "GET" and "/manifests/" in hit.path]
            assert len(manifests) == len(set(manifests)) == 3
            assert await judged("skopeo", reference, tmp_path / "two") == IMAGE.digest
            assert upstream.hits()[before + len(asked) :] == []
            assert await judged("skopeo", f"{reference.removesuffix(':v1')}@{IMAGE.digest}", tmp_path / "three")
            assert upstream.hits()[before + len(asked) :] == []
            kept = pulls.front.standing()
            assert kept.cache_entries == len(IMAGE.blobs) + 3
