"""The targets of an image mirror, for survey and transfer."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator, Collection, Sequence
from pathlib import Path
from typing import Final, Literal

from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.repositories import ManifestRef, is_complete
from mirrord.blobs.store import DistantStore, read_stored
from mirrord.errors import ConflictError, DigestError, MissingError, StorageError
from mirrord.files import storage_errors
from mirrord.model.digest import Digest
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.image.names import image_name, target_place
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.layout_writer import LayoutWriter
from mirrord.wire.oci.manifest import LIMIT, Manifest

_MIB: Final = 1 << 20


def open_target(mirror: Mirror, target: Target, services: Services) -> Repository | LayoutWriter | LocalRepository:
    """Open a target.

    Raises:
        StorageError: it is `local` without a state directory.
    """
    if target.name == LOCAL:
        return LocalRepository(services, image_name(mirror))
    place = target_place(mirror, target)
    if isinstance(place, Path):
        return LayoutWriter(place)
    create = None
    if getattr(target.options, "create", None) is not None:  # a copy has no options
        from mirrord.syncers.image.kept.creation import creator  # noqa: PLC0415 - few targets have that

        create = creator(services.http, place, target)
    return Repository(services.http, place, push=True, create=create)


class LocalRepository:
    """A repository of mirrord's own store; an image with lost files counts as missing."""

    host = ""
    naming_writes = False
    keeps: Literal[True] = True

    def __init__(self, services: Services, repository: str) -> None:
        """Keep content in the store of `services`, and names in its repositories."""
        if services.blobs is None or services.repositories is None:
            raise StorageError("the local target needs a state directory; set --state")
        self._store, self._repositories = services.blobs, services.repositories
        self._services = services
        self._lease = services.repositories.lease()
        self._brought: set[Digest] = set()
        self._fresh: dict[Digest, ManifestRef] = {}
        self._lacking: set[Digest] = set()
        self._doubted: frozenset[str] = frozenset()
        self.repository = repository

    def doubt(self, digests: frozenset[str]) -> None:
        """Replace the files of this content as soon as it is here again: a verification found them damaged."""
        self._doubted = digests

    async def head_manifest(self, ref: str, deadline: float | None = None) -> Descriptor | None:  # noqa: ARG002 - asks nobody
        """Look it up in the repository."""
        digest = Digest.parse(ref) if ":" in ref else await self._repositories.tag(self.repository, ref)
        found = await self._repositories.manifest(self.repository, digest) if digest else None
        there = digest and found and await self.has_manifest(digest)
        return Descriptor(found.media_type, digest, found.size) if digest and found and there else None

    async def get_manifest(self, digest: str) -> Manifest:
        """Read the store."""
        found = await self._repositories.manifest(self.repository, Digest.parse(digest))
        body = await self.get_blob(Descriptor("", Digest(digest), 0))
        return Manifest.parse(body, found.media_type if found else "", Digest(digest))

    async def has_manifest(self, digest: Digest) -> bool:
        """Check what was written in this run, else whether the store has everything that it reaches."""
        await self._lease.hold([digest])
        return digest in self._fresh or await is_complete(self._repositories, self._store, self.repository, digest)

    async def get_blob(self, descriptor: Descriptor) -> bytes:
        """Read the store."""
        stored = await self._store.find(descriptor.digest)
        if stored is None:
            raise MissingError(f"{descriptor.digest} is not in the local store")
        return await read_stored(stored, LIMIT)

    async def has_blob(self, blob: Descriptor) -> bool:
        """Check the store, unless `expect` has just done so."""
        await self._lease.hold([blob.digest])
        return blob.digest not in self._lacking and not await self._store.missing([blob.digest])

    async def links(self, digest: Digest) -> bool:
        """Look it up in this repository; what this run brought comes from the source."""
        return digest in self._brought or await self._repositories.links(self.repository, digest)

    async def mount(self, digest: Digest, source: str) -> bool:  # noqa: ARG002 - the port's signature
        """Return False: `has_blob` covers all repositories already."""
        return False

    async def take_blob(self, blob: Descriptor, reader: SpoolReader) -> None:
        """Link the spool's file; copy it if the spool reads an external file in place. Send it to a distant store.

        Raises:
            DigestError: that file was changed after its verification; the store serves all mirrors.
        """
        if isinstance(self._store, DistantStore):
            await self._send(self._store, blob, reader)
            return
        file = await reader.whole()
        await self._lease.hold([blob.digest])
        self._brought.add(blob.digest)
        if reader.in_place:
            await self.expect([blob])
        self._lacking.discard(blob.digest)
        if not reader.in_place:
            await self._remove_doubted(blob.digest)
            await self._store.adopt(blob.digest, file)
            return
        copy = self._services.scratch / f"{blob.digest.hex}.{secrets.token_hex(4)}"
        try:
            with storage_errors(str(copy)), copy.open("wb") as out:
                async for chunk in _checked(blob.digest, reader):
                    out.write(chunk)
            await self._remove_doubted(blob.digest)
            await self._store.adopt(blob.digest, copy)
        finally:
            copy.unlink(missing_ok=True)

    async def _send(self, store: DistantStore, blob: Descriptor, reader: SpoolReader) -> None:
        """Send a blob while its spool is filled."""
        await self._lease.hold([blob.digest])
        self._brought.add(blob.digest)
        self._lacking.discard(blob.digest)
        await self._remove_doubted(blob.digest)
        pieces = _checked(blob.digest, reader) if reader.in_place else reader.chunks()
        await store.receive(blob.digest, blob.size, pieces)

    async def _remove_doubted(self, digest: Digest) -> None:
        if digest in self._doubted:
            await self._store.remove(digest)

    async def put_manifest(self, manifest: Manifest) -> None:
        """Store the bytes; they are linked when a tag is set."""
        await self._lease.hold([manifest.digest])
        await self._remove_doubted(manifest.digest)
        await self._store.put(manifest.digest, manifest.body)
        refs = tuple(one.digest for one in (*manifest.children, *manifest.blobs))
        subject = manifest.subject.digest if manifest.subject else ""
        self._fresh[manifest.digest] = ManifestRef(manifest.media_type, len(manifest.body), refs, subject)

    async def publish(self, manifest: Manifest, names: Sequence[str]) -> None:
        """Set the tags of one manifest; see `publish_all`."""
        await self.publish_all([(manifest, names)])

    async def publish_all(self, images: Sequence[tuple[Manifest, Sequence[str]]]) -> None:
        """Link the new content of these images and set all their tags in one atomic step.

        Raises:
            StorageError: some of it is missing, or the disk failed.
        """
        fresh: dict[Digest, ManifestRef] = {}  # the new manifests reachable from these, inclusive
        left = [manifest.digest for manifest, _ in images]
        while left:
            one = left.pop()
            if one in self._fresh and one not in fresh:
                fresh[one] = self._fresh[one]
                left += fresh[one].refs
        refs = {ref for link in fresh.values() for ref in link.refs}
        if lost := await self._store.missing(fresh.keys() | refs):
            raise StorageError(
                f"{self.repository}: {min(lost)} was lost before its tag was set; the next run copies it again"
            )
        tags = {name: manifest.digest for manifest, names in images for name in names}
        await self._repositories.publish(self.repository, fresh, tags)
        for digest in fresh:
            self._fresh.pop(digest, None)

    async def expect(self, blobs: Sequence[Descriptor]) -> None:
        """Compare the size of missing content with the free disk space."""
        sizes = {blob.digest: blob.size for blob in blobs}
        await self._lease.hold(sizes)
        lacking = await self._store.missing(sizes)
        self._lacking |= lacking
        need = 0 if isinstance(self._store, DistantStore) else sum(sizes[digest] for digest in lacking)
        if need > (left := self._services.spools.cache.spare(need) if need else 0):
            mib = f"needs {-(-need // _MIB)} MiB, and the disk of {self._services.keep} has {left // _MIB} MiB free"
            raise StorageError(f"{self.repository}: {mib}; free some space")

    async def discard(self) -> None:
        """Remove unlinked content of this run that no other run needs."""
        await self._repositories.remove_unlinked(self._store, self._brought | self._fresh.keys(), self._lease)
        self._brought.clear()
        self._fresh.clear()

    async def tags(self) -> Collection[str]:
        """Return all tags."""
        state = await self._repositories.state(self.repository)
        return state.tags if state else ()

    def release(self) -> None:
        """End the lease on what this run brought, or found here."""
        self._lease.release()

    async def remove(self, names: Sequence[str]) -> None:
        """Remove tags; their content stays linked."""
        while state := await self._repositories.state(self.repository):
            tags = {name: digest for name, digest in state.tags.items() if name not in names}
            with contextlib.suppress(ConflictError):  # another publication came first
                await self._repositories.publish(
                    self.repository, state.manifests, tags, exactly=True, expect=state.revision
                )
                return


async def _checked(digest: Digest, reader: SpoolReader) -> AsyncGenerator[bytes, None]:
    """Yield a file that is read in place; it may be changed after its verification."""
    hasher = digest.hasher()
    async for chunk in reader.chunks():
        hasher.update(chunk)
        yield chunk
    if hasher.hexdigest() != digest.hex:
        raise DigestError(f"{reader.spool.source}: changed while it was read; the next run reads it again")
