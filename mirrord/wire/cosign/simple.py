"""Signatures of cosign 2: layers of a manifest, each a payload that is signed, with its signature as an annotation.

The manifest is under the tag `sha256-<hex>.sig`, or refers to the image by its `subject` (cosign's experimental mode of
OCI 1.1). The payload is "simple signing" of containers/image, docs/containers-signature.5.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mirrord.errors import ContentError
from mirrord.wire.cosign.signature import Signature, check_size, decoded, named_digest
from mirrord.wire.oci.descriptor import Descriptor, read_descriptors
from mirrord.wire.oci.document import check_spelling, mapping, read_object, text
from mirrord.wire.oci.manifest import Manifest

ARTIFACT: Final = "application/vnd.dev.cosign.artifact.sig.v1+json"
"""Type of a manifest that refers to its image by `subject`."""
LIMIT: Final = 1 << 16
"""Bytes of a payload; cosign writes some 300, and what `cosign sign -a` adds."""

_PAYLOAD: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
_VALUE: Final = "dev.cosignproject.cosign/signature"
_TYPE: Final = "cosign container image signature"


def payloads(manifest: Manifest) -> Sequence[Descriptor]:
    """Return the layers with a signature. Two signers sign one payload: each layer counts, also of one digest.

    Raises:
        ContentError: there are none.
    """
    what = f"signatures {manifest.digest}"
    layers = read_descriptors(read_object(manifest.body, what).get("layers"), f"{what}: layers")
    found = [layer for layer in layers if layer.media_type == _PAYLOAD]
    if not found:
        raise ContentError(f"{what}: no layer is a signature")
    return found


def read_simple(payload: bytes, annotations: Mapping[str, str]) -> Signature:
    """Read one layer.

    Raises:
        ContentError: it is no signature of an image.
    """
    check_size(payload, LIMIT, "signed payload")
    value = decoded(annotations.get(_VALUE), f"annotation {_VALUE}")
    document = read_object(payload, "signed payload")
    check_spelling(document, ("critical",), "signed payload")
    critical = mapping(document.get("critical"), "critical")
    check_spelling(critical, ("image", "type"), "critical")
    kind = text(critical.get("type"), "critical.type")
    if kind != _TYPE:
        raise ContentError(f"critical.type: {kind[:80]!a}, not {_TYPE!r}")
    image = mapping(critical.get("image"), "critical.image")
    check_spelling(image, ("docker-manifest-digest",), "critical.image")
    what = "critical.image.docker-manifest-digest"
    digest = named_digest(text(image.get("docker-manifest-digest"), what), what)
    return Signature(payload, value, frozenset({digest}))
