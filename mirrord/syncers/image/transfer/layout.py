"""An OCI layout folder as a destination."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mirrord.blobs.spool import SpoolReader
from mirrord.model.digest import Digest
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.layout_writer import LayoutWriter
from mirrord.wire.oci.manifest import Manifest


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

    async def created(self, digest: Digest) -> datetime | None:  # noqa: ARG002 - the port's signature
        """Say nothing: whoever copies into a layout means it."""
        return None

    async def has_manifest(self, digest: Digest) -> bool:
        """Look at the file; the writer takes no manifest whose content it lacks."""
        return await self._writer.head_manifest(digest) is not None

    async def has_blob(self, blob: Descriptor) -> bool:
        """Look at the file."""
        return await self._writer.has_blob(blob.digest) == blob.size

    async def mount(self, blob: Descriptor, repository: str) -> bool:  # noqa: ARG002 - the port's signature
        """Say no."""
        return False

    async def take_blob(self, blob: Descriptor, reader: SpoolReader) -> None:
        """Write the file."""
        await self._writer.put_blob(blob, reader.chunks)

    async def take_manifest(self, manifest: Manifest) -> None:
        """Write the file."""
        await self._writer.put_manifest(manifest, manifest.digest)

    async def publish(self, manifest: Manifest, names: Sequence[str]) -> None:
        """Write the index; without any name it is the one image without a name."""
        for name in names or (None,):
            await self._writer.publish(manifest, name)
