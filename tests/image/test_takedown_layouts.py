"""A takedown in OCI layouts that mirrord writes: no byte of it stays; whatever else is there, skopeo still copies."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from mirrord.commands import Takedown
from mirrord.errors import ContentError, MissingError
from mirrord.model.digest import Digest
from mirrord.model.run import Result
from mirrord.testing import Image, Registry, build_image, push, require
from mirrord.testing.images import REF_NAME
from mirrord.testing.running import run as program
from mirrord.wire.oci.layout_drop import drop
from mirrord.wire.oci.layout_writer import LayoutWriter
from mirrord.wire.oci.manifest import Manifest
from tests.support.artifacts import build_artifact, build_nested
from tests.support.layouts import write_layout
from tests.support.verifying import opened

GONE, STAYS = (build_image(["linux/amd64", "linux/arm64"], seed=seed, shared_layers=1) for seed in ("gone", "stays"))
THEIRS = build_nested(build_image(["linux/amd64"], seed="theirs", shared_layers=1))
SBOM, ABOUT = build_artifact(GONE, data=b"sbom"), build_artifact(STAYS, data=b"about what stays")
SIGNED = build_artifact(SBOM, artifact_type="application/vnd.example.signature", data=b"signature of the sbom")
CONFIGURATION = """\
settings: {{denied: {denied}}}
targets: {{backup: {{kind: image, to: "oci:{folder}"}}}}
mirrors:
- {{name: app, kind: image, from: {source}, to: [backup, local]}}
"""


def contents(folder: Path) -> set[str]:
    """Return the digests of all files of a layout but its own, whatever they are called."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name not in ("index.json", "oci-layout"))
    return {f"sha256:{sha256(file.read_bytes()).hexdigest()}" for file in files}


def parts(*images: Image) -> set[str]:
    return {str(digest) for image in images for digest in (*image.manifests, *image.blobs)}


async def copies(folder: Path, tag: str) -> bool:
    """Whether skopeo copies all of an image of a layout."""
    require("skopeo")
    place, copy = f"oci:{folder}:{tag}", f"dir:{folder.parent.parent}/out-{tag}"
    return (await program("skopeo", "copy", "-q", "--insecure-policy", "--all", place, copy)).status == 0


async def test_no_byte_of_it_stays(tmp_path: Path) -> None:
    """Its platforms, other tags of it and what is about it go; shared layers and images of others stay whole."""
    (tmp_path / "denied.yaml").touch()
    folder = tmp_path / "backup"
    async with Registry() as source:
        for image, tags in ((GONE, ["v1", "copy"]), (STAYS, ["v2"])):
            await push(image, source, "team/app", tags)
        for artifact in (SBOM, SIGNED, ABOUT):
            await push(artifact, source, "team/app", [])
        rule = f'{{repository: "{source.host}/team/app", tags: ["v*"]}}'
        text = CONFIGURATION.format(denied=tmp_path / "denied.yaml", folder=folder, source=rule)
        async with opened(tmp_path, text) as one:
            assert (await one.sync()).result is Result.SUCCESS
            write_layout(THEIRS, folder / "app", "theirs", add=True)
            write_layout(GONE, folder / "app", "again", add=True)
            assert contents(folder) == parts(GONE, STAYS, THEIRS, SBOM, SIGNED, ABOUT)
            done = await one.dispatcher.carry_out(Takedown(f"{source.host}/team/app:v1", "asked to"))
            assert (done.left, {gone.target for gone in done.removed}) == ((), {"backup", "local"})
            assert contents(folder) == parts(STAYS, THEIRS, ABOUT)
            assert all([await copies(folder / "app", tag) for tag in ("v2", "theirs")])
            assert not await copies(folder / "app", "again")
            assert (await one.sync()).result is Result.NOOP
            assert contents(folder) == parts(STAYS, THEIRS, ABOUT)


