"""Places that an image can be written to, with one interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

from mirrord.blobs.reader import SpoolReader
from mirrord.errors import MirrordError
from mirrord.model.digest import Digest
from mirrord.wire.oci.created import Readable
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import Manifest


class Destination(Readable, Protocol):
    """One repository at one place.

    Attributes:
        host: where blobs may be mounted from another repository; "" if that is not possible.
        repository: its name there.
        naming_writes: whether `publish` also writes a missing manifest.
    """

    host: str
    repository: str
    naming_writes: bool

    async def head_manifest(self, ref: str, deadline: float | None = None) -> Descriptor | None:
        """Return the manifest of a name or digest, or None."""

    async def has_manifest(self, digest: Digest) -> bool:
        """Whether a manifest exists, and so everything that it refers to."""

    async def has_blob(self, blob: Descriptor) -> bool:
        """Whether a blob exists."""

    async def mount(self, digest: Digest, source: str) -> bool:
        """Mount a blob from another repository of the same host; return False if that fails."""

    async def put_manifest(self, manifest: Manifest) -> None:
        """Write a manifest by digest; everything that it refers to MUST exist."""

    async def publish(self, manifest: Manifest, names: Sequence[str]) -> None:
        """Set all of `names`, in this order, to an existing manifest."""


class Streamed(Destination, Protocol):
    """A destination that blobs are sent to."""

    keeps: Literal[False]

    async def put_blob(self, descriptor: Descriptor, opened: Callable[[], AsyncIterator[bytes]], /) -> None:
        """Write a blob; complete and verified on return. `opened` is called once for each attempt."""


@runtime_checkable
class Collecting(Destination, Protocol):
    """A destination on a local disk, where naming many images at once costs no more than naming one."""

    async def publish_all(self, images: Sequence[tuple[Manifest, Sequence[str]]]) -> None:
        """Set names to existing manifests in one step; the last of duplicate names counts."""


@runtime_checkable
class Relisting(Destination, Protocol):
    """A destination where clients may have to keep the lists of referrers, and may overwrite those of others."""

    async def relist(self, subject: Digest) -> None:
        """Look once more whether what was written about a manifest is listed, and list it again if not."""


class Keeping(Destination, Protocol):
    """A destination on the disk of the spool."""

    keeps: Literal[True]

    async def take_blob(self, blob: Descriptor, reader: SpoolReader) -> None:
        """Store a blob; complete and verified on return."""

    async def links(self, digest: Digest) -> bool:
        """Whether this repository has content, and not only another one on the same disk."""

    async def expect(self, blobs: Sequence[Descriptor]) -> None:
        """Announce the blobs to come.

        Raises:
            StorageError: the missing ones do not fit.
        """

    def release(self) -> None:
        """Let others remove what this run brought or relied on, and did not name; to be called at its end."""

    async def discard(self) -> None:
        """Remove content of this run without a name, after the disk was full."""


async def send_blob(destination: Streamed | Keeping, blob: Descriptor, reader: SpoolReader) -> None:
    """Send a blob from its spool to a destination; sending begins when enough is available."""
    if destination.keeps:
        await destination.take_blob(blob, reader)
    else:
        await reader.worth_sending()
        await destination.put_blob(blob, reader.chunks)


async def send_config(destination: Streamed | Keeping, blob: Descriptor, reader: SpoolReader) -> bytes:
    """Send the config of an image as `send_blob` does, and return it; b"" if a local one cannot be read again."""
    if destination.keeps:
        await destination.take_blob(blob, reader)
        try:
            return await destination.get_blob(blob)
        except MirrordError:
            return b""
    sent = bytearray()

    async def chunks() -> AsyncIterator[bytes]:
        sent.clear()
        async for chunk in reader.chunks():
            sent.extend(chunk)
            yield chunk

    await reader.worth_sending()
    await destination.put_blob(blob, chunks)
    return bytes(sent)
