"""What the local store says of an image, beside the names that it has: read from disk, nothing is asked."""

from __future__ import annotations

import asyncio
from datetime import datetime

from mirrord.blobs.repositories import RepositoryState
from mirrord.blobs.store import BlobStore
from mirrord.errors import ContentError, MissingError
from mirrord.model.digest import Digest
from mirrord.wire.oci.created import created
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.files import BlobFile
from mirrord.wire.oci.manifest import LIMIT, Manifest


async def created_locally(linked: RepositoryState, store: BlobStore, digest: Digest) -> datetime | None:
    """Return when an image of the local store was made, as `created_at` does of one in a registry."""

    async def read_blob(blob: Descriptor) -> bytes:
        path = store.path(blob.digest)
        if path is None:
            raise MissingError(f"{blob.digest} is not in the local store")
        return await asyncio.to_thread(BlobFile.whole(path).load, LIMIT)

    async def read_manifest(child: Descriptor) -> Manifest:
        link = linked.manifests.get(child.digest)
        return Manifest.parse(await read_blob(child), link.media_type if link else "", child.digest)

    try:
        return await created(await read_manifest(Descriptor("", digest, 0)), read_manifest, read_blob)
    except (MissingError, ContentError):
        return None
