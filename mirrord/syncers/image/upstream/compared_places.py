"""The places that are compared with the record: read only, with the rights of a client that pulls."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from mirrord.blobs.repositories import RepositoryState
from mirrord.blobs.store import Remote, Stored, read_stored
from mirrord.errors import DigestError, MissingError, StorageError
from mirrord.files import LocalFile
from mirrord.model.digest import Digest
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.image.names import image_name, target_place
from mirrord.syncers.image.plan.steps import Referrer
from mirrord.syncers.image.upstream.referrers import RepositoryReferrers, referrers_apis
from mirrord.transfer.execute import TURN
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.layout import Layout, blob_name
from mirrord.wire.oci.layout_writer import LayoutWriter
from mirrord.wire.oci.manifest import LIMIT, Manifest
from mirrord.wire.oci.reference import COSIGN, referrers_tag, subject_tag


class Place(Protocol):
    """One repository at a target. Every method raises `MissingError` or `ContentError` only for what is wrong there."""

    def called(self, name: str) -> str:
        """Return a tag or digest with the repository in front."""

    async def digest_of(self, name: str) -> Digest | None:
        """Return what a tag or digest stands for, or None."""

    async def manifest(self, digest: Digest) -> Manifest:
        """Read a manifest and check its bytes."""

    async def check(self, blob: Descriptor) -> None:
        """Check that a blob is there with its size."""

    async def read(self, blob: Descriptor) -> int:
        """Read a blob, check its bytes, and return their number."""

    async def about(self, subject: Digest, now: datetime) -> Sequence[Referrer]:
        """Return what the place lists about a manifest."""


def place_of(mirror: Mirror, target: Target, services: Services) -> Place:
    """Return the place of a mirror of one repository at a target.

    Raises:
        StorageError: it is `local` without a state directory.
        ConfigError: the configuration has no place for it.
    """
    if target.name == LOCAL:
        return _Local(services, image_name(mirror))
    place = target_place(mirror, target)
    return _Layout(place) if isinstance(place, Path) else _Registry(Repository(services.http, place), services)


class _Registry:
    """A repository of a registry."""

    def __init__(self, repository: Repository, services: Services) -> None:
        self._repository = repository
        self._apis = services.once(referrers_apis)
        self._about: RepositoryReferrers | None = None

    def called(self, name: str) -> str:
        return f"{self._repository.reference.name}{'@' if ':' in name else ':'}{name}"

    async def digest_of(self, name: str) -> Digest | None:
        head = await self._repository.head_manifest(name)
        return head.digest if head else None

    async def manifest(self, digest: Digest) -> Manifest:
        return await self._repository.get_manifest(digest)

    async def check(self, blob: Descriptor) -> None:
        if not await self._repository.has_blob(blob):  # not there, or the answer has no size: a GET says which
            async with self._repository.open_blob(blob):
                return

    async def read(self, blob: Descriptor) -> int:
        hasher, count = blob.digest.hasher(), 0
        async with self._repository.open_blob(blob) as (_, chunks):
            async for chunk in chunks:
                hasher.update(chunk)
                count += len(chunk)
                if count > blob.size:
                    break
        _compare(blob, hasher.hexdigest(), count, self._repository.reference.name)
        return count

    async def about(self, subject: Digest, now: datetime) -> Sequence[Referrer]:
        self._about = self._about or RepositoryReferrers(self._repository, self._apis, now)
        return await self._about.of(subject)


class _Files:
    """Content in files of this machine, or in a store of ours."""

    def __init__(self, name: str, find: Callable[[Digest], Awaitable[Stored]]) -> None:
        """Find content by `find`, which raises MissingError."""
        self._name, self._find = name, find

    def called(self, name: str) -> str:
        return f"{self._name}{'@' if ':' in name else ':'}{name}"

    async def check(self, blob: Descriptor) -> None:
        stored = await self._find(blob.digest)
        if stored.size != blob.size:
            raise DigestError(f"{self._name}: {blob.digest} has {stored.size} bytes, not {blob.size}")

    async def read(self, blob: Descriptor) -> int:
        stored = await self._find(blob.digest)
        if isinstance(stored, Remote):
            hasher, count = blob.digest.hasher(), 0
            async for piece in stored.open(0, stored.size):
                hasher.update(piece)
                count += len(piece)
        else:
            hasher, count = await asyncio.to_thread(_hashed, stored, blob.digest)
        _compare(blob, hasher.hexdigest(), count, self._name)
        return count


class _Local(_Files):
    """A repository of `local`."""

    def __init__(self, services: Services, repository: str) -> None:
        if services.blobs is None or services.repositories is None:
            raise StorageError("the local target needs a state directory; set --state")
        super().__init__(f"{LOCAL}/{repository}", self._stored)
        self._store, self._repositories, self._repository = services.blobs, services.repositories, repository
        self._about: Mapping[str, Sequence[Referrer]] | None = None

    async def digest_of(self, name: str) -> Digest | None:
        if ":" not in name:
            return await self._repositories.tag(self._repository, name)
        digest = Digest.parse(name)
        return digest if await self._repositories.manifest(self._repository, digest) else None

    async def manifest(self, digest: Digest) -> Manifest:
        link = await self._repositories.manifest(self._repository, digest)
        if link is None:
            raise MissingError(f"{self._name}: {digest} is not in the repository")
        body = await read_stored(await self._find(digest), LIMIT)
        return await asyncio.to_thread(Manifest.parse, body, link.media_type, digest)

    async def about(self, subject: Digest, now: datetime) -> Sequence[Referrer]:  # noqa: ARG002 - the port's signature
        if self._about is None:
            self._about = await self._all_about()
        return self._about.get(referrers_tag(subject), ())

    async def _all_about(self) -> Mapping[str, Sequence[Referrer]]:
        """Return what is about images, by their `referrers_tag`: a look at each would go through all of them."""
        state = await self._repositories.state(self._repository) or RepositoryState()
        found = defaultdict[str, list[Referrer]](list)
        for number, (digest, link) in enumerate(state.manifests.items()):
            if not number % TURN:
                await asyncio.sleep(0)
            if link.subject:
                entry = Descriptor(link.media_type, digest, link.size)
                found[referrers_tag(Digest(link.subject))].append(Referrer(entry))
        for tag, digest in state.tags.items():
            subject, named = subject_tag(tag), state.manifests.get(digest)
            if subject and tag.removeprefix(subject) in COSIGN and named is not None:
                entry = Descriptor(named.media_type, digest, named.size)
                found[subject].append(Referrer(entry, tag))
        return found

    async def _stored(self, digest: Digest) -> Stored:
        stored = None if await self._store.missing([digest]) else await self._store.find(digest)
        if stored is None:
            raise MissingError(f"{self._name}: {digest} is lost from the disk")
        return stored


class _Layout(_Files):
    """An OCI layout."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"oci:{folder}", self._stored)
        self._folder, self._layout = folder, LayoutWriter(folder)
        self._index: Layout | None = None

    async def digest_of(self, name: str) -> Digest | None:
        head = await self._layout.head_manifest(name)
        return head.digest if head else None

    async def manifest(self, digest: Digest) -> Manifest:
        return await self._layout.get_manifest(digest)

    async def about(self, subject: Digest, now: datetime) -> Sequence[Referrer]:  # noqa: ARG002 - as above
        if self._index is None:
            self._index = await asyncio.to_thread(Layout.open, self._folder)
        found = await asyncio.to_thread(self._index.referrers, subject)
        return [Referrer(descriptor, tag) for descriptor, tag in found]

    async def _stored(self, digest: Digest) -> Stored:
        stored = await asyncio.to_thread(LocalFile.whole, self._folder / blob_name(digest))
        if stored is None:
            raise MissingError(f"{self._name}: {digest} is not there")
        return stored


def _hashed(stored: LocalFile, digest: Digest) -> tuple[hashlib._Hash, int]:
    """Hash a file. Blocks."""
    hasher, count = digest.hasher(), 0
    for piece in stored.pieces():
        hasher.update(piece)
        count += len(piece)
    return hasher, count


def _compare(blob: Descriptor, found: str, count: int, name: str) -> None:
    """Raise DigestError where bytes that were read are not those of a blob."""
    if found != blob.digest.hex:
        raise DigestError(f"{name}: the {count} bytes of {blob.digest} are others than were mirrored")
