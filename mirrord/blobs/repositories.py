"""The port of names: what the repositories of the `local` targets hold.

A repository links digests: its tags name manifests, its manifests refer to further content. What
a repository does not link is not in it, although another one may hold the same digest
(CVE-2024-39897: authorise by link, not by existence).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from mirrord.blobs.store import BlobStore
from mirrord.model.digest import Digest

ABSENT = ""
"""The revision of a repository that does not exist."""


@dataclass(frozen=True, slots=True)
class ManifestRef:
    """A manifest that a repository holds.

    Attributes:
        media_type: to be served with.
        size: bytes.
        refs: digests of the content that it refers to.
        subject: digest of the manifest that it is about (a referrer), "" for none; None where that was not written
            down (before 0.2).
    """

    media_type: str
    size: int
    refs: tuple[Digest, ...] = ()
    subject: str | None = ""


@dataclass(frozen=True)
class RepositoryState:
    """All that one repository links, at one revision."""

    tags: Mapping[str, Digest] = field(default_factory=dict)
    manifests: Mapping[Digest, ManifestRef] = field(default_factory=dict)
    revision: str = field(default=ABSENT, compare=False)

    @cached_property
    def names(self) -> Sequence[str]:
        """The tags, sorted: once for all who list this revision."""
        return sorted(self.tags)

    @cached_property
    def content(self) -> frozenset[Digest]:
        """Digests of everything that is reachable in this repository, manifests and blobs."""
        return frozenset(self.manifests) | {ref for link in self.manifests.values() for ref in link.refs}


class Repositories(Protocol):
    """Repositories by name (a valid OCI name). Who asks for one thing shall not pay for all.

    All of it raises StorageError where what is kept cannot be read; it says what that is.
    """

    async def exists(self, repository: str) -> bool:
        """Say whether there is such a repository."""

    async def tag(self, repository: str, name: str) -> Digest | None:
        """Return what a tag names, or None."""

    async def manifest(self, repository: str, digest: Digest) -> ManifestRef | None:
        """Return what is known of a manifest that the repository holds, or None."""

    async def links(self, repository: str, digest: Digest) -> bool:
        """Say whether this is a manifest that the repository holds, or content that one of those refers to."""

    async def state(self, repository: str) -> RepositoryState | None:
        """Return everything that a repository links, or None when there is no such repository."""

    async def names(self) -> Sequence[str]:
        """Return the names of all repositories, sorted."""

    async def linked(self) -> frozenset[Digest]:
        """Return the digests of everything that some repository links.

        Raises:
            StorageError: one cannot be read: then nothing may be taken for unlinked.
        """

    async def publish(
        self,
        repository: str,
        manifests: Mapping[Digest, ManifestRef],
        tags: Mapping[str, Digest],
        *,
        exactly: bool = False,
        expect: str | None = None,
    ) -> str:
        """Add manifests and set tags in one atomic step, durably: readers see all of it or nothing.

        Every blob and manifest that they refer to MUST be in the store already. With `exactly` the repository
        then holds these and nothing else. Returns the new revision.

        Raises:
            ConflictError: the repository is not at the revision `expect`; nothing was changed.
            StorageError: the disk said no; readers see what was there before, or all of it.
        """


async def is_complete(repositories: Repositories, store: BlobStore, repository: str, digest: Digest) -> bool:
    """Whether a linked manifest and all that it reaches are in the store, so that a lost file is brought again."""
    reached: set[Digest] = set()
    left = [digest]
    while left:
        reached.add(found := left.pop())
        manifest = await repositories.manifest(repository, found)
        if manifest is not None:
            left += [ref for ref in manifest.refs if ref not in reached]
        elif found == digest:
            return False
    return not await store.missing(reached)
