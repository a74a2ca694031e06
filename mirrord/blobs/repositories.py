"""The port of repositories: the names and links of the `local` targets.

A repository links digests: its tags name manifests, its manifests refer to further content. Content
that a repository does not link is not in it, even if another one holds the same digest
(CVE-2024-39897: authorise by link, not by existence).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol

from mirrord.blobs.store import BlobStore
from mirrord.model.digest import Digest

if TYPE_CHECKING:
    from mirrord.blobs.leases import Lease

ABSENT = ""
"""The revision of a repository that does not exist."""
DROPPED: Final = 10_000
"""Tags of a repository that are known to have been dropped, at most."""


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


@dataclass(frozen=True, slots=True)
class DroppedTag:
    """A tag that was dropped, so that it does not come back with the same digest.

    Attributes:
        digest: what it named.
        tagged: when it got that, in seconds since 1970.
        at: when it was dropped.
    """

    digest: Digest
    tagged: int
    at: int


@dataclass(frozen=True)
class RepositoryState:
    """All links of one repository at one revision, and when they came, in seconds since 1970.

    Attributes:
        tags: what they name.
        manifests: the manifests in the repository.
        revision: changes with every publication.
        tagged: when each tag got its digest; those that came before times were noted are not in it.
        lost: when manifests last lost a tag.
        dropped: tags that were dropped since, and did not come back.
    """

    tags: Mapping[str, Digest] = field(default_factory=dict)
    manifests: Mapping[Digest, ManifestRef] = field(default_factory=dict)
    revision: str = field(default=ABSENT, compare=False)
    tagged: Mapping[str, int] = field(default_factory=dict, compare=False)
    lost: Mapping[Digest, int] = field(default_factory=dict, compare=False)
    dropped: Mapping[str, DroppedTag] = field(default_factory=dict, compare=False)

    @cached_property
    def names(self) -> Sequence[str]:
        """The tags, sorted once per revision."""
        return sorted(self.tags)

    @cached_property
    def content(self) -> frozenset[Digest]:
        """Digests of everything that is reachable in this repository, manifests and blobs."""
        return frozenset(self.manifests) | {ref for link in self.manifests.values() for ref in link.refs}


@dataclass(frozen=True, slots=True)
class Addition:
    """What is published in one step.

    Attributes:
        manifests: to add.
        tags: to set.
    """

    manifests: Mapping[Digest, ManifestRef] = field(default_factory=dict)
    tags: Mapping[str, Digest] = field(default_factory=dict)


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

        Every blob and manifest that they refer to MUST be in the store already, and the caller MUST have had a lease on
        it since before it looked for it. With `exactly` the repository then contains nothing else. Returns the new
        revision.

        Raises:
            ConflictError: the repository is not at the revision `expect`; nothing was changed.
            StorageError: the disk failed; readers see the old state, or all of the new one.
        """

    async def drop(
        self,
        repository: str,
        tags: Mapping[str, Digest],
        manifests: Collection[Digest] = (),
        *,
        about: Mapping[str, Digest] | None = None,
        expect: str | None = None,
        instead: Addition | None = None,
    ) -> tuple[frozenset[str], frozenset[Digest]]:
        """Remove tags and manifests in one atomic step, durably, with what only they need. Content stays in the store.

        The manifests of the tags go, and so do `manifests`, unless something that stays refers to them. Signatures and
        other referrers go with their subject. A tag stays if it names another digest by now; what somebody has a lease
        on stays, and so do the tags `about` it. The repository knows which tags were dropped until they are set again.

        `instead` is published in the same step, as by `publish`, such as an index that lists them no more: then all
        tags go but those `about` others, or nothing is changed.

        Returns the tags and manifests that are gone.

        Raises:
            ConflictError: the repository is not at the revision `expect`, or not all can go; nothing was changed.
            StorageError: as `publish`.
        """

    async def remove_unlinked(self, store: BlobStore, digests: Collection[Digest], lease: Lease) -> None:
        """Remove from the store those of these that no repository links and nobody else has a lease on.

        Raises:
            StorageError: as `linked` and `BlobStore.remove`.
        """

    def lease(self) -> Lease:
        """Return a lease: whoever brings content takes it before the look whether the store has it already."""


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
    return not await store.missing(reached, linked=True)


def reached(state: RepositoryState) -> frozenset[Digest]:
    """Return the digests of everything that the tags of a repository reach."""
    found, left = set[Digest](), list(state.tags.values())
    while left:
        if (digest := left.pop()) not in found:
            found.add(digest)
            left += state.manifests[digest].refs if digest in state.manifests else ()
    return frozenset(found)
