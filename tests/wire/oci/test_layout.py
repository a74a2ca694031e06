"""OCI layouts: read as folder and as tar, written so that skopeo reads them."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirrord import files
from mirrord.errors import (
    ContentError,
    DigestError,
    MirrordError,
    MissingError,
    StorageError,
    TooLargeError,
    UnsupportedError,
    UsageError,
)
from mirrord.model.digest import Digest
from mirrord.syncers.image.upstream.layout import LayoutSource
from mirrord.testing.images import OCI_INDEX, Image, build_image
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.layout import REF_NAME, REVISION, Layout
from mirrord.wire.oci.scratch import plain_tar
from tests.support.artifacts import build_artifact, build_nested
from tests.support.layouts import write_layout, write_layout_tar

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


def _tar_of(folder: Path, path: Path) -> Path:
    """Do `tar -C folder -cf path .`: every name begins with `./`, and folders are members, too."""
    with tarfile.open(path, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(folder, ".")
    return path


@pytest.mark.parametrize("form", ["folder", "tar", "tar.gz"])
@pytest.mark.parametrize("kind", IMAGES)
def test_reads_every_byte(kind: str, form: str, tmp_path: Path) -> None:
    """Folder, tar and compressed tar give the very bytes of every manifest and blob."""
    image = IMAGES[kind]()
    place = write_layout(image, tmp_path / "layout", "main", "abc")
    if form != "folder":
        place = _tar_of(place, tmp_path / "layout.tar")
    if form == "tar.gz":
        place.write_bytes(gzip.compress(place.read_bytes()))
    layout = Layout.open(place, tmp_path)
    root = layout.resolve("main")
    assert root.digest == image.digest
    assert _content(layout, root) == _all(image)


def test_reads_from_an_offset(tmp_path: Path) -> None:
    """A broken read goes on where it ended, in a tar as well: it says where in the file the blob begins."""
    image = build_image(("linux/amd64",), layers=1, layer_size=3_000_000)
    layout = Layout.open(write_layout_tar(image, tmp_path / "layout.tar"))
    blob = layout.manifest(layout.resolve()).blobs[-1]
    whole = image.blobs[blob.digest]
    found = layout.blob(blob.digest)
    with found.path.open("rb") as file:
        file.seek(found.offset + 1_500_001)
        assert file.read(found.size - 1_500_001) == whole[1_500_001:]


def test_names(tmp_path: Path) -> None:
    """A name picks its entry; without one there must be one image; errors list what is there."""
    folder = tmp_path / "layout"
    write_layout(build_image(seed="a"), folder, "main")
    write_layout(build_image(seed="b"), folder, "v1", add=True)
    layout = Layout.open(folder)
    assert layout.resolve("v1").digest == build_image(seed="b").digest
    assert layout.names() == ("main", "v1")
    with pytest.raises(UsageError, match="main, v1"):
        layout.resolve()
    with pytest.raises(MissingError, match=r"'v2'.*main, v1"):
        layout.resolve("v2")


def test_names_of_docker(tmp_path: Path) -> None:
    """Docker 25 saves `a:latest` and `b:latest` under one tag; the whole reference tells them apart."""
    folder = tmp_path / "layout"
    for name in "ab":
        write_layout(build_image(seed=name), folder, "latest", add=True)
    document = json.loads((folder / "index.json").read_bytes())
    for name, entry in zip("ab", document["manifests"], strict=True):
        entry["annotations"]["io.containerd.image.name"] = f"docker.io/library/{name}:latest"
    (folder / "index.json").write_text(json.dumps(document))
    layout = Layout.open(folder)
    assert layout.resolve("docker.io/library/b:latest").digest == build_image(seed="b").digest
    with pytest.raises(UsageError, match=r"'latest' is the name of more than one.*docker\.io/library/a:latest"):
        layout.resolve("latest")


def test_one_image_with_two_tags(tmp_path: Path) -> None:
    """Two tags of one manifest are two entries and still one image."""
    folder = tmp_path / "layout"
    write_layout(build_image(), folder, "main")
    write_layout(build_image(), folder, "main-abc", add=True)
    layout = Layout.open(folder)
    assert [entry.annotations[REF_NAME] for entry in layout.index()] == ["main", "main-abc"]
    assert layout.resolve().digest == build_image().digest


def test_build_annotations(tmp_path: Path) -> None:
    """Branch and commit come from the entry, else from the index or manifest itself."""
    image = build_image(index_annotations={REVISION: "from-index", "x": "y"})
    entry = Layout.open(write_layout(image, tmp_path / "a", "main", "from-entry"))
    inside = Layout.open(write_layout(image, tmp_path / "b", "main"))
    assert entry.annotations(entry.resolve()) == {REF_NAME: "main", REVISION: "from-entry", "x": "y"}
    assert inside.annotations(inside.resolve())[REVISION] == "from-index"


def test_annotations_of_every_platform(tmp_path: Path) -> None:
    """What buildx writes into each platform's manifest counts for the index, when all say the same."""
    a, b = (
        build_image((f"linux/{arch}",), index=True, annotations={REVISION: "abc", "arch": arch})
        for arch in ("amd64", "arm64")
    )
    entries = [*a.document()["manifests"], *b.document()["manifests"]]
    layout = Layout.open(write_layout(b, write_layout(a, tmp_path / "layout")))
    both = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    digest = Digest.of(both)
    (tmp_path / "layout" / "blobs" / "sha256" / digest.hex).write_bytes(both)
    assert layout.annotations(Descriptor(OCI_INDEX, digest, len(both))) == {REVISION: "abc"}


