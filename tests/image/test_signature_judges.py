"""cosign, oras and regctl as judges: what they sign or attach at one registry is there at the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.image.syncer import SYNCER
from mirrord.testing import DockerRegistry, Image, build_image, push, require
from mirrord.testing.images import OCI_INDEX, Builder
from mirrord.testing.running import run
from tests.support.frontserver import open_front
from tests.support.world import World

REGISTRIES = ("docker-registry", "registry3")
OFFLINE = ("--tlog-upload=false", "--use-signing-config=false", "--yes")
OLD = "--new-bundle-format=false"  # under cosign's tags, as cosign 2 writes it
UNKNOWN = {"os": "unknown", "architecture": "unknown"}


def built() -> Image:
    """Build an index for two platforms, each with an attestation as BuildKit makes them."""
    image, builder = build_image(["linux/amd64", "linux/arm64"], layers=1, layer_size=100), Builder()
    builder.include(image)
    entries = image.document()["manifests"]
    for number, entry in enumerate(tuple(entries)):
        about = build_image(["unknown/unknown"], index=False, layers=1, layer_size=100, seed=f"attestation {number}")
        builder.include(about)
        notes = {"vnd.docker.reference.digest": entry["digest"], "vnd.docker.reference.type": "attestation-manifest"}
        entries.append({**about.root, "platform": UNKNOWN, "annotations": notes})
    return builder.image(builder.manifest({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}))


class Signer:
    """cosign, oras and regctl at home in a folder, so that no login of the machine is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._home = {"HOME": str(folder), "DOCKER_CONFIG": str(folder), "COSIGN_PASSWORD": ""}

    async def __call__(self, *command: str) -> str:
        """Run a program, and return what it wrote; it must succeed."""
        ran = await run(*command, env=self._home)
        assert ran.status == 0, ran.output[-2000:]
        return ran.output

    async def sign(self, reference: str, *flags: str) -> None:
        """Sign an image, and attest something about it."""
        key = ("--key", f"{self.folder}/cosign.key")
        await self("cosign", "sign", *key, *OFFLINE, *flags, reference)
        predicate = ("--predicate", f"{self.folder}/predicate.json", "--type", "custom")
        await self("cosign", "attest", *key, *predicate, *OFFLINE, *flags, reference)

    async def verify(self, reference: str, *flags: str) -> None:
        """Verify signature and attestation of an image."""
        key = ("--key", f"{self.folder}/cosign.pub", "--insecure-ignore-tlog=true")
        await self("cosign", "verify", *key, *flags, reference)
        await self("cosign", "verify-attestation", *key, "--type", "custom", *flags, reference)

    async def trees(self, host: str, repository: str, digest: str) -> list[list[str]]:
        """Return what is about an image and its platforms, as oras and regctl see it, without place, order and notes.

        Each registry has an order of its own, and the lists of some clients leave annotations out.
        """
        reference = f"{host}/{repository}@{digest}"
        seen = await self("oras", "discover", "--plain-http", "--format", "tree", reference)
        whole = ("--host", f"reg={host},tls=disabled", "artifact", "tree", "--digest-tags", reference)
        texts = [text.replace(f"{host}/{repository}", "IMAGE") for text in (seen, await self("regctl", *whole))]
        lines = [[line.lstrip("│├└─ -") for line in text.splitlines()] for text in texts]
        return [sorted(line for line in some if "sha256" in line or line.startswith("application/")) for some in lines]


async def signer(folder: Path) -> Signer:
    folder.mkdir()
    found = Signer(folder)
    await found("cosign", "generate-key-pair", "--output-key-prefix", f"{folder}/cosign")
    (folder / "predicate.json").write_text("{}")
    (folder / "sbom.json").write_text("{}")
    return found


@pytest.mark.parametrize("program", REGISTRIES)
async def test_signed_images(world: World, tmp_path: Path, program: str) -> None:
    """Signed in both forms, attested, with SBOMs of index and platform: verified at each target, with equal trees."""
    require(*REGISTRIES, "cosign", "oras", "regctl")
    image = built()
    child = image.document()["manifests"][0]["digest"]
    other = REGISTRIES[program == REGISTRIES[0]]
    async with (
        DockerRegistry(program=program) as source,
        DockerRegistry(program=other) as target,
        open_front(world.services, SYNCER) as served,
    ):
        tool = await signer(tmp_path / "home")
        await push(image, source.url, "team/app", ["v1"])
        signed = f"{source.host}/team/app"
        await tool.sign(f"{signed}@{image.digest}")
        await tool.sign(f"{signed}@{image.digest}", OLD)
        await tool.sign(f"{signed}@{child}", OLD)
        for subject in (image.digest, child):
            kind = "application/spdx+json"
            file = f"{tool.folder}/sbom.json:{kind}"
            flags = ("--plain-http", "--disable-path-validation", "--artifact-type", kind)
            await tool("oras", "attach", *flags, f"{signed}@{subject}", file)
        mirror = world.mirror({"repository": signed, "tags": ["v1"]}, target, LOCAL)
        done = await world.run(mirror)
        assert done.result is Result.SUCCESS, [one.detail for one in done.receipts]
        assert {one.referrers for one in done.receipts} == {8}
        for place in (f"{target.host}/mirror/app", f"{served.partition('://')[2]}/app"):
            await tool.verify(f"{place}@{image.digest}")
            await tool.verify(f"{place}@{image.digest}", OLD)
            await tool.verify(f"{place}@{child}", OLD)
            host, _, repository = place.partition("/")
            for digest in (image.digest, child):
                here = await tool.trees(source.host, "team/app", digest)
                assert await tool.trees(host, repository, digest) == here
        world.later(days=1)
        assert (await world.run(mirror)).result is Result.NOOP
