"""The targets of an image mirror, as those who look at them and those who write to them see them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

from mirrord.blobs.repositories import RepositoryState
from mirrord.blobs.store import BlobStore
from mirrord.errors import ContentError, MissingError
from mirrord.model.digest import Digest
from mirrord.syncer.values import Mirror, Services, Target
from mirrord.syncers.image.names import target_place
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.created import created
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.files import BlobFile
from mirrord.wire.oci.layout_writer import LayoutWriter
from mirrord.wire.oci.manifest import LIMIT, Manifest


def open_target(mirror: Mirror, target: Target, services: Services) -> Repository | LayoutWriter:
    """Open what a target other than `local` stands for."""
    place = target_place(mirror, target)
    return LayoutWriter(place) if isinstance(place, Path) else Repository(services.http, place, push=True)


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
