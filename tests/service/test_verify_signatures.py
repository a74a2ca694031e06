"""`verify` of what is about images: signatures under tags and by subject that were lost are found, and come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.model.run import Result
from mirrord.model.verification import Level
from mirrord.testing import Registry, build_image, push, require
from mirrord.testing.servers import DockerRegistry
from tests.support.artifacts import build_artifact
from tests.support.cosigning import new_key, signature_tag, simple_by
from tests.support.verifying import codes, damage, lose_blob, lose_manifest, lose_tag, opened

IMAGES = {tag: build_image(layer_size=1000, layers=1, seed=tag) for tag in ("v1", "v2", "v3", "v4", "v5")}
SIGNED = IMAGES["v1"], IMAGES["v2"]
ATTACHED = {tag: build_artifact(IMAGES[tag], data=tag.encode()) for tag in ("v3", "v4")}
PATH = "mirror/app"
CONFIGURATION = """\
targets: {{there: {{kind: image, to: "{there}/mirror"}}}}
mirrors:
  - {{name: app, kind: image, from: {{repository: "{source}/team/app", tags: ["v*"]}}, to: [there, local]}}
"""


@pytest.mark.parametrize("program", ["docker-registry", "registry3"])
async def test_lost_signatures_are_found_and_come_back(tmp_path: Path, program: str) -> None:
    """A tag of cosign, a blob of a signature, a referrer, its bytes in `local`: each is found and mended."""
    require(program)
    key = new_key()
    signatures = {signature_tag(image): simple_by(image.digest, key) for image in SIGNED}
    async with Registry() as source, DockerRegistry(program=program, access_log=True) as there:
        for tag, image in {**IMAGES, **signatures}.items():
            await push(image, source, "team/app", [tag])
        for artifact in ATTACHED.values():
            await push(artifact, source, "team/app")
        async with opened(tmp_path, CONFIGURATION.format(source=source.host, there=there.host)) as one:
            assert (await one.sync()).result is Result.SUCCESS
            asked, before = len(source.log), len(there.hits())
            assert codes(await one.verify(Level.BYTES)) == []
            assert len(source.log) == asked
            unsigned = {str(digest) for digest in IMAGES["v5"].manifests}
            names = [hit.path for hit in there.hits()[before:] if "/referrers/" in hit.path or "sha256-" in hit.path]
            assert names
            assert not [path for path in names for digest in unsigned if digest[7:] in path]
            first, second = (signature_tag(image) for image in SIGNED)
            lose_tag(there, PATH, first)
            lose_blob(there, PATH, next(one for one in signatures[second].layers))
            lose_manifest(there, PATH, ATTACHED["v3"].digest)
            damage(one.blob(next(digest for digest, data in ATTACHED["v4"].blobs.items() if data == b"v4")))
            assert codes(await one.verify()) == []
            lost = [("there", tag, "signature") for tag in ("v1", "v2", "v3")]
            assert codes(await one.verify(Level.DEEP)) == lost
            assert codes(await one.verify(Level.BYTES)) == [("local", "v4", "bytes"), *lost]
            found = await one.verify(Level.BYTES, repair=True)
            assert (found.repaired, codes(found), found.error) == (4, [], "")
            assert codes(await one.verify(Level.BYTES)) == []


async def test_more_than_is_looked_at_is_no_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is about an image only so much is listed: that the rest was not looked at is said, and is not drift."""
    require("docker-registry")
    image = IMAGES["v1"]
    async with Registry() as source, DockerRegistry() as there:
        await push(image, source, "team/app", ["v1"])
        for number in range(4):
            await push(build_artifact(image, data=f"{number}".encode()), source, "team/app")
        async with opened(tmp_path, CONFIGURATION.format(source=source.host, there=there.host)) as one:
            assert (await one.sync()).result is Result.SUCCESS
            assert codes(await one.verify(Level.DEEP)) == []
            monkeypatch.setattr("mirrord.syncers.image.upstream.compared_about.MOST", 3)
            found = await one.verify(Level.DEEP)
            assert (found.drift, found.unknown) == (0, 2)
            assert {finding.text for target in found.targets for finding in target.findings} == {
                "more than 3 signatures and attestations are about local/app:v1; the rest was not looked at",
                f"more than 3 signatures and attestations are about {there.host}/{PATH}:v1; the rest was not looked at",
            }
