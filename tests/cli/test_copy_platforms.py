"""`mirrord copy --platform`: only some platforms of an image, to registries and layouts."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from mirrord.testing.running import run
from tests.support.commands import Desk, Said

Typed = Callable[..., Said]
THREE = ("linux/amd64", "linux/arm64", "windows/amd64")


async def test_to_a_registry_and_a_layout(desk: Desk) -> None:
    """Both get the same index of two platforms, skopeo reads it at both, and the output says what was changed."""
    require("docker-registry", "skopeo")
    image = build_image(THREE)
    async with Registry() as source, DockerRegistry() as one:
        await push(image, source, "a/b", ["v1"])
        wanted = ("--platform", "linux/arm64", "--platform", "linux/amd64")
        said = await desk.run("copy", *wanted, f"{source.host}/a/b:v1", f"{one.host}/a/b", "oci:out")
        assert said.status == 0, said.err
        change = "index changed: 2 of 3 platforms; any signature or attestation of the source's index does not fit it"
        assert f"remark: {source.host}/a/b:v1: {change}" in said.out
        assert source.count("GET", f"/manifests/{image.digest}") == 1
        read = [
            (await run("skopeo", "inspect", "--raw", "--tls-verify=false", place)).output
            for place in (f"docker://{one.host}/a/b:v1", f"oci:{desk.folder}/out:v1")
        ]
        assert read[0] == read[1]
        index = json.loads(read[0])
        assert index["manifests"] == image.document()["manifests"][:2]
        again = await desk.run("copy", "--json", *wanted[:2], f"{source.host}/a/b:v1", f"{one.host}/a/b:arm")
        assert "1 of 3 platforms" in again.document["receipts"][0]["detail"]
        # What was cut down before is copied as it is.
        same = await desk.run("copy", *wanted, "oci:out:v1", f"{one.host}/a/b:same")
        assert (same.status, "index changed" in same.out) == (0, False)
        shown = await run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{one.host}/a/b:same")
        assert shown.output == read[0]


async def test_none_of_them(desk: Desk) -> None:
    """Without any of the platforms nothing is copied, and the error names those that the image has."""
    async with Registry() as source, Registry() as one:
        await push(build_image(THREE), source, "a/b", ["v1"])
        said = await desk.run("copy", "--platform", "linux/s390x", f"{source.host}/a/b:v1", f"{one.host}/a/b")
        assert said.status == 1
        why = (
            "has none of the platforms linux/s390x; it has linux/amd64, linux/arm64, windows/amd64; correct --platform"
        )
        assert f"{source.host}/a/b:v1: {why}" in said.err
        assert one.tags == {}


@pytest.mark.parametrize(("text", "better"), [("amd64", "such as linux/amd64"), ("linux/x86_64", "write linux/amd64")])
def test_what_is_no_platform(typed: Typed, text: str, better: str) -> None:
    """A mistake is told before any request."""
    said = typed("copy", "--platform", text, "a.example/b", "b.example/b")
    assert said.status == 64
    assert better in said.err
