"""The conformance program of the distribution specification, run against what the daemon serves at `/v2/`."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from mirrord.commands import Sync
from mirrord.model.run import Result
from mirrord.serve.remote import ControlClient
from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from tests.support.artifacts import build_artifact
from tests.support.commands import Desk
from tests.support.conformance import REPOSITORY, conformance, contents


@pytest.mark.timeout(240)
async def test_pull_and_content_discovery(tmp_path: Path) -> None:
    """B7: all that the program pushes to a real registry, mirrored to `local` and served: no case fails."""
    require("docker-registry", "oci-conformance")
    desk = Desk(tmp_path)
    async with DockerRegistry() as source:
        made, _ = await conformance(tmp_path / "made", source.host, OCI_DATA_SHA512="false")
        assert made > 50
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\nmirrors:\n"
            f"- {{name: suite, kind: image, as: {REPOSITORY}, to: local, "
            f"from: {{repository: {source.host}/{REPOSITORY}, tags: ['*']}}}}\n"
        )
        async with desk.serving() as daemon:
            (run,) = await ControlClient(desk.folder / "state").carry_out(Sync())
            assert run.result is Result.SUCCESS, run
            there = await contents(daemon.address)
            assert all(there.values()), there
            passed, failed = await conformance(tmp_path / "read", daemon.address, OCI_API_PUSH="false", **there)
    assert failed == []
    assert passed > 100


async def test_referrers_over_the_wire(tmp_path: Path) -> None:
    """Artifacts that are about an image are listed with their type; another type, another image: none; never 404."""
    desk = Desk(tmp_path)
    image = build_image(["linux/amd64"])
    sbom = build_artifact(image)
    sign = build_artifact(image, "application/vnd.example.signature", b"signature")
    async with Registry() as source:
        for tag, one in (("v1", image), ("sbom", sbom), ("sign", sign)):
            await push(one, source, "up/app", [tag])
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\nmirrors:\n"
            "- {name: app, kind: image, as: team/app, to: local, "
            f"from: {{repository: {source.host}/up/app, tags: ['*']}}}}\n"
        )
        async with desk.serving() as daemon, aiohttp.ClientSession() as client:
            await ControlClient(desk.folder / "state").carry_out(Sync())
            root = f"http://{daemon.address}/v2"
            async with client.get(f"{root}/team/app/referrers/{image.digest}") as answer:
                assert answer.status == 200
                assert answer.headers["Content-Type"] == "application/vnd.oci.image.index.v1+json"
                listed = await answer.json(content_type=None)
            assert {one["digest"]: one["artifactType"] for one in listed["manifests"]} == {
                sbom.digest: "application/vnd.example.sbom",
                sign.digest: "application/vnd.example.signature",
            }
            wanted = {"artifactType": "application/vnd.example.sbom"}
            async with client.get(f"{root}/team/app/referrers/{image.digest}", params=wanted) as answer:
                assert answer.headers["OCI-Filters-Applied"] == "artifactType"
                found = (await answer.json(content_type=None))["manifests"]
            assert [(one["digest"], one["size"]) for one in found] == [(sbom.digest, len(sbom.body))]
            for path in (f"team/app/referrers/{sbom.digest}", f"nobody/referrers/{image.digest}"):
                async with client.get(f"{root}/{path}") as answer:
                    assert (answer.status, (await answer.json(content_type=None))["manifests"]) == (200, [])
            async with client.get(f"{root}/team/app/referrers/sha256:x") as answer:
                assert answer.status == 400
            async with client.get(f"{root}/_catalog") as answer:
                assert (await answer.json())["repositories"] == ["team/app"]
