"""The port of repositories: the names and links of the `local` targets.

A repository links digests: its tags name manifests, its manifests refer to further content. Content
that a repository does not link is not in it, even if another one holds the same digest
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
    """A manifest in a repository.

    Attributes:
        media_type: to be served with.
        size: bytes.
        refs: digests of the content that it refers to.
        subject: digest of its subject (it is a referrer), "" for none; None if that was not recorded (before 0.2).
    """

    media_type: str
    size: int
    refs: tuple[Digest, ...] = ()
    subject: str | None = ""


@dataclass(frozen=True)
class RepositoryState:
    """All links of one repository at one revision."""

    tags: Mapping[str, Digest] = field(default_factory=dict)
    manifests: Mapping[Digest, ManifestRef] = field(default_factory=dict)
    revision: str = field(default=ABSENT, compare=False)

    @cached_property
    def names(self) -> Sequence[str]:
        """The tags, sorted once per revision."""
        return sorted(self.tags)

    @cached_property
    def content(self) -> frozenset[Digest]:
        """Digests of everything that is reachable in this repository, manifests and blobs."""
        return frozenset(self.manifests) | {ref for link in self.manifests.values() for ref in link.refs}


class Repositories(Protocol):
    """Repositories by name (a valid OCI name). A query for one thing must not cost as much as one for all.

    Every method raises StorageError naming the file that cannot be read.
    """

    async def exists(self, repository: str) -> bool:
        """Return whether the repository exists."""

    async def tag(self, repository: str, name: str) -> Digest | None:
        """Return the digest of a tag, or None."""

    async def manifest(self, repository: str, digest: Digest) -> ManifestRef | None:
        """Return the entry of a manifest in the repository, or None."""

    async def links(self, repository: str, digest: Digest) -> bool:
        """Return whether this is a manifest in the repository, or content that one of them refers to."""

    async def state(self, repository: str) -> RepositoryState | None:
        """Return all links of a repository, or None if it does not exist."""

    async def names(self) -> Sequence[str]:
        """Return the names of all repositories, sorted."""

    async def linked(self) -> frozenset[Digest]:
        """Return the digests that any repository links.

        Raises:
            StorageError: one cannot be read, so nothing may be regarded as unlinked.
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
        then contains nothing else. Returns the new revision.

        Raises:
            ConflictError: the repository is not at the revision `expect`; nothing was changed.
            StorageError: the disk failed; readers see the old state, or all of the new one.
        """


async def is_complete(repositories: Repositories, store: BlobStore, repository: str, digest: Digest) -> bool:
    """Whether a linked manifest and all that it reaches are in the store, so that a lost file is copied again."""
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
