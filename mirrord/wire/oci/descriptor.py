"""Descriptors: typed, sized, digested pointers to content (image-spec, descriptor.md), and the types they name."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mirrord.errors import ContentError, DigestError, about
from mirrord.model.digest import Digest
from mirrord.wire.oci.document import check_spelling, mapping, sequence, text, texts
from mirrord.wire.oci.platform import platform_name

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"  # of an OCI 1.1 draft; ORAS pushed some
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)

INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
IMAGES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
MANIFESTS = INDEXES | IMAGES | {OCI_ARTIFACT}
CONFIGS = frozenset({"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"})
ATTESTATION = "vnd.docker.reference.type"  # buildx marks entries of an index that are not images with it
_BLOB = re.compile(
    r"application/vnd\.(?:oci\.image\.(?:layer|config)|oci\.empty|docker\.(?:image\.rootfs|container\.image)"
    r"|buildkit\.cacheconfig|in-toto|cncf\.helm)[.+/a-z0-9-]*(?:;.*)?"
    r"|application/(?:octet-stream|x-gzip|gzip|tar|zip|x-tar)"
)
_FOREIGN = re.compile(r"\.(?:foreign|nondistributable)\.")

_DESCRIPTOR_KEYS = ("mediaType", "digest", "size", "urls", "data", "platform")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content, with its identity (image-spec, descriptor.md).

    Attributes:
        media_type: as written.
        digest: identity of the content.
        size: its bytes.
        annotations: as written.
        urls: where else the content may be; never followed unless somebody opted in.
        data: the content itself when it was embedded; already checked against size and digest.
        artifact_type: as written, or None.
        platform: what it runs on, as one word; "" if that is not said.
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    urls: tuple[str, ...] = ()
    data: bytes | None = field(default=None, repr=False)
    artifact_type: str | None = None
    platform: str = field(default="", compare=False)

    def entry(self) -> dict[str, object]:
        """Return its JSON form: type, digest, size and annotations."""
        entry: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            entry["artifactType"] = self.artifact_type
        return {**entry, "annotations": dict(self.annotations)} if self.annotations else entry

    @property
    def is_manifest(self) -> bool:
        """Whether its media type is that of a manifest. Try other children of an index as manifest, then as blob."""
        return self.media_type in MANIFESTS or self.media_type in SCHEMA1

    @property
    def is_blob(self) -> bool:
        """Whether the media type is one that only blobs have (some indexes list layers: BuildKit's caches)."""
        return _BLOB.fullmatch(self.media_type) is not None

    @property
    def is_foreign(self) -> bool:
        """Whether a registry may lack it: a layer of a non-distributable type (image-spec, layer.md).

        `urls` alone do not make it one: they say where content may be had as well (descriptor.md).
        """
        return _FOREIGN.search(self.media_type) is not None


def index_of(entries: Sequence[object], document: object = None) -> bytes:
    """Write an index with these entries and the other keys of `document`; equal values give equal bytes."""
    known = {"schemaVersion": 2, "mediaType": OCI_INDEX, **mapping(document, "index"), "manifests": entries}
    return json.dumps(known, sort_keys=True, separators=(",", ":")).encode()


def read_descriptors(value: object, what: str) -> tuple[Descriptor, ...]:
    """Read a list of descriptors; `what` names it in messages. Raises as `read_descriptor`."""
    return tuple(read_descriptor(item, f"{what}[{index}]") for index, item in enumerate(sequence(value, what)))


def read_descriptor(value: object, what: str) -> Descriptor:
    """Read one descriptor of a JSON document; `what` names it in messages.

    Raises:
        DigestError: its `data` is not what its digest and size say.
        ContentError: a part is missing, of the wrong type or out of bounds (CVE-2024-3727).
    """
    if not isinstance(value, dict):
        raise ContentError(f"{what}: not a descriptor")
    check_spelling(value, _DESCRIPTOR_KEYS, what)
    written = text(value.get("digest"), f"{what}: digest")
    try:
        digest = Digest.parse(written)
    except ContentError as error:
        about(error, what)
        raise
    size = value.get("size")
    if type(size) is not int or not 0 <= size < 2**63:
        raise ContentError(f"{what}: size is {ascii(size)[:40]}, not a number of bytes")
    media_type = text(value.get("mediaType"), f"{what}: mediaType")
    if not media_type.isascii() or not media_type.isprintable() or "/" not in media_type:
        raise ContentError(f"{what}: mediaType is {ascii(media_type)[:80]}, not a media type")
    platform = mapping(value.get("platform"), f"{what}: platform")  # all are copied, whatever they run on
    return Descriptor(
        media_type,
        digest,
        size,
        annotations=texts(value.get("annotations"), f"{what}: annotations"),
        urls=tuple(text(url, f"{what}: urls") for url in sequence(value.get("urls"), f"{what}: urls")),
        data=_embedded(value.get("data"), digest, size, f"{what}: data"),
        artifact_type=text(value.get("artifactType"), f"{what}: artifactType") or None,
        platform=platform_name(platform) if platform else "",
    )


def _embedded(value: object, digest: Digest, size: int, what: str) -> bytes | None:
    """Decode `data` (descriptor.md: readers should check it against size and digest)."""
    if value is None:
        return None
    try:
        data = base64.b64decode(text(value, what), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ContentError(f"{what}: not base64") from error
    if len(data) != size or Digest.of(data, digest.algorithm) != digest:
        raise DigestError(f"{what}: not the {size} bytes of {digest}")
    return data
