"""What real registries take, and what real clients read, of an image of which only some platforms were mirrored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mirrord.model.run import Result
from mirrord.testing import DockerRegistry, Image, build_image, push, require
from mirrord.testing.images import DOCKER_LIST, OCI_INDEX, Builder
from mirrord.testing.running import run
from mirrord.wire.oci.subset import ORIGIN, PLATFORMS
from tests.support.imagetools import skopeo_copy
from tests.support.judges import ANYWHERE, judged
from tests.support.world import World

REGISTRIES = ("docker-registry", "registry3")
UNKNOWN = {"os": "unknown", "architecture": "unknown"}
THREE = ("linux/amd64", "linux/arm64", "linux/s390x")
TWO = ["linux/s390x", "linux/amd64"]


def built(*, docker: bool = False) -> Image:
    """Build an image for three platforms; in an OCI index with an attestation for each, as BuildKit makes them."""
    image, builder = build_image(THREE, layers=1, docker=docker), Builder()
    builder.include(image)
    entries = image.document()["manifests"]
    for number, entry in enumerate(() if docker else tuple(entries)):
        about = build_image(["unknown/unknown"], index=False, layers=1, layer_size=100, seed=f"attestation {number}")
        builder.include(about)
        notes = {
            "vnd.docker.reference.digest": entry["digest"],
            "vnd.docker.reference.type": "attestation-manifest",
        }
        entries.append({**about.root, "platform": UNKNOWN, "annotations": notes})
    kind = DOCKER_LIST if docker else OCI_INDEX
    return builder.image(builder.manifest({"schemaVersion": 2, "mediaType": kind, "manifests": entries}))


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
@pytest.mark.parametrize("program", REGISTRIES)
async def test_registries_take_subsets(world: World, tmp_path: Path, program: str, docker: bool) -> None:
    """Both releases of the registry keep every byte of the index, also of a Docker list, and every client reads it."""
    require(*REGISTRIES, "skopeo", "crane", "oras")
    image = built(docker=docker)
    other = REGISTRIES[program == REGISTRIES[0]]
    async with DockerRegistry(program=other) as source, DockerRegistry(program=program) as target:
        await push(image, source.url, "team/app", ["v1"])
        mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, target, platforms=TWO)
        done = await world.run(mirror)
        assert done.result is Result.SUCCESS, done.receipts
        digest = done.receipts[0].step.digest
        reference = f"{target.host}/mirror/app:v1"
        copied = await skopeo_copy(f"docker://{reference}", f"docker://{source.host}/copied:v1", "--preserve-digests")
        assert copied.status == 0, copied.output
        for judge in ("crane", "oras"):
            assert await judged(judge, reference, tmp_path / judge) == digest
        read = [
            (await run("oras", "manifest", "fetch", "--plain-http", name, env={"HOME": str(tmp_path)})).output
            for name in (reference, f"{source.host}/copied:v1")
        ]
        assert read[0] == read[1]
        index = json.loads(read[0])
        entries = image.document()["manifests"]
        kept = [entries[0], entries[2], *(entries[3::2])]
        assert (index["mediaType"], index["manifests"]) == (image.media_type, kept)
        assert index["annotations"] == {PLATFORMS: "linux/amd64,linux/s390x", ORIGIN: image.digest}
        flags = ("--tls-verify=false", "--override-os=linux")
        for machine, there in (("s390x", True), ("amd64", True), ("arm64", False)):
            shown = await run(
                "skopeo", *flags[1:], f"--override-arch={machine}", "inspect", flags[0], f"docker://{reference}"
            )
            assert (shown.status == 0) is there, shown.output
        pulled = await run(
            *("oras", "pull", "--plain-http", "--platform=linux/s390x", f"--output={tmp_path / 'pulled'}", reference),
            env={"HOME": str(tmp_path)},
        )
        assert pulled.status == 0, pulled.output


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
@pytest.mark.parametrize("judge", sorted(ANYWHERE.keys() - {"skopeo", "crane", "oras"}))
async def test_runtimes_pull_subsets(world: World, tmp_path: Path, judge: str, docker: bool) -> None:
    """Podman and containerd pull from an index of some platforms, and see the digest that was planned."""
    require("docker-registry")
    image = built(docker=docker)
    async with DockerRegistry() as source, DockerRegistry() as target:
        await push(image, source.url, "team/app", ["v1"])
        done = await world.run(
            world.mirror({"repository": f"{source.host}/team/app:v1"}, target, platforms=["linux/amd64"])
        )
        digest = done.receipts[0].step.digest
        assert await judged(judge, f"{target.host}/mirror/app:v1", tmp_path / judge) == digest
