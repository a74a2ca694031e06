"""A repository of `local` as a source: of names that are restored from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from mirrord.blobs.repositories import RepositoryState
from mirrord.blobs.source import BlobSource
from mirrord.errors import ContentError, MissingError, StorageError
from mirrord.files import LocalFile
from mirrord.model.digest import Digest
from mirrord.syncer.values import Services
from mirrord.syncers.image.kept import LocalRepository
from mirrord.syncers.image.plan.steps import Referrer
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import Manifest
from mirrord.wire.oci.reference import COSIGN, referrers_tag, subject_tag


class LocalSource:
    """Reads manifests and blobs of one repository of the store; files are read in place."""

    host = repository = ""  # no registry has it

    def __init__(self, services: Services, repository: str) -> None:
        """Read `repository`. Raises StorageError: there is no state directory."""
        if services.blobs is None or services.repositories is None:
            raise StorageError("the local target needs a state directory; set --state")
        self._place = LocalRepository(services, repository)
        self._store, self._repositories, self._name = services.blobs, services.repositories, repository
        self._state: RepositoryState | None = None
        self._named: dict[str, list[tuple[str, Digest]]] = {}  # what cosign's tags name, by `subject_tag`

    async def manifest(self, descriptor: Descriptor) -> Manifest:
        """Read a manifest."""
        return await self._place.get_manifest(descriptor.digest)

    async def get_blob(self, blob: Descriptor) -> bytes:
        """Read a small blob."""
        return await self._place.get_blob(blob)

    def change(self, digest: Digest) -> str:  # noqa: ARG002 - the port's signature
        """Return "": all is as it is kept."""
        return ""

    async def check_blob(self, blob: Descriptor) -> None:
        """Look whether this repository links it. Raises MissingError if it does not."""
        if not await self._place.links(blob.digest):
            raise MissingError(f"local/{self._name}: has no {blob.digest}")

    async def blob_source(self, blob: Descriptor) -> BlobSource:
        """Return the blob's file, or how to read it from remote storage.

        Raises:
            MissingError: it is not there.
            ContentError: it has another size.
        """
        await self.check_blob(blob)
        found = await self._store.find(blob.digest)
        if found is None:
            raise MissingError(f"local/{self._name}: {blob.digest} was lost")
        if found.size != blob.size:
            raise ContentError(f"local/{self._name}: {blob.digest} has {found.size} bytes, not {blob.size}")
        name = f"local/{self._name}"
        if isinstance(found, LocalFile):
            return BlobSource(blob.digest, blob.size, file=found.path, start=found.offset, name=name)

        @asynccontextmanager
        async def opened(offset: int) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
            yield found.size, found.open(offset, found.size - offset)

        return BlobSource(blob.digest, blob.size, opened, name=name)

    async def has_referrers(self) -> bool:
        """Return True: a look costs no request."""
        return True

    async def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """Return what is about a manifest: by its subject, and under cosign's tags."""
        if self._state is None:
            self._state = await self._repositories.state(self._name) or RepositoryState()
            for tag, digest in self._state.tags.items():
                if (about := subject_tag(tag)) and tag.endswith(COSIGN):
                    self._named.setdefault(about, []).append((tag, digest))
        found: list[Referrer] = []
        for digest, link in self._state.manifests.items():
            descriptor = Descriptor(link.media_type, digest, link.size)
            if link.subject == subject or (link.subject is None and await self._is_about(descriptor, subject)):
                found.append(Referrer(descriptor))
        for tag, named in self._named.get(referrers_tag(subject), ()):
            if (entry := self._state.manifests.get(named)) is not None:
                found.append(Referrer(Descriptor(entry.media_type, named, entry.size), tag))
        return found

    async def _is_about(self, descriptor: Descriptor, subject: Digest) -> bool:
        """Read what was kept before subjects were recorded."""
        try:
            return (await self.manifest(descriptor)).is_about(subject)
        except (ContentError, MissingError):
            return False

    def ignored(self, subject: Digest) -> Sequence[str]:  # noqa: ARG002 - all of it was checked when it was kept
        """Return nothing."""
        return ()
