"""Places that an image can be written to, all with the same few verbs; and registries, the usual one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from mirrord import failpoints
from mirrord.blobs.spool import SpoolReader
from mirrord.errors import RefusedError
from mirrord.model.digest import Digest
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.created import created_at
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import Manifest
from mirrord.wire.oci.referrers import add_referrer


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

    async def created(self, digest: Digest) -> datetime | None:
        """Return when an image that is there was made, or None when it does not say."""
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

    async def take_blob(self, blob: Descriptor, reader: SpoolReader) -> None:
        """Write a blob; whole and verified on return."""
        ...

    async def take_manifest(self, manifest: Manifest) -> None:
        """Write a manifest by digest; all that it refers to MUST be there."""
        ...

    async def publish(self, manifest: Manifest, names: Sequence[str]) -> None:
        """Let all of `names`, in this order, stand for a manifest that is there."""
        ...


@runtime_checkable
class Keeping(Protocol):
    """A destination on our own disk."""

    def expect(self, blobs: Sequence[Descriptor]) -> None:
        """Say which blobs are to come.

        Raises:
            StorageError: those that are not there yet do not fit.
        """
        ...

    async def discard(self) -> None:
        """Take away what was brought and has no name: our disk had no room for the rest."""
        ...


class RegistryDestination:
    """A repository of an OCI registry."""

    def __init__(self, client: Repository, host: str, repository: str) -> None:
        """Write through `client`."""
        self._client = client
        self.host = host
        self.repository = repository
        self._listing = asyncio.Lock()
        self._listed: set[Digest] = set()

    async def named(self, name: str) -> Digest | None:
        """HEAD by tag."""
        head = await self._client.head_manifest(name)
        return head.digest if head else None

    async def created(self, digest: Digest) -> datetime | None:
        """GET the manifest, and its config or one child when it does not say."""
        return await created_at(self._client, digest)

    async def has_manifest(self, digest: Digest) -> bool:
        """HEAD by digest; registries take no manifest whose content they lack.

        One that refuses to say is asked whether we may push, so that nothing is read for it in vain; its answers to
        the uploads decide then (Artifactory behind a proxy denies every HEAD: google/go-containerregistry#1691).
        """
        try:
            return await self._client.head_manifest(digest) is not None
        except RefusedError:
            await self._client.may_push()
            return False

    async def has_blob(self, blob: Descriptor) -> bool:
        """HEAD."""
        return await self._client.has_blob(blob.digest) is not None

    async def mount(self, blob: Descriptor, repository: str) -> bool:
        """POST with `mount` and `from`."""
        return await self._client.mount(blob.digest, repository)

    async def take_blob(self, blob: Descriptor, reader: SpoolReader) -> None:
        """POST, then one PUT that streams as the source does, begun when there is enough to send."""
        await reader.worth_sending()
        await self._client.put_blob(blob, reader.chunks)

    async def take_manifest(self, manifest: Manifest) -> None:
        """PUT by digest; what is about another manifest is listed under a tag where the registry does not list it."""
        listed = await self._client.put_manifest(manifest, manifest.digest)
        if manifest.subject and not listed:
            async with self._listing:
                await add_referrer(self._client, manifest)
        self._listed.add(manifest.digest)

    async def publish(self, manifest: Manifest, names: Sequence[str]) -> None:
        """PUT by each tag.

        What is about another manifest and was there already is first PUT by digest once more: the attempt that brought
        it may have ended before it was listed, and only the answer to a PUT says who has to list it.
        """
        if manifest.subject and manifest.digest not in self._listed:
            await self.take_manifest(manifest)
        for name in names:
            await self._client.put_manifest(manifest, name)
            failpoints.hit("push.tag")
