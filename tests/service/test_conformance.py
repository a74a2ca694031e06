"""The conformance program of the distribution specification, run against what the daemon serves at `/v2/`."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp
import pytest

from mirrord.commands import Sync
from mirrord.model.run import Result
from mirrord.serve.remote import ControlClient
from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from tests.support.artifacts import build_artifact
from tests.support.commands import Desk

KEEP = {f"OCI_API_{what}_DELETE": "false" for what in ("BLOBS", "MANIFESTS", "TAGS")}
REPOSITORY = "team/suite"


async def conformance(folder: Path, host: str, **settings: str) -> tuple[int, Sequence[str]]:
    """Run the program against the registry at `host`; returns how many cases passed, and what each failed one said."""
    folder.mkdir()
    environ = {
        "OCI_REGISTRY": host,
        "OCI_TLS": "disabled",
        "OCI_REPO1": REPOSITORY,
        "OCI_REPO2": f"{REPOSITORY}-2",
        "OCI_VERSION": "1.1",
        "OCI_RESULTS_DIR": str(folder),
        "HOME": str(folder),
        **KEEP,
        **settings,
    }
    program = shutil.which("oci-conformance")
    assert program
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(program, cwd=folder, env=environ, stdout=log, stderr=log)
        await process.wait()
    # The report it prints; the files that it writes after that are missing in its read-only mode, where it crashes.
    lines = [line.strip() for line in (folder / "log").read_text().splitlines()]
    cases = [line for line in lines if line.startswith("OCI Conformance Test")]
    failed = [line for line in lines if "failed test" in line or line.endswith(": FAIL")]
    return sum(line.endswith(": Pass") for line in cases), failed


async def contents(host: str) -> Mapping[str, str]:
    """List all that a registry has in the repository, as the program wants to be told of it."""
    root = f"http://{host}/v2/{REPOSITORY}"
    accept = {"Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"}
    manifests: dict[str, None] = {}
    blobs: dict[str, None] = {}
    subjects: dict[str, None] = {}
    async with aiohttp.ClientSession() as client:
        async with client.get(f"{root}/tags/list") as answer:
            tags = (await answer.json())["tags"]
        left = list(tags)
        while left:
            async with client.get(f"{root}/manifests/{left.pop()}", headers=accept) as answer:
                digest, document = answer.headers["Docker-Content-Digest"], json.loads(await answer.read())
            manifests[digest] = None
            left += [one["digest"] for one in document.get("manifests", ()) if one["digest"] not in manifests]
            parts = [document[key] for key in ("config",) if key in document] + document.get("layers", [])
            blobs |= {one["digest"]: None for one in parts if "nondistributable" not in one["mediaType"]}
            if "subject" in document:
                subjects[document["subject"]["digest"]] = None
    found = {"TAGS": tags, "MANIFESTS": manifests, "BLOBS": blobs, "REFERRERS": subjects}
    return {f"OCI_RO_DATA_{key}": " ".join(value) for key, value in found.items()}


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
