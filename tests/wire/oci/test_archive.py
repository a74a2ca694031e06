"""`docker save` archives: one image has one digest, damaged and hostile archives go nowhere."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from mirrord.errors import ContentError, DigestError, MirrordError, MissingError, UnsupportedError, UsageError
from mirrord.model.digest import Digest
from mirrord.testing.images import build_image
from mirrord.testing.servers import require
from mirrord.wire.oci.archive import open_archive
from mirrord.wire.oci.layout import REF_NAME
from tests.support.layouts import write_docker_archive, write_layout, write_layout_tar

IMAGE = build_image(("linux/amd64",))
COPY = ("skopeo", "copy", "-q", "--insecure-policy")
INSPECT = ("skopeo", "inspect", "--config", "--raw")
PLAIN = "application/vnd.oci.image.layer.v1.tar"


def _run(*command: str) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout


def _in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Return an empty scratch folder."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def _layer(text: str, size: int = 600) -> bytes:
    """Return a small layer, a plain tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(text)
        info.size = size
        tar.addfile(info, io.BytesIO(random.Random(text).randbytes(size)))
    return buffer.getvalue()


def _config(*layers: bytes) -> bytes:
    diff_ids = [str(Digest.of(layer)) for layer in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    return json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()


def _tar(path: Path, members: Mapping[str, bytes | str | tarfile.TarInfo]) -> Path:
    """Write a tar; text is the target of a symbolic link."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            data = content if isinstance(content, bytes) else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _list(*entries: tuple[list[str] | None, str, list[str]]) -> bytes:
    keys = ("RepoTags", "Config", "Layers")
    return json.dumps([dict(zip(keys, entry, strict=True)) for entry in entries]).encode()


async def test_converted_to_one_digest(tmp_path: Path, scratch: Path) -> None:
    """The same content has the same digest, whatever the order, times and owners of the members; and it is this one."""
    lower, upper = _layer("a"), _layer("b")
    config = _config(lower, upper)
    members: dict[str, bytes] = {
        "0/layer.tar": lower,
        "1/layer.tar": upper,
        f"{Digest.of(config).hex}.json": config,
        "manifest.json": _list((["a/b:v1"], f"{Digest.of(config).hex}.json", ["0/layer.tar", "1/layer.tar"])),
    }
    _, first = await open_archive(_tar(tmp_path / "a.tar", members), scratch)
    other = tmp_path / "b.tar"
    with tarfile.open(other, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in reversed(members.items()):
            info = tarfile.TarInfo(f"./{name}")
            info.size, info.mtime, info.uid, info.pax_headers = len(data), 1234567890, 1000, {"comment": "x"}
            tar.addfile(info, io.BytesIO(data))
    _, second = await open_archive(other, scratch)
    assert first.digest == second.digest
    # Pinned: a change here means that published images would change their digests.
    assert first.digest == "sha256:b303a14e8e320c819a3ede953f2b7b1c68a73710460b90760887ae33ddccb715"
    assert first.annotations == {REF_NAME: "v1"}


async def test_layers_keep_their_bytes(tmp_path: Path, scratch: Path) -> None:
    """Plain and gzip-compressed layers are taken as they are, each once, in the order of the archive."""
    plain, packed = _layer("plain"), gzip.compress(_layer("packed"), mtime=7) + gzip.compress(b"")
    config = _config(plain, _layer("packed"), plain)
    path = _tar(
        tmp_path / "a.tar",
        {"c": config, "p": plain, "g": packed, "manifest.json": _list((None, "c", ["p", "g", "p"]))},
    )
    layout, archive = await open_archive(path, scratch)
    manifest = layout.manifest(archive)
    document = json.loads(manifest.body)
    assert [(one["mediaType"], one["digest"]) for one in document["layers"]] == [
        (PLAIN, Digest.of(plain)),
        (f"{PLAIN}+gzip", Digest.of(packed)),
        (PLAIN, Digest.of(plain)),
    ]
    assert document["config"]["digest"] == Digest.of(config)
    assert [layout.blob(blob.digest).load(10**6) for blob in manifest.blobs] == [config, plain, packed]
    assert archive.annotations == {}


async def test_converted_once(tmp_path: Path, scratch: Path) -> None:
    """The converted folder serves until the archive changes; the new one takes its place; nothing else stays."""
    path = tmp_path / "a.tar"
    for seed in ("a", "b"):
        write_docker_archive(build_image(("linux/amd64",), seed=seed), path, "a/b:v1")
        _, first = await open_archive(path, scratch)
        [folder] = _in(scratch)
        made = (folder / "index.json").stat().st_ino
        layout, second = await open_archive(path, scratch)
        assert (second, layout.place) == (first, folder)
        assert ((folder / "index.json").stat().st_ino, len(_in(scratch))) == (made, 1)


async def test_compressed_archive(tmp_path: Path, scratch: Path) -> None:
    """`docker save | gzip` gives the digest of the plain archive."""
    path = write_docker_archive(IMAGE, tmp_path / "a.tar", "a/b:v1")
    _, plain = await open_archive(path, scratch)
    path.write_bytes(gzip.compress(path.read_bytes()))
    _, packed = await open_archive(path, scratch)
    assert packed == plain


async def test_archive_that_is_a_layout(tmp_path: Path, scratch: Path) -> None:
    """What Docker 25 saves is read where it lies, with its own manifest."""
    path = write_layout_tar(IMAGE, tmp_path / "a.tar", "v1")
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("manifest.json")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"[]"))
    layout, archive = await open_archive(path, scratch, "v1")
    assert (archive.digest, layout.place) == (IMAGE.digest, path)
    assert _in(scratch) == []


async def test_symbolic_links_inside(tmp_path: Path, scratch: Path) -> None:
    """Old Docker links layers that two images share; the link is followed inside the archive."""
    layer = _layer("a")
    config = _config(layer)
    listed = _list((["a:1"], "c.json", ["1/layer.tar"]))
    members: dict[str, bytes | str] = {"0/layer.tar": layer, "1/layer.tar": "../0/layer.tar"}
    members |= {"c.json": config, "manifest.json": listed}
    path = _tar(tmp_path / "a.tar", members)
    layout, archive = await open_archive(path, scratch)
    assert layout.manifest(archive).blobs[1].digest == Digest.of(layer)


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Return an archive of three images, one of them with two tags and one with none."""
    configs = {name: _config(_layer(name)) for name in "abc"}
    members: dict[str, bytes] = {f"{name}.json": config for name, config in configs.items()}
    members |= {f"{name}.tar": _layer(name) for name in "abc"}
    members["manifest.json"] = _list(
        (["example.com/x:main", "example.com/x:v1"], "a.json", ["a.tar"]),
        (["nginx:main"], "b.json", ["b.tar"]),
        (None, "c.json", ["c.tar"]),
    )
    return _tar(tmp_path / "several.tar", members)


@pytest.mark.parametrize(
    ("name", "letter", "tag"),
    [
        ("v1", "a", "v1"),
        ("example.com/x:main", "a", "main"),
        ("nginx:main", "b", "main"),
        ("docker.io/library/nginx:main", "b", "main"),
    ],
)
async def test_picks_by_name(name: str, letter: str, tag: str, several: Path, scratch: Path) -> None:
    """A tag, a name as in RepoTags or any other way to write it picks the image."""
    layout, archive = await open_archive(several, scratch, name)
    config = layout.manifest(archive).blobs[0].digest
    assert (config, archive.annotations[REF_NAME]) == (Digest.of(_config(_layer(letter))), tag)


@pytest.mark.parametrize(("name", "error"), [(None, UsageError), ("main", UsageError), ("v2", MissingError)])
async def test_unclear_names(name: str | None, error: type[MirrordError], several: Path, scratch: Path) -> None:
    """When no image or several could be meant, the names that there are come with the error."""
    with pytest.raises(error, match=r"example\.com/x:main, example\.com/x:v1, nginx:main"):
        await open_archive(several, scratch, name)


GOOD = _layer("good")
CONFIG = _config(GOOD)
HARD, DEVICE = tarfile.TarInfo("l"), tarfile.TarInfo("l")
HARD.type, HARD.linkname = tarfile.LNKTYPE, "c"
DEVICE.type = tarfile.BLKTYPE


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"l": _layer("bad")}, DigestError, "layer l is not sha256"),
        ({"l": gzip.compress(_layer("bad"))}, DigestError, "layer l is not sha256"),
        ({"l": gzip.compress(GOOD)[:-9]}, ContentError, "damaged gzip"),
        ({"l": b"\x28\xb5\x2f\xfd" + GOOD}, UnsupportedError, "compressed with zstd"),
        ({"l": None}, MissingError, "'l'"),
        ({"c": None}, MissingError, "'c'"),
        ({"c": b"{"}, ContentError, "c: not JSON"),
        ({"c": b"{}"}, ContentError, "0 diff_ids for 1 layers"),
        ({"c": b'{"rootfs":{"diff_ids":["sha256:../x"]}}'}, ContentError, "not a digest"),
        ({"c": b" " * (4 << 20) + CONFIG}, ContentError, "more than the limit"),
        ({"manifest.json": None}, UnsupportedError, "not a `docker save` archive"),
        ({"manifest.json": None, "repositories": b"{}"}, UnsupportedError, r"before 1\.10"),
        ({"manifest.json": b"{}"}, ContentError, "not a list"),
        ({"manifest.json": b'[],"x":[]'}, ContentError, "not a list of images"),
        ({"manifest.json": b"[]"}, MissingError, "holds no image"),
        ({"manifest.json": b"[3]"}, ContentError, "not an object"),
        ({"manifest.json": b'[{"Layers":["l"]}]'}, ContentError, "without Config"),
        ({"manifest.json": _list((None, "c", ["../../etc/passwd"]))}, ContentError, "out of the archive"),
        ({"manifest.json": _list((None, "/c", ["l"]))}, ContentError, "out of the archive"),
        ({"l": "/etc/passwd"}, ContentError, "out of the archive"),
        ({"l": "../../etc/passwd"}, ContentError, "out of the archive"),
        ({"l": "l"}, MissingError, "'l'"),
        ({"l": HARD}, ContentError, "is a link"),
        ({"l": DEVICE}, ContentError, "a device"),
        ({"../up": b"x"}, ContentError, "out of the archive"),
        ({"/abs": b"x"}, ContentError, "out of the archive"),
        ({"./l": GOOD}, ContentError, "'l' twice"),
    ],
    ids=[
        "36-other-layer", "36-other-gzip", "truncated-gzip", "zstd-layer", "no-layer", "no-config", "config-json",
        "no-diff-ids", "22-diff-id", "37-config", "no-list", "docker-1.9", "list-object", "list-injection",
        "list-empty", "list-number", "list-no-config", "21-layer-upwards", "21-config-absolute", "52-link-absolute",
        "52-link-upwards", "52-link-to-itself", "52-hardlink", "52-device", "52-upwards", "52-absolute", "52-duplicate",
    ],
)  # fmt: skip
async def test_bad_archives(
    changes: dict[str, bytes | None], error: type[MirrordError], says: str, tmp_path: Path, scratch: Path
) -> None:
    """A damaged or hostile archive is refused by name, and nothing of it stays."""
    members = {"c": CONFIG, "l": GOOD, "manifest.json": _list((None, "c", ["l"]))} | changes
    path = _tar(tmp_path / "bad.tar", {name: data for name, data in members.items() if data is not None})
    with pytest.raises(error, match=says) as caught:
        await open_archive(path, scratch)
    assert str(path) in str(caught.value)
    assert _in(scratch) == []
    assert _in(tmp_path) == [path, scratch]