async def test_embedded_data(tmp_path: Path) -> None:
    """Content that is only embedded in its descriptor is found there."""
    image = build_image(("linux/amd64",), inline_config=True)
    folder = write_layout(image, tmp_path / "layout")
    layout = Layout.open(folder)
    config = layout.manifest(layout.resolve()).blobs[0]
    (folder / "blobs" / "sha256" / config.digest.hex).unlink()
    wanted = await LayoutSource(layout, layout.resolve()).blob_source(config)
    assert wanted.open is not None
    async with wanted.open(0) as (_, chunks):
        assert b"".join([chunk async for chunk in chunks]) == image.blobs[config.digest]


def _write(folder: Path, **files: bytes) -> Path:
    folder.mkdir()
    for name, body in files.items():
        (folder / name.replace("_json", ".json").replace("oci_layout", "oci-layout")).write_bytes(body)
    return folder


MARK = b'{"imageLayoutVersion":"1.0.0"}'


@pytest.mark.parametrize(
    ("files", "error", "says"),
    [
        ({}, ContentError, "has no file 'oci-layout'"),
        ({"manifest_json": b"[]"}, ContentError, "docker-archive:"),
        ({"oci_layout": MARK}, ContentError, "without index.json"),
        ({"oci_layout": b"{}", "index_json": b"{}"}, UnsupportedError, "1.x"),
        ({"oci_layout": b'{"imageLayoutVersion":"2.0.0"}', "index_json": b"{}"}, UnsupportedError, "'2.0.0'"),
        ({"oci_layout": MARK, "index_json": b"{}"}, ContentError, "index.json|what kind"),
        ({"oci_layout": MARK, "index_json": b'{"manifests":[],"manifests":[]}'}, ContentError, "twice"),
        ({"oci_layout": MARK, "index_json": b"<html>"}, ContentError, "not JSON"),
        ({"oci_layout": MARK, "index_json": b'{"config":{},"layers":[]}'}, ContentError, "descriptor|digest"),
        (
            {"oci_layout": MARK, "index_json": b'{"manifests":[{"digest":"sha256:../../x"}]}'},
            ContentError,
            "not a digest",
        ),
        ({"oci_layout": MARK, "index_json": b" " * (4 * 1024 * 1024 + 1)}, TooLargeError, "4194304"),
    ],
    ids=[
        "empty", "docker-save", "no-index", "no-version", "version-2", "38-empty-object", "38-duplicate-key",
        "html", "38-image", "22-path-as-digest", "37-too-long",
    ],
)  # fmt: skip
def test_refuses_what_is_no_layout(
    files: dict[str, bytes], error: type[MirrordError], says: str, tmp_path: Path
) -> None:
    """What is not a layout is refused with its place and what it is instead."""
    folder = _write(tmp_path / "x", **files)
    with pytest.raises(error, match=says) as caught:
        Layout.open(folder)
    assert str(folder) in str(caught.value)


def test_nothing_there(tmp_path: Path) -> None:
    """A path that does not exist is missing, not a wrong layout."""
    with pytest.raises(MissingError, match="no such file"):
        Layout.open(tmp_path / "gone")


