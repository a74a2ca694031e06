"""Images in layouts and archives whose names are whole references, as skopeo, podman and docker write them."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from pathlib import Path

import pytest

from mirrord.testing import Image, Registry, build_image, require
from mirrord.testing.commands import Desk
from mirrord.testing.layouts import write_docker_archive, write_layout
from mirrord.wire.oci.layout import split_name, tag_in


def built(seed: str) -> Image:
    return build_image(["linux/amd64"], layers=1, seed=seed)


async def skopeo(*words: str | Path) -> None:
    require("skopeo")
    process = await asyncio.create_subprocess_exec("skopeo", *map(str, words), stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0


def two_in_one(folder: Path) -> Path:
    """Write what `docker save team/a:v1 reg.example/b:v1` writes for two images."""
    archives = [folder / "a.tar", folder / "b.tar"]
    write_docker_archive(built("a"), archives[0], "team/a:v1")
    write_docker_archive(built("b"), archives[1], "reg.example/b:v1")
    files: dict[str, bytes] = {}
    listed: list[object] = []
    for archive in archives:
        with tarfile.open(archive) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                files[member.name] = file.read()
        listed += json.loads(files["manifest.json"])
    files["manifest.json"] = json.dumps(listed).encode()
    with tarfile.open(folder / "both.tar", "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return folder / "both.tar"


@pytest.mark.parametrize("name", ["quay.io/a/b:v3", "rancher/local-path:v3", "b:v3", "localhost:5000/b:v3"])
async def test_a_target_gets_the_tag_of_the_name(desk: Desk, name: str) -> None:
    """A7: the one image of a layout is called by a whole reference: its tag part is the tag."""
    image = built("x")
    write_layout(image, desk.folder / "plain")
    await skopeo("copy", "--all", f"oci:{desk.folder / 'plain'}", f"oci:{desk.folder / 'build'}:{name}")
    async with Registry() as target:
        said = await desk.run("copy", "oci:build", f"{target.host}/a")
        assert said.status == 0, said.err
        assert target.tags == {"a": {"v3": image.digest}}


@pytest.mark.parametrize(
    "chosen", ["rancher/local-path:v0.0.20", "docker.io/rancher/local-path:v0.0.20", "v0.0.20", "@"]
)
async def test_an_image_is_chosen_as_skopeo_does(desk: Desk, chosen: str) -> None:
    """skopeo#1975: `oci:DIR:NAME` with slashes and colons in NAME, the tag in it alone, or `oci:DIR@DIGEST`."""
    wanted = built("x")
    write_layout(wanted, desk.folder / "plain")
    write_layout(built("y"), desk.folder / "other")
    many = desk.folder / "many"
    await skopeo("copy", "--all", f"oci:{desk.folder / 'plain'}", f"oci:{many}:rancher/local-path:v0.0.20")
    await skopeo("copy", "--all", f"oci:{desk.folder / 'other'}", f"oci:{many}:rancher/other:v1")
    word = f"oci:many@{wanted.digest}" if chosen == "@" else f"oci:many:{chosen}"
    async with Registry() as target:
        said = await desk.run("copy", word, f"{target.host}/a")
        assert said.status == 0, said.err
        assert target.tags == {"a": {"v0.0.20": wanted.digest}}


async def test_names_in_an_error_can_be_typed(desk: Desk) -> None:
    """A layout or an archive with several images lists names; each of them, typed as listed, chooses its image."""
    two_in_one(desk.folder)
    async with Registry() as target:
        refused = await desk.run("copy", "docker-archive:both.tar:v1", f"{target.host}/x")
        assert refused.status == 64
        for number, name in enumerate(("team/a:v1", "reg.example/b:v1")):
            assert name in refused.err
            said = await desk.run("copy", f"docker-archive:both.tar:{name}", f"{target.host}/x{number}")
            assert said.status == 0, said.err
        tags = target.tags
    assert list(tags["x0"]) == list(tags["x1"]) == ["v1"]
    assert tags["x0"] != tags["x1"]


async def test_a_build_is_published_by_its_whole_name(desk: Desk) -> None:
    """`publish --layout DIR:NAME` and `from: {layout: DIR, tag: NAME}` choose in the same way."""
    image = built("x")
    write_layout(image, desk.folder / "many", "quay.io/team/app:v3")
    write_layout(built("y"), desk.folder / "many", "quay.io/team/other:v3", add=True)
    async with Registry() as target:
        desk.configure(
            f"targets: {{t: {{kind: image, to: {target.host}/t}}}}\n"
            "mirrors:\n"
            f"- {{name: app, kind: image, to: t, from: {{layout: {desk.folder}/many, tag: 'quay.io/team/app:v3'}}}}\n"
        )
        said = await desk.run("sync", "app")
        assert said.status == 0, said.err
        assert target.tags == {"t/app": {"v3": image.digest}}
        said = await desk.run(
            "publish", "app", "--layout", "many:quay.io/team/app:v3", "--branch", "main", "--commit", "a" * 40
        )
        assert said.status == 0, said.err
        assert target.tags["t/app"]["main"] == image.digest


def test_the_longest_place_that_exists_is_meant(tmp_path: Path) -> None:
    """Folders with colons in their names stay usable; where nothing exists, the last colon after a slash splits."""
    (tmp_path / "a:b").mkdir()
    (tmp_path / "a").mkdir()
    there = str(tmp_path / "a:b")
    assert split_name(there) == (there, None)
    assert split_name(f"{there}:v1") == (there, "v1")
    assert split_name(f"{tmp_path}/a:x/y:v1") == (f"{tmp_path}/a", "x/y:v1")
    assert split_name("no/where:v1") == ("no/where", "v1")
    assert split_name("no:where/v1") == ("no:where/v1", None)
    assert split_name(f"{'n' * 5000}:v1") == ("n" * 5000, "v1")


def test_the_tag_in_a_name() -> None:
    """The part after the last colon, when it is a tag; a digest has none."""
    assert tag_in("v1") == tag_in("a/b:v1") == tag_in("h:5/b:v1") == "v1"
    assert tag_in("h:5/b") is None
    assert tag_in(f"sha256:{'0' * 64}") is None
    assert tag_in("") is None
