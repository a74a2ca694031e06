"""Places that an image can be written to, all with the same few verbs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mirrord import failpoints
from mirrord.blobs.files import storage_errors
from mirrord.blobs.links import Link, Linked, Links
from mirrord.blobs.spool import Reader
from mirrord.blobs.store import BlobStore
from mirrord.model import Digest
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.layout_writer import LayoutWriter
from mirrord.wire.oci.manifest import Descriptor, Manifest


class Destination(Protocol):
    """One repository at one place.

    Attributes:
        host: where blobs may be mounted from another repository; "" where there is no such thing.
        repository: its name there.
    """

    host: str
    repository: str

    async def named(self, name: str) -> Digest | None:
        """Return what `name` stands for, or None."""
        ...

    async def has_manifest(self, digest: Digest) -> bool:
        """Whether a manifest is there, and so all that it refers to."""
        ...

    async def has_blob(self, blob: Descriptor) -> bool:
        """Whether a blob is there."""
        ...

    async def mount(self, blob: Descriptor, repository: str) -> bool:
        """Take a blob over from another repository of the same host; False when that cannot be done."""
        ...

    async def take_blob(self, blob: Descriptor, reader: Reader) -> None:
        """Write a blob; whole and verified on return."""
        ...

    async def take_manifest(self, manifest: Manifest) -> None:
        """Write a manifest by digest; all that it refers to MUST be there."""
        ...

    async def publish(self, manifest: Manifest, names: Sequence[str]) -> None:
        """Let all of `names`, in this order, stand for a manifest that is there."""
        ...


class RegistryDestination:
    """A repository of an OCI registry."""

    def __init__(self, client: Repository, host: str, repository: str) -> None:
        """Write through `client`."""
        self._client = client
        self.host = host
        self.repository = repository

    async def named(self, name: str) -> Digest | None:
        """HEAD by tag."""
        head = await self._client.head_manifest(name)
        return head.digest if head else None

    async def has_manifest(self, digest: Digest) -> bool:
        """HEAD by digest; registries take no manifest whose content they lack."""
        return await self._client.head_manifest(digest) is not None

    async def has_blob(self, blob: Descriptor) -> bool:
        """HEAD."""
        return await self._client.has_blob(blob.digest) is not None

    async def mount(self, blob: Descriptor, repository: str) -> bool:
        """POST with `mount` and `from`."""
        return await self._client.mount(blob.digest, repository)

    async def take_blob(self, blob: Descriptor, reader: Reader) -> None:
        """POST, then one PUT that streams as the source does, begun when there is enough to send."""
        await reader.spool.worth_sending()
        await self._client.put_blob(blob, reader.chunks)

    async def take_manifest(self, manifest: Manifest) -> None:
        """PUT by digest."""
        await self._client.put_manifest(manifest, manifest.digest)

    async def publish(self, manifest: Manifest, names: Sequence[str]) -> None:
        """PUT by each tag."""
        for name in names:
            await self._client.put_manifest(manifest, name)
            failpoints.hit("push.tag")


class LayoutDestination:
    """An OCI layout folder."""

    host = ""

    def __init__(self, writer: LayoutWriter, repository: str) -> None:
        """Write through `writer`; `repository` is for people."""
        self._writer = writer
        self.repository = repository

    async def named(self, name: str) -> Digest | None:
        """Look into the index."""
        head = await self._writer.head_manifest(name)
        return head.digest if head else None

    async def has_manifest(self, digest: Digest) -> bool:
        """Look at the file; the writer takes no manifest whose content it lacks."""
        return await self._writer.head_manifest(digest) is not None

    async def has_blob(self, blob: Descriptor) -> bool:
        """Look at the file."""
        return await self._writer.has_blob(blob.digest) == blob.size

    async def mount(self, blob: Descriptor, repository: str) -> bool:  # noqa: ARG002 - the port's signature
        """Say no."""
        return False

    async def take_blob(self, blob: Descriptor, reader: Reader) -> None:
        """Write the file."""
        await self._writer.put_blob(blob, reader.chunks)

    async def take_manifest(self, manifest: Manifest) -> None:
        """Write the file."""
        await self._writer.put_manifest(manifest, manifest.digest)

    async def publish(self, manifest: Manifest, names: Sequence[str]) -> None:
        """Write the index; without any name it is the one image without a name."""
        for name in names or (None,):
            await self._writer.publish(manifest, name)


class LocalDestination:
    """A repository of mirrord's own store."""

    host = ""

    def __init__(self, store: BlobStore, links: Links, repository: str, scratch: Path) -> None:
        """Keep content in `store` and names in `links`."""
        self._store = store
        self._links = links
        self._scratch = scratch
        self._fresh: dict[Digest, Link] = {}
        self.repository = repository

    @property
    def _linked(self) -> Linked:
        return self._links.get(self.repository) or Linked()

    async def named(self, name: str) -> Digest | None:
        """Look into the repository's file."""
        return self._linked.tags.get(name)

    async def has_manifest(self, digest: Digest) -> bool:
        """Look into the repository's file: what it links is whole."""
        return digest in self._fresh or digest in self._linked.manifests

    async def has_blob(self, blob: Descriptor) -> bool:
        """Look into the store."""
        return self._store.path(blob.digest) is not None

    async def mount(self, blob: Descriptor, repository: str) -> bool:  # noqa: ARG002 - the port's signature
        """Say no: `has_blob` looks at all repositories already."""
        return False

    async def take_blob(self, blob: Descriptor, reader: Reader) -> None:
        """Link the spool's file; copy when the spool reads somebody else's file in place."""
        file = await reader.whole()
        if reader.spool.wanted.file is None:
            await self._store.adopt(blob.digest, file)
            return
        copy = self._scratch / f"{blob.digest.hex}.{secrets.token_hex(4)}"
        try:
            with storage_errors(str(copy)), copy.open("wb") as out:
                async for chunk in reader.chunks():
                    out.write(chunk)
            await self._store.adopt(blob.digest, copy)
        finally:
            copy.unlink(missing_ok=True)

    async def take_manifest(self, manifest: Manifest) -> None:
        """Keep the bytes; they are linked when something is named."""
        await self._store.put(manifest.digest, manifest.body)
        refs = tuple(one.digest for one in (*manifest.children, *manifest.blobs))
        self._fresh[manifest.digest] = Link(manifest.media_type, len(manifest.body), refs)

    async def publish(self, manifest: Manifest, names: Sequence[str]) -> None:
        """Link everything new and set all tags in one atomic step."""
        await self._links.publish(self.repository, self._fresh, dict.fromkeys(names, manifest.digest))
