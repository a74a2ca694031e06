"""Images as files: OCI layouts (image-layout.md of the image-spec) and `docker save` archives."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

from mirrord.model.digest import Digest
from mirrord.testing.images import DOCKER_CONFIG, OCI_CONFIG, OCI_INDEX, REF_NAME, REVISION, Image, Json


def write_layout(
    image: Image, folder: Path, ref_name: str | None = None, revision: str | None = None, *, add: bool = False
) -> Path:
    """Write an OCI layout with one entry for the root of `image`; returns `folder`.

    Args:
        image: what to write.
        folder: made when missing.
        ref_name: branch or tag, as annotation `org.opencontainers.image.ref.name` of the entry.
        revision: commit, as annotation `org.opencontainers.image.revision` of the entry.
        add: keep the entries that are there.
    """
    for path, data in _files(image).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    index = folder / "index.json"
    before = json.loads(index.read_bytes())["manifests"] if add and index.exists() else []
    index.write_bytes(_index([*before, _entry(image, ref_name, revision)]))
    return folder


def write_layout_tar(image: Image, file: Path, ref_name: str | None = None, revision: str | None = None) -> Path:
    """Write the same as one tar archive; returns `file`."""
    files = _files(image) | {"index.json": _index([_entry(image, ref_name, revision)])}
    return _tar(file, files)


def write_docker_archive(image: Image, file: Path, *tags: str, platform: str = "linux/amd64") -> Path:
    """Write one platform of `image` as `docker save` does; returns `file`.

    Args:
        image: an image or an index of images with a `platform` each.
        file: the tar archive to write.
        tags: `name:tag` each, put into `RepoTags`.
        platform: which image of an index.
    """
    document = image.document()
    for entry in document.get("manifests", ()):
        if [entry["platform"]["os"], entry["platform"]["architecture"]] == platform.split("/")[:2]:
            document = image.document(entry["digest"])
    config = image.blobs[document["config"]["digest"]]
    config_name = f"{Digest.of(config).hex}.json"
    files: dict[str, bytes] = {config_name: config}
    names = []
    for layer in document["layers"]:
        raw = gzip.decompress(image.blobs[layer["digest"]])
        names.append(f"{Digest.of(raw).hex}/layer.tar")
        files[names[-1]] = raw
        files[f"{Digest.of(raw).hex}/VERSION"] = b"1.0"
    entry = {"Config": config_name, "RepoTags": list(tags) or None, "Layers": names}
    files["manifest.json"] = json.dumps([entry]).encode()
    repositories: dict[str, dict[str, str]] = {}
    for tag in tags:
        name, _, label = tag.rpartition(":")
        repositories.setdefault(name, {})[label] = names[-1].partition("/")[0]
    files["repositories"] = json.dumps(repositories).encode()
    return _tar(file, files)


def config_of(image: Image) -> Json:
    """Return the parsed config of an image that is no index."""
    kinds = (OCI_CONFIG, DOCKER_CONFIG)
    digest = next(digest for digest, kind in image.media_types.items() if kind in kinds)
    parsed: Json = json.loads(image.blobs[digest])
    return parsed


def _files(image: Image) -> dict[str, bytes]:
    content = {**image.blobs, **{digest: body for digest, (_, body) in image.manifests.items()}}
    files = {f"blobs/{digest.replace(':', '/')}": data for digest, data in content.items()}
    return {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', **files}


def _entry(image: Image, ref_name: str | None, revision: str | None) -> Json:
    given = {key: value for key, value in ((REF_NAME, ref_name), (REVISION, revision)) if value is not None}
    entry = dict(image.root)
    if given:
        entry["annotations"] = {**entry.get("annotations", {}), **given}
    return entry


def _index(entries: list[Json]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def _tar(file: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file