def test_folder_of_layouts(tmp_path: Path) -> None:
    """Who names the folder above the layouts is told so."""
    write_layout(build_image(), tmp_path / "a")
    with pytest.raises(ContentError, match="name one of them"):
        Layout.open(tmp_path)


async def test_wrong_bytes(tmp_path: Path) -> None:
    """35, 36: a manifest with other bytes, and a blob of another size, are refused."""
    image = build_image(("linux/amd64",))
    folder = write_layout(image, tmp_path / "layout")
    layout = Layout.open(folder)
    root = layout.resolve()
    blob = layout.manifest(root).blobs[-1]
    path = folder / "blobs" / "sha256" / blob.digest.hex
    path.write_bytes(path.read_bytes() + b"x")
    source = LayoutSource(layout, root)
    with pytest.raises(ContentError, match=f"has {blob.size + 1} bytes, not {blob.size}"):
        await source.blob_source(blob)
    path.unlink()
    with pytest.raises(MissingError, match=str(blob.digest)):
        await source.blob_source(blob)
    path = folder / "blobs" / "sha256" / root.digest.hex
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    with pytest.raises(DigestError, match=str(folder)):
        layout.manifest(root)


def test_pipe_instead_of_a_blob(tmp_path: Path) -> None:
    """A pipe where a blob should be is refused at once and never waited for."""
    folder = write_layout(build_image(("linux/amd64",)), tmp_path / "layout")
    layout = Layout.open(folder)
    blob = layout.manifest(layout.resolve()).blobs[-1]
    path = folder / "blobs" / "sha256" / blob.digest.hex
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ContentError, match="not a regular file"):
        layout.blob(blob.digest)


def _member(name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info.tobuf(tarfile.PAX_FORMAT) + (data + bytes(-len(data) % 512) if info.size else b"")


def _lying(size: int) -> bytes:
    """A header whose size field says something else than what follows, with a right checksum."""
    info = tarfile.TarInfo("big")
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def _pax(size: int) -> bytes:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, size
    return info.tobuf(tarfile.GNU_FORMAT)


END = bytes(1024)


@pytest.mark.parametrize(
    ("hostile", "error", "says"),
    [
        (_member("/etc/passwd"), ContentError, "out of the archive"),
        (_member("blobs/../../x"), ContentError, "out of the archive"),
        (_member("a", kind=tarfile.SYMTYPE, target="oci-layout"), ContentError, "is a link"),
        (_member("a", kind=tarfile.LNKTYPE, target="oci-layout"), ContentError, "is a link"),
        (_member("a", kind=tarfile.CHRTYPE), ContentError, "a device"),
        (_member("a", kind=tarfile.FIFOTYPE), ContentError, "a device"),
        (_member("a", kind=tarfile.GNUTYPE_SPARSE), ContentError, "sparse|damaged"),
        (_member("./index.json"), ContentError, "'index.json' twice"),
        (_lying(10**12), ContentError, "cut off"),
        (_lying(-1), ContentError, "lies about its size|damaged"),
        (_pax(10**10), TooLargeError, "a header of"),
        (_pax(-512), MirrordError, "a header of|damaged"),
        (b"\1" * 512, ContentError, "damaged header"),
        (b"".join(_pax(0) for _ in range(3000)), ContentError, "damaged"),
    ],
    ids=[
        "absolute", "upwards", "symlink", "hardlink", "device", "pipe", "sparse", "duplicate", "truncated",
        "negative-size", "endless-header", "negative-header", "garbage-in-the-middle", "chained-headers",
    ],
)  # fmt: skip
def test_hostile_tars(hostile: bytes, error: type[MirrordError], says: str, tmp_path: Path) -> None:
    """21, 52: whatever could mean two things or point elsewhere is refused, and nothing is written."""
    good = write_layout_tar(build_image(("linux/amd64",)), tmp_path / "layout.tar").read_bytes()
    bad = tmp_path / "bad.tar"
    bad.write_bytes(good.rstrip(b"\0") + bytes(-len(good.rstrip(b"\0")) % 512) + hostile + END)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=says) as caught:
        Layout.open(bad, tmp_path)
    assert str(bad) in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("keep", [100, 700, 5000], ids=["in-header", "in-first-file", "in-a-blob"])
def test_truncated_tars(keep: int, tmp_path: Path) -> None:
    """A tar that ends too early is refused, wherever it ends."""
    path = write_layout_tar(build_image(), tmp_path / "layout.tar")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ContentError):
        Layout.open(path)


