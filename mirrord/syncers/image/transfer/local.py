"""mirrord's own store as a destination."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from mirrord.blobs.repositories import ManifestRef, Repositories
from mirrord.blobs.spool import SpoolReader
from mirrord.blobs.store import BlobStore
from mirrord.errors import ConflictError, DigestError, StorageError
from mirrord.files import storage_errors
from mirrord.model.digest import Digest
from mirrord.syncers.image.kept import LocalRepository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import Manifest


class LocalDestination(LocalRepository):
    """A repository of mirrord's own store, as it can be written to."""

    host = ""

    def __init__(
        self, store: BlobStore, repositories: Repositories, repository: str, scratch: Path, spare: Callable[[], int]
    ) -> None:
        """Keep content in `store` and names in `repositories`; `spare` says how many bytes there is room for."""
        super().__init__(store, repositories, repository)
        self._scratch = scratch
        self._spare = spare
        self._brought: set[Digest] = set()
        self._fresh: dict[Digest, ManifestRef] = {}

    async def has_manifest(self, digest: Digest) -> bool:
        """Look at what was written in this run, too."""
        return digest in self._fresh or await super().has_manifest(digest)

    async def has_blob(self, blob: Descriptor) -> bool:
        """Look into the store."""
        return not await self._store.missing([blob.digest])

    async def mount(self, digest: Digest, source: str) -> bool:  # noqa: ARG002 - the port's signature
        """Say no: `has_blob` looks at all repositories already."""
        return False

    async def take_blob(self, blob: Descriptor, reader: SpoolReader) -> None:
        """Link the spool's file; copy when the spool reads somebody else's file in place.

        Raises:
            DigestError: that file was changed after it had been verified; the store serves all mirrors.
        """
        file = await reader.whole()
        self._brought.add(blob.digest)
        if not reader.in_place:
            await self._store.adopt(blob.digest, file)
            return
        await self.expect([blob])
        copy, hasher = self._scratch / f"{blob.digest.hex}.{secrets.token_hex(4)}", blob.digest.hasher()
        try:
            with storage_errors(str(copy)), copy.open("wb") as out:
                async for chunk in reader.chunks():
                    hasher.update(chunk)
                    out.write(chunk)
            if hasher.hexdigest() != blob.digest.hex:
                raise DigestError(f"{reader.spool.source}: changed while it was read; the next run reads it again")
            await self._store.adopt(blob.digest, copy)
        finally:
            copy.unlink(missing_ok=True)

    async def put_manifest(self, manifest: Manifest) -> None:
        """Keep the bytes; they are linked when something is named."""
        await self._store.put(manifest.digest, manifest.body)
        refs = tuple(one.digest for one in (*manifest.children, *manifest.blobs))
        subject = manifest.subject.digest if manifest.subject else ""
        self._fresh[manifest.digest] = ManifestRef(manifest.media_type, len(manifest.body), refs, subject)

    async def publish(self, manifest: Manifest, names: Sequence[str]) -> None:
        """Link what is new of it and set all tags in one atomic step; what other images brought is theirs to link.

        Raises:
            StorageError: something of it is not there any more, or the disk said no.
        """
        fresh = self._reached(manifest.digest)
        refs = {ref for link in fresh.values() for ref in link.refs}
        if lost := await self._store.missing(fresh.keys() | refs):
            raise StorageError(
                f"{self.repository}: lost {min(lost)} again before it had a name; the next run brings it"
            )
        await self._repositories.publish(self.repository, fresh, dict.fromkeys(names, manifest.digest))
        for digest in fresh:
            self._fresh.pop(digest, None)

    def _reached(self, root: Digest) -> dict[Digest, ManifestRef]:
        """Return those of the new manifests that `root` reaches, itself included."""
        found: dict[Digest, ManifestRef] = {}
        left = [root]
        while left:
            one = left.pop()
            if one in self._fresh and one not in found:
                found[one] = self._fresh[one]
                left += found[one].refs
        return found

    async def expect(self, blobs: Sequence[Descriptor]) -> None:
        """Compare what the store lacks with the room on its disk."""
        sizes = {blob.digest: blob.size for blob in blobs}
        need = sum(sizes[digest] for digest in await self._store.missing(sizes))
        if need > (left := self._spare() if need else 0):
            raise StorageError(
                f"{self.repository}: {need} bytes are to be kept, and the disk has {left} left; make room"
            )

    async def discard(self) -> None:
        """Remove what this run brought and no repository links; content of other runs is brought again by the next."""
        linked = await self._repositories.linked()
        for digest in (self._brought | self._fresh.keys()) - linked:
            await self._store.remove(digest)
        self._brought.clear()
        self._fresh.clear()

    async def remove(self, names: Sequence[str]) -> None:
        """Take names away; what they stood for stays linked."""
        while state := await self._repositories.state(self.repository):
            tags = {name: digest for name, digest in state.tags.items() if name not in names}
            with contextlib.suppress(ConflictError):  # somebody published meanwhile
                await self._repositories.publish(
                    self.repository, state.manifests, tags, exactly=True, expect=state.revision
                )
                return