async def test_config_name_is_its_digest(tmp_path: Path, scratch: Path) -> None:
    """A config whose bytes are not those of its name is damaged."""
    name = f"{'0' * 64}.json"
    path = _tar(tmp_path / "a.tar", {name: CONFIG, "l": GOOD, "manifest.json": _list((None, name, ["l"]))})
    with pytest.raises(DigestError, match="not what its name says"):
        await open_archive(path, scratch)


async def test_truncated_archive(tmp_path: Path, scratch: Path) -> None:
    """An archive that was copied half is refused."""
    path = write_docker_archive(IMAGE, tmp_path / "a.tar", "a/b:v1")
    os.truncate(path, 9000)
    with pytest.raises(ContentError, match=r"truncated|cut off|damaged"):
        await open_archive(path, scratch)
    with pytest.raises(MissingError, match="no such file"):
        await open_archive(tmp_path / "gone.tar", scratch)


async def test_skopeo_agrees(tmp_path: Path, scratch: Path) -> None:
    """What skopeo saves is converted, and skopeo reads the result: same image ID, same layers, same files."""
    require("skopeo")
    source, path = write_layout(IMAGE, tmp_path / "in", "v1"), tmp_path / "a.tar"
    _run(*COPY, f"oci:{source}:v1", f"docker-archive:{path}:example.com/x:v1")
    layout, archive = await open_archive(path, scratch, "v1")
    place = layout.place
    told = [json.loads(_run(*INSPECT, f"oci:{one}:v1")) for one in (source, place)]
    assert told[0]["rootfs"] == told[1]["rootfs"]
    again = tmp_path / "again.tar"
    _run(*COPY, f"oci:{place}:v1", f"docker-archive:{again}:example.com/x:v1")
    _, second = await open_archive(again, scratch, "v1")
    assert second.digest == archive.digest


async def test_made_from_either_form(tmp_path: Path, scratch: Path) -> None:
    """Archives of the same image from two tools, gzip or link inside, give one digest."""
    require("skopeo")
    source, path = write_layout(IMAGE, tmp_path / "in", "v1"), tmp_path / "a.tar"
    _run(*COPY, f"oci:{source}:v1", f"docker-archive:{path}:example.com/x:v1")
    by_skopeo = await open_archive(path, scratch)
    by_docker = await open_archive(write_docker_archive(IMAGE, tmp_path / "b.tar", "example.com/x:v1"), scratch)
    layers = [
        [one["digest"] for one in json.loads(layout.manifest(archive).body)["layers"]]
        for layout, archive in (by_skopeo, by_docker)
    ]
    assert layers[0] == layers[1]
