"""OCI layouts as targets: durable, shared by several writers, and read by skopeo."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mirrord.errors import DigestError, MissingError, StorageError, UsageError
from mirrord.model.digest import Digest
from mirrord.testing.images import OCI_INDEX, Image, build_image
from mirrord.testing.servers import require
from mirrord.wire.oci.descriptor import OCI_MANIFEST, Descriptor
from mirrord.wire.oci.layout import Layout
from mirrord.wire.oci.layout_writer import LayoutWriter
from mirrord.wire.oci.manifest import Manifest
from tests.support.artifacts import build_artifact, build_nested
from tests.support.layouts import write_layout

IMAGES: dict[str, Callable[[], Image]] = {
    "index": build_image,
    "single": lambda: build_image(("linux/amd64",)),
    "docker": lambda: build_image(docker=True),
    "nested": lambda: build_nested(build_image(seed="a"), build_image(seed="b")),
    "sha512": lambda: build_image(algorithm="sha512"),
    "empty blob": lambda: build_image(("linux/amd64",), empty_layer=True),
    "artifact": build_artifact,
    "no media type": lambda: build_image(("linux/amd64",), media_type_inside=False),
}


def _content(layout: Layout, root: Descriptor) -> dict[str, bytes]:
    """Read all that hangs below `root`, manifests and blobs, by digest."""
    manifest = layout.manifest(root)
    found = {str(manifest.digest): manifest.body}
    for child in manifest.children:
        found |= _content(layout, child)
    for blob in manifest.blobs:
        found[str(blob.digest)] = layout.blob(blob.digest).load(blob.size)
    return found


def _all(image: Image) -> dict[str, bytes]:
    return {**image.blobs, **{digest: body for digest, (_, body) in image.manifests.items()}}


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def _opened(data: bytes, step: int = 1000) -> Callable[[], AsyncIterator[bytes]]:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), step):
            yield data[start : start + step]

    return pieces


async def _copy(image: Image, writer: LayoutWriter, tag: str | None) -> Manifest:
    for digest, data in image.blobs.items():
        await writer.put_blob(Descriptor(image.media_types[digest], Digest(digest), len(data)), _opened(data))
    manifests = [Manifest.parse(body, kind, Digest(digest)) for digest, (kind, body) in image.manifests.items()]
    for manifest in manifests[:-1]:
        await writer.put_manifest(manifest)
    await writer.put_manifest(manifests[-1])
    await writer.publish(manifests[-1], [tag] if tag else [])
    return manifests[-1]


@pytest.mark.parametrize("kind", IMAGES)
async def test_written_is_read(kind: str, tmp_path: Path) -> None:
    """What was written is read back byte for byte, under its tag, with nothing else in the folder."""
    image = IMAGES[kind]()
    await _copy(image, LayoutWriter(tmp_path / "out"), "v1")
    layout = Layout.open(tmp_path / "out")
    assert _content(layout, layout.resolve("v1")) == _all(image)
    assert len(_files(tmp_path / "out")) == len(_all(image)) + 2


async def test_skopeo_reads_it(tmp_path: Path) -> None:
    """Skopeo, as an outside judge, copies every platform out of a written layout with the same digest."""
    require("skopeo")
    image = build_image()
    await _copy(image, LayoutWriter(tmp_path / "out"), "v1")
    command = ["skopeo", "copy", "-q", "--insecure-policy", "--all", f"oci:{tmp_path}/out:v1", f"dir:{tmp_path}/dir"]
    _run(*command)
    assert Digest.of((tmp_path / "dir" / "manifest.json").read_bytes()) == image.digest


async def test_skopeo_wrote_it(tmp_path: Path) -> None:
    """A layout that skopeo wrote, with several images, is read and added to."""
    require("skopeo")
    source = write_layout(build_image(), tmp_path / "in", "x")
    for tag in ("v1", "v2"):
        command = ["skopeo", "copy", "-q", "--insecure-policy", "--all", f"oci:{source}:x", f"oci:{tmp_path}/out:{tag}"]
        _run(*command)
    other = build_image(seed="other")
    await _copy(other, LayoutWriter(tmp_path / "out"), "v2")
    layout = Layout.open(tmp_path / "out")
    assert layout.names() == ("v1", "v2")
    assert layout.resolve("v1").digest == build_image().digest
    assert layout.resolve("v2").digest == other.digest


async def test_tags_are_replaced_and_others_kept(tmp_path: Path) -> None:
    """A tag has one entry, the newest; entries and keys of others stay as they were; nothing to do changes nothing."""
    folder = tmp_path / "out"
    writer = LayoutWriter(folder)
    first = await _copy(build_image(seed="a"), writer, "main")
    await _copy(build_image(seed="b"), writer, "other")
    document = json.loads((folder / "index.json").read_bytes())
    document["annotations"] = {"kept": "yes"}
    document["manifests"][1]["platform"] = {"os": "linux", "architecture": "amd64"}
    (folder / "index.json").write_text(json.dumps(document))
    third = await _copy(build_image(seed="c"), writer, "main")
    document = json.loads((folder / "index.json").read_bytes())
    assert document["annotations"] == {"kept": "yes"}
    assert [(one["digest"] == third.digest, "platform" in one) for one in document["manifests"]] == [
        (True, False),
        (False, True),
    ]
    before = (folder / "index.json").stat()
    await writer.publish(third, ["main"])
    assert (folder / "index.json").stat().st_ino == before.st_ino
    assert (await writer.get_manifest(first.digest)).body == first.body
    assert await writer.head_manifest(first.digest) is None  # it is not listed


async def test_without_a_tag(tmp_path: Path) -> None:
    """`oci:DIR` without a tag is the one entry without a name; the next such copy replaces it."""
    writer = LayoutWriter(tmp_path / "out")
    await _copy(build_image(seed="a"), writer, None)
    second = await _copy(build_image(seed="b"), writer, None)
    assert [entry.digest for entry in Layout.open(tmp_path / "out").index()] == [second.digest]


async def test_asking_writes_nothing(tmp_path: Path) -> None:
    """Heads tell what is there, and make no folder."""
    writer = LayoutWriter(tmp_path / "out")
    image = build_image()
    assert await writer.head_manifest("v1") is None
    assert not await writer.has_blob(Descriptor("x/y", image.digest, len(image.body)))
    assert not (tmp_path / "out").exists()
    root = await _copy(image, writer, "v1")
    found = await writer.head_manifest("v1")
    assert found is not None
    assert (found.digest, found.media_type, found.size) == (root.digest, OCI_INDEX, len(root.body))
    assert await writer.head_manifest("v2") is None
    assert await writer.head_manifest(root.digest) == found
    assert await writer.head_manifest(Digest.of(b"")) is None


async def test_children_before_parents(tmp_path: Path) -> None:
    """A manifest whose content is not there is refused, so no tag ever points to something missing."""
    writer = LayoutWriter(tmp_path / "out")
    image = build_image(("linux/amd64",))
    with pytest.raises(MissingError, match="refers to"):
        await writer.put_manifest(Manifest.parse(image.body, OCI_MANIFEST))
    assert Layout.open(tmp_path / "out").index() == ()


@pytest.mark.parametrize(
    ("sent", "says"),
    [(b"abcd", "more than the 3 bytes"), (b"ab", "have another digest"), (b"abd", "have another digest")],
    ids=["36-longer", "36-shorter", "36-other"],
)
async def test_wrong_blobs_leave_nothing(sent: bytes, says: str, tmp_path: Path) -> None:
    """Bytes that are not the descriptor's are refused and leave no file."""
    writer = LayoutWriter(tmp_path / "out")
    with pytest.raises(DigestError, match=says):
        await writer.put_blob(Descriptor("x/y", Digest.of(b"abc"), 3), _opened(sent, 2))
    assert not _files(tmp_path / "out" / "blobs")


