"""Manifests and indexes: bytes that are never written anew, and what they refer to.

A manifest is parsed only to find its descriptors (image-spec, manifest.md and image-index.md;
Docker's schema 2 has the same shape). What is sent on is `Manifest.body`, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from mirrord.errors import ContentError, DigestError, TooLargeError, UnsupportedError
from mirrord.model.digest import Digest
from mirrord.wire.oci.descriptor import (
    CONFIGS,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    IMAGES,
    INDEXES,
    MANIFESTS,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1,
    Descriptor,
    read_descriptor,
    read_descriptors,
)
from mirrord.wire.oci.document import check_spelling, read_object, sequence, text, texts
from mirrord.wire.offload import offload

ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, OCI_ARTIFACT, *SCHEMA1))
"""The one Accept header, for HEAD and GET alike: with another one a registry may answer another digest.

Schema 1 stands in it so that such an image is refused by us, with a reason, and not by a puzzling 404.
"""

LIMIT = 4 * 1024 * 1024
"""Bytes of a manifest (distribution-spec, "Pushing Manifests": the size that registries should accept at least)."""

MOST_BLOBS = 1000
"""Config, layers and artifact blobs of one manifest; runtimes take 127 layers."""

MOST_ENTRIES = 10_000
"""Entries of one index."""

MOST_VALUES = 200_000
"""JSON values in one manifest: annotations of a few bytes take many times that in memory."""

ROOM: Final = 16 << 20
"""Bytes that are held of one repository; see `Held`."""

_VAGUE = frozenset({"", "application/json", "application/octet-stream", "binary/octet-stream", "text/plain"})
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*")

_DOCUMENT_KEYS = ("schemaVersion", "mediaType", "manifests", "config", "layers", "blobs", "subject", "artifactType")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One manifest or index, its bytes exactly as received.

    Attributes:
        media_type: the Content-Type it has to be pushed with.
        digest: of `body`, checked.
        body: the bytes.
        children: entries of an index that are, or may be, manifests; in order, not made unique, since entries
            of several platforms may share a digest. See `Descriptor.is_manifest` for those of unknown type.
        blobs: config, layers, artifact blobs, and entries of an index whose type is that of a blob; in order,
            each digest once.
        foreign: layers that stay references.
        subject: what this manifest is about (referrers), or None.
        annotations: of the document.
        artifact_type: as written, or None.
    """

    media_type: str
    digest: Digest
    body: bytes = field(repr=False)
    children: tuple[Descriptor, ...] = ()
    blobs: tuple[Descriptor, ...] = ()
    foreign: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str | None = None

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor that an index would have for it."""
        return Descriptor(self.media_type, self.digest, len(self.body), artifact_type=self.artifact_type)

    @property
    def config(self) -> Descriptor | None:
        """The config of an image; None for what is no image, or for one that is too large to be read."""
        return next((one for one in self.blobs if one.media_type in CONFIGS and one.size <= LIMIT), None)

    def is_about(self, subject: Digest) -> bool:
        """Whether this says that it is about `subject`."""
        return self.subject is not None and self.subject.digest == subject

    @classmethod
    def parse(cls, body: bytes, content_type: str, digest: Digest | None = None) -> Manifest:
        """Check `body` against `digest` and find what it refers to.

        `content_type` is the header's value, parameters and all, or "" when there was none.

        Raises:
            TooLargeError: more than `LIMIT` bytes, or more entries, blobs or values than allowed.
            DigestError: the bytes are not those of `digest`, or embedded data not those of its descriptor.
            UnsupportedError: Docker schema 1.
            ContentError: not a manifest, or one that two readers may understand differently (CVE-2021-41190).
        """
        what = f"manifest {digest}" if digest else "manifest"
        if len(body) > LIMIT:
            raise TooLargeError(f"{what}: {len(body)} bytes, at most {LIMIT} are taken")
        # The type without parameters; types that we know in the one spelling that we know.
        received = content_type.partition(";")[0].strip()
        if (lower := received.lower()) in MANIFESTS or lower in SCHEMA1 or lower in _VAGUE:
            received = lower
        if received in SCHEMA1:  # before the digest: a signed one's is not of the bytes received
            raise _schema1(what)
        actual = Digest.of(body, digest.algorithm if digest else "sha256")
        if digest and actual != digest:
            raise DigestError(f"{what}: the {len(body)} bytes received have digest {actual}")
        document = read_object(body, what, MOST_VALUES)
        check_spelling(document, _DOCUMENT_KEYS, what)
        return cls(
            _media_type(document, received, what),
            actual,
            body,
            *_content(document, what),
            subject=read_descriptor(document["subject"], f"{what}: subject") if document.get("subject") else None,
            annotations=texts(document.get("annotations"), f"{what}: annotations"),
            artifact_type=text(document.get("artifactType"), f"{what}: artifactType") or None,
        )


def _schema1(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{what}: Docker schema 1, which registries have stopped to take; "
        "rebuild the image, or pull it with an old Docker and push it with a new one"
    )


def _media_type(document: Mapping[str, object], received: str, what: str) -> str:
    """Return the media type of the document; refuse one that is both index and image (CVE-2021-41190)."""
    written = text(document.get("mediaType"), f"{what}: mediaType")
    version = document.get("schemaVersion")
    if "manifests" in document and not document.keys().isdisjoint(("layers", "config", "fsLayers")):
        raise ContentError(f"{what}: refused: both an index and an image (manifests beside layers or config)")
    if written in SCHEMA1 or (version == 1 and "fsLayers" in document):
        raise _schema1(what)
    if received in MANIFESTS and written in MANIFESTS and received != written:
        raise ContentError(f"{what}: refused: sent as {received}, but its mediaType is {written}")
    if received in _VAGUE or received.startswith("text/"):
        # A missing media type is optional in OCI documents and required in Docker's.
        image = OCI_MANIFEST if "config" in document and "layers" in document else ""
        media_type = written or (OCI_INDEX if "manifests" in document else image)
    else:
        media_type = written if written in MANIFESTS else received
    if not _MEDIA_TYPE.fullmatch(media_type) or document.keys().isdisjoint(_DOCUMENT_KEYS):
        raise ContentError(f"{what}: neither Content-Type nor content say what kind of manifest it is")
    if media_type in MANIFESTS and version is not None and (type(version) is not int or version != 2):
        raise ContentError(f"{what}: schemaVersion is not 2")
    if media_type in INDEXES and "manifests" not in document:
        raise ContentError(f"{what}: {media_type} without manifests")
    if media_type in IMAGES and document.get("config") is None:
        raise ContentError(f"{what}: {media_type} without config")
    return media_type


def _content(
    document: Mapping[str, object], what: str
) -> tuple[tuple[Descriptor, ...], tuple[Descriptor, ...], tuple[Descriptor, ...]]:
    """Return children, blobs and foreign layers."""
    listed = len(sequence(document.get("manifests"), f"{what}: manifests"))
    if listed > MOST_ENTRIES:
        raise TooLargeError(f"{what}: an index of {listed} entries; {MOST_ENTRIES} are the most")
    listed = sum(len(sequence(document.get(part), f"{what}: {part}")) for part in ("layers", "blobs"))
    if listed > MOST_BLOBS:
        raise TooLargeError(f"{what}: {listed} layers or blobs; {MOST_BLOBS} are the most")
    entries = read_descriptors(document.get("manifests"), f"{what}: manifests")
    config = [read_descriptor(document["config"], f"{what}: config")] if document.get("config") is not None else []
    layers = read_descriptors(document.get("layers"), f"{what}: layers")
    parts = read_descriptors(document.get("blobs"), f"{what}: blobs")
    sizes: dict[Digest, int] = {}
    for one in (*entries, *config, *layers, *parts):
        if sizes.setdefault(one.digest, one.size) != one.size:
            raise ContentError(f"{what}: {one.digest} is said to have {one.size} and {sizes[one.digest]} bytes")
    blobs: dict[Digest, Descriptor] = {}
    kept = (one for one in layers if not one.is_foreign)
    for blob in (*config, *kept, *parts, *(one for one in entries if one.is_blob)):
        blobs.setdefault(blob.digest, blob)
    return (
        tuple(one for one in entries if not one.is_blob),
        tuple(blobs.values()),
        tuple(one for one in layers if one.is_foreign),
    )


class Held:
    """Manifests and small blobs that were read for a decision, so that the transfer need not read them again."""

    def __init__(self, room: int) -> None:
        """Hold up to `room` bytes; what comes later is read again."""
        self._room = room
        self._found: dict[Digest, tuple[str, bytes]] = {}

    def hold(self, digest: Digest, body: bytes, kind: str = "") -> None:
        """Keep a blob, or a manifest of a type."""
        if digest not in self._found and len(body) <= self._room:
            self._room -= len(body)
            self._found[digest] = kind, body

    async def manifest(self, digest: Digest) -> Manifest | None:
        """Return a manifest that is held."""
        if digest not in self._found:
            return None
        kind, body = self._found[digest]
        return await offload(len(body), Manifest.parse, body, kind, digest)

    def blob(self, digest: Digest) -> bytes | None:
        """Return a blob that is held."""
        return self._found[digest][1] if digest in self._found else None

    def embedded(self, blob: Descriptor) -> Descriptor:
        """Return a descriptor with the data of a blob that is held."""
        return replace(blob, data=self.blob(blob.digest)) if blob.digest in self._found else blob
