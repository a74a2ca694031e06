"""When an image was created, by its own annotations and config (image-spec, annotations.md and config.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

from mirrord.errors import ContentError, RefusedError
from mirrord.model.digest import Digest
from mirrord.wire.oci.descriptor import ATTESTATION, Descriptor
from mirrord.wire.oci.document import read_object
from mirrord.wire.oci.manifest import Manifest
from mirrord.wire.offload import offload

CREATED = "org.opencontainers.image.created"
_NO_DATE = 1980  # the last of the years that programs write for "no date": 1, 1970, 1980
_LONGEST = 64  # characters of a date


class Readable(Protocol):
    """A place that images can be read from."""

    async def get_manifest(self, digest: str, /) -> Manifest:
        """Read a manifest."""

    async def get_blob(self, descriptor: Descriptor, /) -> bytes:
        """Read a small blob."""


def moment(text: object) -> datetime | None:
    """Read a date (RFC 3339); None for an invalid one, and for the placeholders of reproducible builds."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        return None
    try:
        found = datetime.fromisoformat(text)
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return found if found.year > _NO_DATE else None


async def created(
    manifest: Manifest,
    read_manifest: Callable[[Descriptor], Awaitable[Manifest]],
    read_blob: Callable[[Descriptor], Awaitable[bytes]],
) -> datetime | None:
    """Return when an image was created, or None when that is not recorded; reads one manifest or one blob at most.

    What is annotated counts (of an index: by itself, by an entry, or by the manifest of its first image), else what
    the config says: its label of that name, which overrides its own field (image-spec, conversion.md).

    Raises:
        MirrordError: as the two functions do.
    """
    if (annotated := moment(manifest.annotations.get(CREATED))) is not None:
        return annotated
    images = [one for one in manifest.children if one.is_manifest and ATTESTATION not in one.annotations]
    for entry in images:
        if (annotated := moment(entry.annotations.get(CREATED))) is not None:
            return annotated
    if images:
        return moment((await read_manifest(images[0])).annotations.get(CREATED))
    config = manifest.config
    if config is None:
        return None
    data = config.data if config.data is not None else await read_blob(config)
    document = await offload(len(data), read_object, data, "config")
    inner = document.get("config")
    labels = inner.get("Labels") if isinstance(inner, dict) else None
    label = labels.get(CREATED) if isinstance(labels, dict) else None
    return moment(label) or moment(document.get("created"))


async def created_at(place: Readable, digest: Digest) -> datetime | None:
    """Return when an existing image was created, with two reads at most; None when that cannot be read.

    Raises:
        TransportError: the registry cannot be reached, fails or asks for patience.
    """

    async def read_manifest(child: Descriptor) -> Manifest:
        return await place.get_manifest(child.digest)

    try:
        return await created(await place.get_manifest(digest), read_manifest, place.get_blob)
    except (RefusedError, ContentError):
        return None