async def test_cancelled_blob_leaves_nothing(tmp_path: Path) -> None:
    """Cancelling in the middle of a blob leaves no file."""
    reached = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        reached.set()
        await asyncio.Event().wait()

    writer = LayoutWriter(tmp_path / "out")
    task = asyncio.create_task(writer.put_blob(Descriptor("x/y", Digest.of(b"abc"), 3), pieces))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not _files(tmp_path / "out" / "blobs")


async def test_crashed_parts_are_swept_and_live_ones_spared(tmp_path: Path) -> None:
    """A new writer removes what a crash left, and nothing that another writer is at."""
    data = b"abc"
    want = Descriptor("x/y", Digest.of(data), 3)
    reached, go = asyncio.Event(), asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield data[:2]
        reached.set()
        await go.wait()
        yield data[2:]

    task = asyncio.create_task(LayoutWriter(tmp_path / "out").put_blob(want, pieces))
    await reached.wait()
    stray = tmp_path / "out" / "blobs" / "sha256" / ".0123.part"
    stray.write_bytes(b"left over")
    await LayoutWriter(tmp_path / "out").put_blob(want, _opened(data))
    assert not stray.exists()
    go.set()
    await task
    assert _files(stray.parent) == [want.digest.hex]


async def test_many_writers_lose_no_tag(tmp_path: Path) -> None:
    """Tags that several writers set at once are all there."""
    image = build_image(("linux/amd64",))
    await _copy(image, LayoutWriter(tmp_path / "out"), "v0")
    root = Manifest.parse(image.body, image.media_type)
    async with asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(LayoutWriter(tmp_path / "out").publish(root, [f"v{number}"]))
    assert set(Layout.open(tmp_path / "out").names()) == {f"v{number}" for number in range(12)}


async def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    """A folder with something else in it is refused before anything is written."""
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(UsageError, match="something else"):
        await LayoutWriter(tmp_path).put_blob(Descriptor("x/y", Digest.of(b""), 0), _opened(b""))
    assert _files(tmp_path) == ["precious.txt"]
    with pytest.raises(StorageError, match=r"precious\.txt"):
        await LayoutWriter(tmp_path / "precious.txt").put_blob(Descriptor("x/y", Digest.of(b""), 0), _opened(b""))


async def test_entries_without_a_name(tmp_path: Path) -> None:
    """One is the image, which the next one replaces, of whatever type; each that is about another manifest stays."""
    image = build_image(("linux/amd64",))
    subject = {key: image.root[key] for key in ("mediaType", "digest", "size")}
    index = json.dumps({"schemaVersion": 2, "manifests": [], "subject": subject}).encode()
    sbom, *others = build_artifact(image), *(build_artifact(data=data) for data in (b"1", b"2"))
    about = [Manifest.parse(index, OCI_INDEX), Manifest.parse(sbom.body, OCI_MANIFEST)]
    first, second = (Manifest.parse(one.body, OCI_MANIFEST) for one in others)
    for built in (sbom, *others):
        write_layout(built, tmp_path / "layout", "written")
    writer = LayoutWriter(tmp_path / "layout")
    await writer.remove(["written"])
    await writer.put_manifest(about[0])
    for one in (first, *about, second, *about, second):
        await writer.publish(one, [])
    entries = json.loads((tmp_path / "layout" / "index.json").read_bytes())["manifests"]
    assert [entry["digest"] for entry in entries] == [second.digest, *(one.digest for one in about)]