@pytest.mark.parametrize("many", [False, True])
async def test_the_source_of_a_build_is_named_and_stays(tmp_path: Path, *, many: bool) -> None:
    """What a mirror reads from a folder is of others: the answer says where it lies, until somebody removes it."""
    (tmp_path / "denied.yaml").touch()
    folder, builds = tmp_path / "backup", tmp_path / "builds"
    build = write_layout(GONE, builds / "one", "main", "0123456789")
    write_layout(STAYS, builds / "two", "main", "1123456789")
    rule = f"{{layouts: {builds}}}" if many else f"{{layout: {build}, names: [main-0123456, main]}}"
    text = CONFIGURATION.format(denied=tmp_path / "denied.yaml", folder=folder, source=rule)
    async with opened(tmp_path, text) as one:
        assert (await one.sync()).result is Result.SUCCESS
        for _ in range(2):
            done = await one.dispatcher.carry_out(Takedown(f"example.org/app@{GONE.digest}", "asked to"))
            assert [(left.mirror, left.target, left.what) for left in done.left] == [("app", "", str(build))]
            assert "remove it by hand" in done.left[0].why
            assert contents(build) == parts(GONE)
            assert contents(folder) == (parts(STAYS) if many else set())
        shutil.rmtree(build)
        assert not (await one.dispatcher.carry_out(Takedown(f"example.org/app@{GONE.digest}"))).left


async def test_what_another_image_needs_stays_and_is_said(tmp_path: Path) -> None:
    """An index of others has it: it stays there with that, and the answer says so."""
    (tmp_path / "denied.yaml").touch()
    folder = tmp_path / "backup"
    async with Registry() as source:
        await push(GONE, source, "team/app", ["v1"])
        rule = f'{{repository: "{source.host}/team/app:v1"}}'
        text = CONFIGURATION.format(denied=tmp_path / "denied.yaml", folder=folder, source=rule)
        async with opened(tmp_path, text) as one:
            assert (await one.sync()).result is Result.SUCCESS
            outer = build_nested(GONE, STAYS)
            write_layout(outer, folder / "app", "outer", add=True)
            command = Takedown(f"{source.host}/team/app:v1", "asked to")
            await one.dispatcher.carry_out(command)
            assert contents(folder) == parts(outer)
            done = await one.dispatcher.carry_out(command)
            assert [(left.target, left.why) for left in done.left] == [
                ("backup", f"{GONE.digest} stays: another image there needs it")
            ]
            index = folder / "app" / "index.json"
            document = json.loads(index.read_bytes())
            document["manifests"] = []
            index.write_text(json.dumps(document))
            assert not (await one.dispatcher.carry_out(command)).left
            assert contents(folder) == parts(outer) - parts(GONE)


async def test_a_damaged_layout_loses_nothing(tmp_path: Path) -> None:
    """Where another image cannot be read nobody knows what it needs: that is said, and no file goes."""
    folder = tmp_path / "layout"
    for image, tag in ((GONE, "v1"), (STAYS, "v2")):
        write_layout(image, folder, tag, add=True)
    writer = LayoutWriter(folder)
    await writer.remove(["v1"])
    damaged = folder / "blobs" / "sha256" / Digest(STAYS.digest).hex
    whole = damaged.read_bytes()
    damaged.write_bytes(b"{}")
    before = contents(folder)
    with pytest.raises(ContentError):
        drop(folder, [GONE.digest])
    assert contents(folder) == before
    damaged.write_bytes(whole)
    assert drop(folder, [GONE.digest, STAYS.digest]) == {STAYS.digest}
    assert contents(folder) == parts(STAYS)
    other = build_image(seed="other")
    assert not drop(folder, [other.digest])  # it never was there
    assert drop(tmp_path / "none", [other.digest]) == ()


async def test_an_image_without_a_name(tmp_path: Path) -> None:
    """Its entry goes with it; entries of others that have no name either stay."""
    folder = tmp_path / "layout"
    for image in (GONE, STAYS):
        write_layout(image, folder, add=True)
    drop(folder, [GONE.digest])
    entries = json.loads((folder / "index.json").read_bytes())["manifests"]
    assert [one["digest"] for one in entries] == [STAYS.digest]
    assert contents(folder) == parts(STAYS)


async def test_no_name_is_given_to_what_went_meanwhile(tmp_path: Path) -> None:
    """Another writer took down a layer between the manifest and its name: the name is not set."""
    folder = tmp_path / "layout"
    image = build_image(["linux/amd64"])
    write_layout(image, folder, "v1")
    writer = LayoutWriter(folder)
    manifest = Manifest.parse(image.body, "")
    await writer.publish(manifest, ["v2"])
    await LayoutWriter(folder).remove(["v1", "v2"])
    drop(folder, [image.digest])
    with pytest.raises(MissingError, match="was removed meanwhile"):
        await writer.publish(manifest, ["v3"])
    assert REF_NAME not in (folder / "index.json").read_text()
