"""Real container images, assembled on the spot and the same each time.

Layers are gzipped tars that podman unpacks; configs carry true diff_ids; digests are right.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mirrord.model.digest import Digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
REF_NAME = "org.opencontainers.image.ref.name"
REVISION = "org.opencontainers.image.revision"

CREATED = "2024-01-01T00:00:00Z"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Image:
    """A content-addressed tree.

    Attributes:
        root: descriptor of the manifest or index that a tag would point to.
        manifests: media type and bytes by digest; children before parents.
        blobs: configs, layers and other blobs by digest.
        media_types: of the blobs, by digest.
    """

    root: Mapping[str, Any]
    manifests: Mapping[str, tuple[str, bytes]]
    blobs: Mapping[str, bytes]
    media_types: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> Digest:
        """Digest of the root."""
        return Digest(self.root["digest"])

    @property
    def media_type(self) -> str:
        """Media type of the root."""
        return str(self.root["mediaType"])

    @property
    def body(self) -> bytes:
        """Bytes of the root."""
        return self.manifests[self.digest][1]

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(map(len, self.blobs.values()))

    @property
    def layers(self) -> tuple[str, ...]:
        """Digests of the blobs that are layers."""
        return tuple(digest for digest, kind in self.media_types.items() if "config" not in kind)

    def document(self, digest: str | None = None) -> Json:
        """Return the parsed root, or another manifest of the tree."""
        parsed: Json = json.loads(self.manifests[digest or self.digest][1])
        return parsed


class Builder:
    """Collects content and hands out descriptors."""

    def __init__(self, algorithm: str = "sha256") -> None:
        self.algorithm = algorithm
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.media_types: dict[str, str] = {}

    def blob(self, media_type: str, data: bytes, **extra: Any) -> Json:
        """Add a blob."""
        digest = Digest.of(data, self.algorithm)
        self.blobs[digest] = data
        self.media_types[digest] = media_type
        return {"mediaType": media_type, "digest": str(digest), "size": len(data), **extra}

    def manifest(self, document: Mapping[str, Any], media_type: str | None = None, **extra: Any) -> Json:
        """Add a manifest or an index; its type is `document["mediaType"]` unless given."""
        kind = media_type or document["mediaType"]
        body = json.dumps(document, indent=2).encode()
        digest = Digest.of(body, self.algorithm)
        self.manifests[digest] = (kind, body)
        return {"mediaType": kind, "digest": str(digest), "size": len(body), **extra}

    def include(self, image: Image) -> None:
        """Add all of another image."""
        self.manifests |= image.manifests
        self.blobs |= image.blobs
        self.media_types |= image.media_types

    def image(self, root: Mapping[str, Any]) -> Image:
        """Finish."""
        freeze = MappingProxyType
        return Image(root, freeze(self.manifests), freeze(self.blobs), freeze(self.media_types))


def layer(name: str, size: int, seed: str) -> tuple[bytes, str]:
    """Build one layer of about `size` incompressible bytes; returns the gzipped tar and its diff_id."""
    source = random.Random(seed)
    pieces = [source.randbytes(min(1 << 20, size - start)) for start in range(0, size, 1 << 20)]
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, data in ((f"{name}.txt", f"{name} {seed}\n".encode()), (f"{name}.bin", b"".join(pieces))):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=0, mtime=0, filename="") as stream:
        stream.write(raw.getbuffer())
    return packed.getvalue(), Digest.of(raw.getvalue())


def build_image(
    platforms: Sequence[str] = ("linux/amd64", "linux/arm64"),
    *,
    layers: int = 2,
    layer_size: int = 4096,
    seed: str = "image",
    docker: bool = False,
    index: bool | None = None,
    annotations: Mapping[str, str] | None = None,
    index_annotations: Mapping[str, str] | None = None,
    shared_layers: int = 0,
    base_seed: str = "base",
    algorithm: str = "sha256",
    inline_config: bool = False,
    empty_layer: bool = False,
    foreign: Sequence[str] = (),
    media_type_inside: bool = True,
    created: str = CREATED,
) -> Image:
    """Build an image for `platforms`.

    Args:
        platforms: `os/architecture[/variant]` each.
        layers: how many each platform has.
        layer_size: incompressible bytes in each.
        seed: other seeds give other bytes.
        docker: Docker media types instead of OCI's.
        index: whether there is an index on top; None: when there are several platforms.
        annotations: of each platform's manifest.
        index_annotations: of the index.
        shared_layers: how many of the layers, from the bottom, depend on `base_seed` alone, so that all
            platforms and all images of this `base_seed` share them.
        base_seed: see there.
        algorithm: `sha256` or `sha512`, for every digest but diff_ids.
        inline_config: carry the config in the descriptor's `data` as well.
        empty_layer: add a layer of zero bytes.
        foreign: URLs of a foreign layer that is described but not there.
        media_type_inside: write `mediaType` into manifests; OCI's may lack it.
        created: what the configs say of when they were made.
    """
    builder = Builder(algorithm)
    kinds = (DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST) if docker else (OCI_CONFIG, OCI_LAYER, OCI_MANIFEST)
    entries = []
    for platform in platforms:
        seeds = [base_seed if n < shared_layers else f"{seed} {platform}" for n in range(layers)]
        made = [layer(f"layer-{n}", layer_size, f"{text} {n}") for n, text in enumerate(seeds)]
        config = builder.blob(kinds[0], _config(platform, [diff_id for _, diff_id in made], seed, created))
        if inline_config:
            config["data"] = _base64(builder.blobs[config["digest"]])
        packed = [data for data, _ in made] + [b""] * empty_layer
        described = [builder.blob(kinds[1], data) for data in packed] + ([_foreign(foreign)] if foreign else [])
        document = annotated(document_of(kinds[2], config=config, layers=described), annotations)
        kind = document["mediaType"] if media_type_inside else document.pop("mediaType")
        entries.append(builder.manifest(document, kind, platform=_platform(platform)))
    if not (len(platforms) > 1 if index is None else index):
        entries[0].pop("platform")
        return builder.image(entries[0])
    return builder.image(on_top(builder, entries, docker=docker, annotations=index_annotations))


def on_top(
    builder: Builder, entries: Iterable[Json], *, docker: bool, annotations: Mapping[str, str] | None = None
) -> Json:
    """Add an index of `entries`."""
    document = document_of(DOCKER_LIST if docker else OCI_INDEX, manifests=list(entries))
    return builder.manifest(annotated(document, annotations))


def document_of(media_type: str, **parts: Any) -> Json:
    """Return a manifest or index of a type."""
    return {"schemaVersion": 2, "mediaType": media_type, **parts}


def annotated(document: Json, annotations: Mapping[str, str] | None) -> Json:
    """Return the document with annotations, where there are any."""
    return document | {"annotations": dict(annotations)} if annotations else document


def _platform(text: str) -> Json:
    return dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False))


def _config(platform: str, diff_ids: Sequence[str], seed: str, created: str) -> bytes:
    history = [{"created": CREATED, "created_by": f"mirrord.testing {seed} {n}"} for n in range(len(diff_ids))]
    document = _platform(platform) | {
        "created": created,
        "config": {"Env": ["PATH=/"], "Cmd": ["/layer-0.txt"]},
        "rootfs": {"type": "layers", "diff_ids": [str(one) for one in diff_ids]},
        "history": history,
    }
    return json.dumps(document).encode()


def _foreign(urls: Sequence[str]) -> Json:
    absent = b"a foreign layer"
    return {"mediaType": DOCKER_FOREIGN, "digest": str(Digest.of(absent)), "size": len(absent), "urls": list(urls)}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
