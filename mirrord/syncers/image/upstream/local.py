"""A repository of `local` as a source: of names that are restored from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

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
        self._about: Mapping[str, Sequence[Referrer]] | None = None
        self._reading = asyncio.Lock()

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
        async with self._reading:
            if self._about is None:
                self._about = await self._subjects()
        return self._about.get(referrers_tag(subject), ())

    async def _subjects(self) -> Mapping[str, Sequence[Referrer]]:
        """Return what the repository has about all manifests, by `referrers_tag`: each is looked at once."""
        state = await self._repositories.state(self._name) or RepositoryState()
        found, unknown = await asyncio.to_thread(_recorded, state)
        for descriptor in unknown:  # read what was kept before subjects were recorded
            with suppress(ContentError, MissingError):
                if subject := (await self.manifest(descriptor)).subject:
                    found.setdefault(referrers_tag(subject.digest), []).append(Referrer(descriptor))
        return found

    def ignored(self, subject: Digest) -> Sequence[str]:  # noqa: ARG002 - all of it was checked when it was kept
        """Return nothing."""
        return ()


def _recorded(state: RepositoryState) -> tuple[dict[str, list[Referrer]], Sequence[Descriptor]]:
    """Return what is about manifests by `referrers_tag`, by subject and by cosign's tags; and what has to be read."""
    found: dict[str, list[Referrer]] = {}
    unknown: list[Descriptor] = []
    for digest, link in state.manifests.items():
        if link.subject is None:
            unknown.append(Descriptor(link.media_type, digest, link.size))
        elif link.subject:
            about = referrers_tag(Digest(link.subject))
            found.setdefault(about, []).append(Referrer(Descriptor(link.media_type, digest, link.size)))
    for tag, named in state.tags.items():
        about = subject_tag(tag)
        if about and tag.endswith(COSIGN) and (entry := state.manifests.get(named)) is not None:
            found.setdefault(about, []).append(Referrer(Descriptor(entry.media_type, named, entry.size), tag))
    return found, unknown