def test_not_a_tar(tmp_path: Path) -> None:
    """Empty files, text and tars in unknown compression are refused in clear words."""
    path = tmp_path / "x.tar"
    for body, says in (
        (b"", "not a tar"),
        (b"hello" * 300, "not a tar"),
        (b"\xfd7zXZ\x00" * 9, "compressed with xz; unpack"),
        (gzip.compress(b"hello" * 300), "not a tar"),
        (gzip.compress(bytes(1 << 20))[:-20], "damaged gzip"),
    ):
        path.write_bytes(body)
        with pytest.raises(ContentError, match=says):
            Layout.open(path, tmp_path)
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(UnsupportedError, match="gzip; unpack"):
        Layout.open(path)


def test_unpacked_once(tmp_path: Path) -> None:
    """A compressed tar is unpacked once while it stays the same; a newer one takes the older one's place."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    path = tmp_path / "layout.tar.gz"
    for seed in ("a", "b"):
        plain = write_layout_tar(build_image(seed=seed), tmp_path / "plain.tar")
        path.write_bytes(gzip.compress(plain.read_bytes()))
        first = Layout.open(path, scratch)
        [unpacked] = scratch.iterdir()
        marked = unpacked.stat().st_mtime_ns
        second = Layout.open(path, scratch)
        assert first.resolve().digest == second.resolve().digest == build_image(seed=seed).digest
        assert [file.stat().st_mtime_ns for file in scratch.iterdir()] == [marked]


def test_file_changed_while_reading(tmp_path: Path) -> None:
    """A tar that becomes shorter under our hands is a digest error, not silence."""
    image = build_image(("linux/amd64",), layers=1, layer_size=3_000_000)
    path = write_layout_tar(image, tmp_path / "layout.tar")
    layout = Layout.open(path)
    blob = layout.manifest(layout.resolve()).blobs[-1]
    pieces = layout.blob(blob.digest).pieces()
    next(pieces)
    os.truncate(path, layout.blob(blob.digest).offset + 1_100_000)
    with pytest.raises(DigestError, match="changed while it was read"):
        b"".join(pieces)


def test_stopped_while_unpacking(tmp_path: Path) -> None:
    """Whoever is asked to stop stops between two steps, and leaves nothing half unpacked."""
    path, scratch = tmp_path / "x.tar.gz", tmp_path / "scratch"
    scratch.mkdir()
    path.write_bytes(gzip.compress(bytes(8 << 20)))
    calls = []

    def alive() -> None:
        calls.append(len(list(scratch.iterdir())))
        if len(calls) == 3:
            raise InterruptedError

    with pytest.raises(StorageError):
        plain_tar(path, scratch, alive)
    assert calls == [1, 1, 1]
    assert list(scratch.iterdir()) == []


SAMPLE = build_image(("linux/amd64",), layers=1, layer_size=100)


@given(
    changes=st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), max_size=8),
    keep=st.integers(0, 20_000),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
def test_damaged_tars_never_surprise(changes: list[tuple[int, int]], keep: int, tmp_path: Path) -> None:
    """However a tar is damaged: its content is right, or there is an error of ours."""
    body = bytearray(write_layout_tar(SAMPLE, tmp_path / "x.tar", "v1").read_bytes())
    for place, value in changes:
        body[place % len(body)] = value
    (tmp_path / "x.tar").write_bytes(body[:keep] if keep < 12_000 else body)
    try:
        layout = Layout.open(tmp_path / "x.tar")
        content = _content(layout, layout.resolve("v1"))
    except MirrordError:
        return
    assert content.keys() == _all(SAMPLE).keys()


def test_an_index_that_is_replaced_meanwhile_is_one_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer may put a longer index in place at any moment: what is read is the old one, or the new one, whole."""
    folder = write_layout(build_image(), tmp_path / "out", "v1")
    old = (folder / "index.json").read_bytes()
    document = json.loads(old)
    document["manifests"] = document["manifests"] * 50

    def replaced(path: Path) -> int:
        handle = opened(path)
        if path.name == "index.json":
            (tmp_path / "fresh").write_text(json.dumps(document))
            (tmp_path / "fresh").rename(path)
        return handle

    opened = files.open_content
    monkeypatch.setattr(files, "open_content", replaced)
    assert len(Layout.open(folder).index()) == 1
    assert len(Layout.open(folder).index()) == 50
