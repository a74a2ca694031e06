"""Images are real, deterministic, and whole in every form."""

import contextlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from mirrord.errors import UnreachableError
from mirrord.model.digest import Digest
from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from mirrord.testing.images import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, REF_NAME, REVISION
from mirrord.testing.running import run
from tests.support.artifacts import SCHEMA1, build_artifact, build_nested, build_schema1
from tests.support.auth import Auth
from tests.support.imagetools import podman, skopeo_copy
from tests.support.layouts import write_docker_archive, write_layout, write_layout_tar

SHAPES = {
    "index": build_image(),
    "one": build_image(["linux/amd64"]),
    "index of one": build_image(["linux/arm/v7"], index=True),
    "docker": build_image(docker=True),
    "sha512": build_image(algorithm="sha512"),
    "data": build_image(inline_config=True),
    "empty layer": build_image(empty_layer=True),
    "foreign": build_image(["windows/amd64"], docker=True, foreign=["https://evil.test/x"]),
    "no media type": build_image(media_type_inside=False),
    "nested": build_nested(build_image(), build_image(["linux/s390x"], seed="z")),
    "artifact": build_artifact(build_image()),
    "schema1": build_schema1(),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_digests_are_true(shape: str) -> None:
    """Every piece is what its digest says, and no reference but a foreign layer's leads nowhere."""
    image = SHAPES[shape]
    for digest, data in {**image.blobs, **{d: body for d, (_, body) in image.manifests.items()}}.items():
        assert Digest.of(data, Digest.parse(digest).algorithm) == digest
    content = Registry().content
    for digest, data in image.blobs.items():
        content.put_blob("a/b", data, digest)
    for digest, (kind, body) in image.manifests.items():
        assert content.lacking("a/b", json.loads(body)) == []
        content.put_manifest("a/b", kind, body, digest=digest)
    assert image.root["size"] == len(image.body)


def test_the_same_each_time() -> None:
    """The same arguments give the same bytes, another seed gives others."""
    assert build_image().digest == build_image().digest != build_image(seed="other").digest


def test_shapes() -> None:
    """Media types are those that were asked for."""
    kinds = [SHAPES[name].media_type for name in ("index", "one", "docker", "schema1", "index of one")]
    assert kinds == [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, SCHEMA1, OCI_INDEX]
    bare = SHAPES["no media type"]
    assert "mediaType" not in bare.document(bare.document()["manifests"][0]["digest"])
    annotated = build_image(annotations={"a": "1"}, index_annotations={"b": "2"})
    assert annotated.document()["annotations"] == {"b": "2"}
    assert annotated.document(annotated.document()["manifests"][0]["digest"])["annotations"] == {"a": "1"}


def test_shared_layers() -> None:
    """Shared layers are one blob for all platforms and all images of the same base."""
    one, two = build_image(layers=3, shared_layers=2), build_image(layers=3, shared_layers=2, seed="two")
    assert len(one.layers) == 2 + 2
    assert len(set(one.layers) & set(two.layers)) == 2


def test_layers_are_as_large_as_asked() -> None:
    """Layers hold the bytes that were asked for, and unpack."""
    image = build_image(["linux/amd64"], layers=1, layer_size=3_000_000)
    with tarfile.open(fileobj=io.BytesIO(image.blobs[image.layers[0]])) as archive:
        assert {member.name: member.size for member in archive}["layer-0.bin"] == 3_000_000


async def test_layout_to_registry(tmp_path: Path) -> None:
    """Real skopeo reads our layout, folder or not, and our registry then holds the very same bytes."""
    require("skopeo")
    image = build_image()
    layout = write_layout(image, tmp_path / "layout", "main", "abc123")
    entry = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    assert entry["annotations"][REVISION] == "abc123"
    archive = write_layout_tar(image, tmp_path / "layout.tar", "main")
    async with Registry() as registry:
        for number, source in enumerate((f"oci:{layout}:main", f"oci-archive:{archive}:main")):
            ran = await skopeo_copy(source, f"docker://{registry.host}/a/b:{number}")
            assert ran.status == 0, ran.output
        assert set(registry.tags["a/b"].values()) == {image.digest}
        assert registry.blobs == image.blobs
        assert registry.content.dangling() == []


def test_layouts_grow(tmp_path: Path) -> None:
    """A second image can be added to a layout."""
    write_layout(build_image(), tmp_path, "main")
    write_layout(build_image(seed="two"), tmp_path, "next", add=True)
    entries = json.loads((tmp_path / "index.json").read_bytes())["manifests"]
    assert [entry["annotations"][REF_NAME] for entry in entries] == ["main", "next"]


async def test_docker_archive(tmp_path: Path) -> None:
    """Real skopeo reads our `docker save` archive, with the layers of the platform that was asked for."""
    require("skopeo")
    image = build_image()
    archive = write_docker_archive(image, tmp_path / "image.tar", "team/app:main", platform="linux/arm64")
    ran = await run("skopeo", "inspect", f"docker-archive:{archive}")
    assert ran.status == 0, ran.output
    inspected = json.loads(ran.output)
    assert (inspected["Architecture"], len(inspected["Layers"])) == ("arm64", 2)


async def test_between_real_and_double() -> None:
    """Real skopeo copies from Debian's registry to the double and back, and nothing changes on the way."""
    require("skopeo", "docker-registry")
    image = build_image()
    async with DockerRegistry() as real, Registry() as double:
        await push(image, real.url, "team/app", ["main"])
        for source, target in (
            (f"{real.host}/team/app", f"{double.host}/x/y"),
            (f"{double.host}/x/y", f"{real.host}/z"),
        ):
            ran = await skopeo_copy(f"docker://{source}:main", f"docker://{target}:main")
            assert ran.status == 0, ran.output
        ran = await run("skopeo", "inspect", "--tls-verify=false", f"docker://{real.host}/z:main")
    assert json.loads(ran.output)["Digest"] == image.digest
    assert double.tags == {"x/y": {"main": image.digest}}
    assert double.blobs == image.blobs


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
async def test_skopeo_with_credentials(scheme: str) -> None:
    """A real client gets through both doors of the double, and without a password through none."""
    require("skopeo")
    image = build_image(["linux/amd64"])
    auth = Auth(basic=("ann", "pw")) if scheme == "basic" else Auth(bearer=("ann", "pw"))
    async with Registry() as source, Registry(auth=auth) as target:
        await push(image, source, "a/b", ["main"])
        places = f"docker://{source.host}/a/b:main", f"docker://{target.host}/a/b:main"
        assert (await skopeo_copy(*places)).status != 0
        assert target.tags == {}
        ran = await skopeo_copy(*places, "--dest-creds=ann:pw")
        assert ran.status == 0, ran.output
        assert target.tags["a/b"]["main"] == image.digest


async def test_podman_pull() -> None:
    """Real podman pulls from the double and unpacks the layers, where it can run at all."""
    require("podman")
    image = build_image(["linux/amd64"])
    async with contextlib.AsyncExitStack() as stack:
        try:
            call = await stack.enter_async_context(podman())
        except UnreachableError as error:
            pytest.skip(str(error))
        registry = await stack.enter_async_context(Registry())
        await push(image, registry, "a/b", ["main"])
        ran = await call("pull", "--tls-verify=false", f"{registry.host}/a/b:main")
        assert ran.status == 0, ran.output
        listed = await call("images", "--digests", "--format", "{{.Digest}}")
    assert image.digest in listed.output


@pytest.mark.parametrize("shape", [name for name in SHAPES if name not in ("schema1", "sha512")])
async def test_a_real_registry_takes_it(shape: str) -> None:
    """Debian's registry accepts every shape but those it is too old for."""
    require("docker-registry")
    async with DockerRegistry() as real:
        if shape == "artifact":
            await push(build_image(), real.url, "a/b")
        await push(SHAPES[shape], real.url, "a/b", ["main"])
