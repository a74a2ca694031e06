"""Images in layouts and archives whose names are whole references, as skopeo, podman and docker write them."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from pathlib import Path

import pytest

from mirrord.testing import Image, Registry, build_image, require
from mirrord.wire.oci.layout import REF_NAME, Layout, split_name, tag_in
from tests.support.commands import Desk
from tests.support.layouts import write_docker_archive, write_layout


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
    digest = f"sha256:{'0' * 64}"
    (tmp_path / "job").mkdir()
    assert split_name(f"{tmp_path}/job@{digest}") == (f"{tmp_path}/job", digest)
    assert split_name(f"{tmp_path}/job:h/b@{digest}") == (f"{tmp_path}/job", f"h/b@{digest}")
    assert split_name(f"{tmp_path}/job@2/out:v1") == (f"{tmp_path}/job@2/out", "v1")


async def test_a_folder_that_is_to_be_made_beside_one_whose_name_it_begins_with(desk: Desk) -> None:
    """Jenkins builds in `job@2` beside `job`, and there are folders with colons: what is no tag belongs to the path."""
    write_layout(built("x"), desk.folder / "src", "v1")
    for folder in ("job", "job:2"):
        (desk.folder / folder).mkdir()
    for made, tag in (("job@2/out", ":v7"), ("job:2/out", ""), ("job@3", "")):
        said = await desk.run("copy", "oci:src", f"oci:{made}{tag}")
        assert said.status == 0, said.err
        entry = Layout(desk.folder / made).index()[0]
        assert entry.annotations[REF_NAME] == (tag[1:] or "v1")
    again = await desk.run("copy", "oci:job@2/out:v7", "oci:job:2/out:v8")
    assert again.status == 0, again.err
    assert Layout(desk.folder / "job:2/out").names() == ("v1", "v8")
    refused = await desk.run("copy", "oci:src", f"oci:job@sha256:{'0' * 64}")
    assert refused.status == 64
    assert "a target cannot have a digest" in refused.err


@pytest.mark.parametrize("wrong", ["x:host/name:v1", "x:host/name", "x:name:v1", "deep/x:host:5000/name:v1"])
async def test_what_follows_a_folder_is_a_tag(desk: Desk, wrong: str) -> None:
    """A name behind a target's folder is refused with what to write instead; no folder with a colon is made of it."""
    write_layout(built("x"), desk.folder / "src", "v1")
    said = await desk.run("copy", "oci:src", f"oci:{wrong}")
    place, _, rest = wrong.partition(":")
    assert said.status == 64
    assert f"{rest!r} is not a tag; write oci:{place}[:TAG]" in said.err
    assert not [file for file in desk.folder.rglob("*") if ":" in file.name]


async def test_an_image_that_was_pulled_by_digest_gets_no_tag_of_it(desk: Desk) -> None:
    """Containerd calls it `quay.io/a/b@sha256:…`: the digits are no tag; a tag before them is one."""
    image, digest = built("x"), f"sha256:{'c' * 64}"
    async with Registry() as target:
        for number, (name, tag) in enumerate(((f"h/app@{digest}", None), (f"h/app:v3@{digest}", "v3"))):
            write_layout(image, desk.folder / f"l{number}", name)
            for place in (f"oci:l{number}", f"oci:l{number}:{name}"):
                said = await desk.run("copy", place, f"{target.host}/x{number}")
                assert said.status == 0, said.err
            assert list(target.tags.get(f"x{number}", {})) == ([tag] if tag else [])


@pytest.mark.parametrize("packed", ["layout", "archive", "skopeo"])
async def test_an_image_without_a_name_is_latest(desk: Desk, packed: str) -> None:
    """What `skopeo copy … oci:DIR` writes has no name: it gets the tag `latest`, as skopeo gives it."""
    image = built("x")
    write_layout(image, desk.folder / "plain")
    if packed == "skopeo":
        await skopeo("copy", "--all", f"oci:{desk.folder / 'plain'}", f"oci:{desk.folder / 'made'}")
    elif packed == "archive":
        write_docker_archive(image, desk.folder / "arch.tar")
    place = {"layout": "oci:plain", "skopeo": "oci:made", "archive": "docker-archive:arch.tar"}[packed]
    async with Registry() as target:
        said = await desk.run("copy", place, f"{target.host}/a", f"{target.host}/b:v1", "oci:out")
        assert said.status == 0, said.err
        assert {name: list(tags) for name, tags in target.tags.items()} == {"a": ["latest"], "b": ["v1"]}
    assert Layout(desk.folder / "out").names() == ("latest",)


async def test_an_image_by_digest_alone_has_no_tag_and_that_is_said(desk: Desk) -> None:
    """Of `SRC@DIGEST` no tag is known: the image is stored without one, in words; a tag of DST is set."""
    image = built("x")
    write_layout(image, desk.folder / "plain")
    async with Registry() as target:
        said = await desk.run("copy", f"oci:plain@{image.digest}", f"{target.host}/a", f"{target.host}/b:v1")
        assert said.status == 0, said.err
        rows = {line.split()[0]: line for line in said.out.splitlines()}
        assert "no tag, digest only" in rows[f"{target.host}/a"]
        assert "no tag" not in rows[f"{target.host}/b:v1"]
        assert target.tags == {"b": {"v1": image.digest}}
        assert str(image.digest) in target.manifests["a"]


async def test_the_path_of_an_archive_is_no_reference(desk: Desk) -> None:
    """A file without `docker-archive:` or `oci:` before it is refused with both, wherever it is."""
    write_docker_archive(built("x"), desk.folder / "arch.tar", "a:v1")
    (desk.folder / "build").mkdir()
    (desk.folder / "build" / "arch.tar").write_bytes(b"")
    for word, file in (
        *(("arch.tar", "arch.tar"), ("./arch.tar", "./arch.tar"), ("build/arch.tar", "build/arch.tar")),
        *((str(desk.folder / "arch.tar"),) * 2, ("arch.tar:v1", "arch.tar")),
    ):
        said = await desk.run("copy", word, "oci:out")
        assert said.status == 64
        assert f"{file} is a file; write docker-archive:{word} or oci:{word}" in said.err
    said = await desk.run("copy", "oci:x", "arch.tar")
    assert said.status == 64
    assert "arch.tar is a file; write a reference or oci:DIR[:TAG]" in said.err
    said = await desk.run("copy", "none.tar", "oci:out")
    assert "is a registry without a repository" in said.err


def test_the_tag_in_a_name() -> None:
    """The part after the last colon, when it is a tag; a digest has none."""
    assert tag_in("v1") == tag_in("a/b:v1") == tag_in("h:5/b:v1") == "v1"
    assert tag_in("h:5/b") is None
    for name in ("", "a/b@", "h:5/b@"):
        assert tag_in(f"{name}sha256:{'0' * 64}") is None
    assert tag_in(f"h:5/b:v1@sha256:{'0' * 64}") == "v1"
    assert tag_in("") is None
