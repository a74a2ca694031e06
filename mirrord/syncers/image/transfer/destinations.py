"""Places that an image can be written to, all with the same few verbs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

from mirrord.blobs.reader import SpoolReader
from mirrord.model.digest import Digest
from mirrord.wire.oci.created import Readable
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import Manifest


class Destination(Readable, Protocol):
    """One repository at one place.

    Attributes:
        host: where blobs may be mounted from another repository; "" where there is no such thing.
        repository: its name there.
        naming_writes: whether `publish` writes a manifest that is not there, too.
    """

    host: str
    repository: str
    naming_writes: bool

    async def head_manifest(self, ref: str, deadline: float | None = None) -> Descriptor | None:
        """Return what a name or a digest stands for, or None."""

    async def has_manifest(self, digest: Digest) -> bool:
        """Whether a manifest is there, and so all that it refers to."""

    async def has_blob(self, blob: Descriptor) -> bool:
        """Whether a blob is there."""

    async def mount(self, digest: Digest, source: str) -> bool:
        """Take a blob over from another repository of the same host; False when that cannot be done."""

    async def put_manifest(self, manifest: Manifest) -> None:
        """Write a manifest by digest; all that it refers to MUST be there."""

    async def publish(self, manifest: Manifest, names: Sequence[str]) -> None:
        """Let all of `names`, in this order, stand for a manifest that is there."""

    async def remove(self, names: Sequence[str]) -> None:
        """Take names away and nothing else; those that are not there are no error.

        Raises:
            GuardError: that cannot be done here without losing more.
        """


class Streamed(Destination, Protocol):
    """A destination that blobs are sent to."""

    keeps: Literal[False]

    async def put_blob(self, descriptor: Descriptor, opened: Callable[[], AsyncIterator[bytes]], /) -> None:
        """Write a blob; whole and verified on return. `opened` is called once for each attempt."""


@runtime_checkable
class Collecting(Destination, Protocol):
    """A destination on a disk of ours, where naming many images at once costs no more than naming one."""

    async def publish_all(self, images: Sequence[tuple[Manifest, Sequence[str]]]) -> None:
        """Let names stand for manifests that are there, in one step; of names that come twice the last one counts."""


class Keeping(Destination, Protocol):
    """A destination on our own disk, where what was spooled already lies."""

    keeps: Literal[True]

    async def take_blob(self, blob: Descriptor, reader: SpoolReader) -> None:
        """Keep a blob; whole and verified on return."""

    async def expect(self, blobs: Sequence[Descriptor]) -> None:
        """Say which blobs are to come.

        Raises:
            StorageError: those that are not there yet do not fit.
        """

    async def discard(self) -> None:
        """Take away what was brought and has no name: our disk had no room for the rest."""


async def send_blob(destination: Streamed | Keeping, blob: Descriptor, reader: SpoolReader) -> None:
    """Let a destination have a blob from its spool; sending begins when there is enough to send."""
    if destination.keeps:
        await destination.take_blob(blob, reader)
    else:
        await reader.worth_sending()
        await destination.put_blob(blob, reader.chunks)
