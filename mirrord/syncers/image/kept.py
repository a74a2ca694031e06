"""The targets of an image mirror, as those who look at them and those who write to them see them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from mirrord.blobs.repositories import Repositories, is_complete
from mirrord.blobs.store import BlobStore, read_stored
from mirrord.errors import MissingError
from mirrord.model.digest import Digest
from mirrord.syncer.values import Mirror, Services, Target
from mirrord.syncers.image.names import image_name, target_place
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.layout_writer import LayoutWriter
from mirrord.wire.oci.manifest import LIMIT, Manifest


def open_target(mirror: Mirror, target: Target, services: Services) -> Repository | LayoutWriter:
    """Open what a target other than `local` stands for."""
    place = target_place(mirror, target)
    return LayoutWriter(place) if isinstance(place, Path) else Repository(services.http, place, push=True)


def open_local(mirror: Mirror, services: Services) -> LocalRepository | None:
    """Open what `local` stands for; None where there is no state."""
    if services.blobs is None or services.repositories is None:
        return None
    return LocalRepository(services.blobs, services.repositories, image_name(mirror))


class LocalRepository:
    """A repository of mirrord's own store, as it can be read."""

    def __init__(self, store: BlobStore, repositories: Repositories, repository: str) -> None:
        """Read content from `store`, and names from `repositories`."""
        self._store = store
        self._repositories = repositories
        self.repository = repository

    async def head_manifest(self, ref: str, deadline: float | None = None) -> Descriptor | None:  # noqa: ARG002 - asks nobody
        """Look into the repository."""
        digest = Digest.parse(ref) if ":" in ref else await self._repositories.tag(self.repository, ref)
        found = await self._repositories.manifest(self.repository, digest) if digest else None
        return Descriptor(found.media_type, digest, found.size) if digest and found else None

    async def get_manifest(self, digest: str) -> Manifest:
        """Read the store."""
        found = await self._repositories.manifest(self.repository, Digest.parse(digest))
        return Manifest.parse(await self._read(Digest(digest)), found.media_type if found else "", Digest(digest))

    @contextlib.asynccontextmanager
    async def open_blob(self, descriptor: Descriptor) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read the store; only what is as small as a manifest."""

        async def pieces() -> AsyncIterator[bytes]:
            yield await self._read(descriptor.digest)

        yield pieces()

    async def has_manifest(self, digest: Digest) -> bool:
        """Look into the repository, and whether the store still has all that is reached from there."""
        return await is_complete(self._repositories, self._store, self.repository, digest)

    async def _read(self, digest: Digest) -> bytes:
        stored = await self._store.find(digest)
        if stored is None:
            raise MissingError(f"{digest} is not in the local store")
        return await read_stored(stored, LIMIT)
