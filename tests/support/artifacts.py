"""What a registry may hold besides images: indexes of indexes, artifacts, and what nobody should carry any more."""

from __future__ import annotations

from collections.abc import Mapping

from mirrord.testing.images import (
    DOCKER_LAYER,
    OCI_MANIFEST,
    Builder,
    Image,
    Json,
    annotated,
    document_of,
    layer,
    on_top,
)

OCI_EMPTY = "application/vnd.oci.empty.v1+json"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
EMPTY_JSON = b"{}"


def build_nested(*images: Image) -> Image:
    """Build an index whose entries are the roots of `images`, indexes among them."""
    builder = Builder()
    for image in images:
        builder.include(image)
    return builder.image(on_top(builder, [dict(image.root) for image in images], docker=False))


def build_artifact(
    subject: Image | None = None,
    artifact_type: str = "application/vnd.example.sbom",
    data: bytes = b"artifact",
    media_type: str = "application/x-unheard-of",
    annotations: Mapping[str, str] | None = None,
) -> Image:
    """Build an artifact of unknown type, with an empty config, optionally about `subject` (not included)."""
    builder = Builder()
    config = builder.blob(OCI_EMPTY, EMPTY_JSON)
    document = document_of(
        OCI_MANIFEST, artifactType=artifact_type, config=config, layers=[builder.blob(media_type, data)]
    )
    if subject is not None:
        document["subject"] = {key: subject.root[key] for key in ("mediaType", "digest", "size")}
    return builder.image(builder.manifest(annotated(document, annotations)))


def cosigned(*signatures: str) -> Image:
    """Build what cosign 2 keeps under a tag: a layer for each signature."""
    builder = Builder()
    config = builder.blob("application/vnd.oci.image.config.v1+json", b'{"rootfs":{"type":"layers","diff_ids":[]}}')
    payload = builder.blob("application/vnd.dev.cosign.simplesigning.v1+json", b'{"critical":{}}')
    layers = [{**payload, "annotations": {"dev.cosignproject.cosign/signature": one}} for one in signatures]
    return builder.image(builder.manifest(document_of(OCI_MANIFEST, config=config, layers=layers)))


def build_schema1() -> Image:
    """Build a Docker schema 1 manifest, which nobody should carry any more."""
    builder = Builder()
    data, _ = layer("layer-0", 64, "schema1")
    described = builder.blob(DOCKER_LAYER, data)
    document: Json = {
        "schemaVersion": 1,
        "name": "team/old",
        "tag": "latest",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": described["digest"]}],
        "history": [{"v1Compatibility": "{}"}],
        "signatures": [{"header": {"alg": "ES256"}, "signature": "c2ln", "protected": "cHJvdGVjdGVk"}],
    }
    return builder.image(builder.manifest(document, SCHEMA1))
