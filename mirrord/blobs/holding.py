"""What a repository of the `local` store really has: links say what should be there, the store what is."""

from __future__ import annotations

from mirrord.blobs.repositories import RepositoryState
from mirrord.blobs.store import BlobStore
from mirrord.model.digest import Digest


def whole(linked: RepositoryState, store: BlobStore, digest: str) -> bool:
    """Whether a linked manifest and all that it reaches are in the store, so that a lost file is brought again."""
    if digest not in linked.manifests:
        return False
    seen: set[str] = set()
    left = [Digest(digest)]
    while left:
        one = left.pop()
        if one in seen:
            continue
        if store.path(one) is None:
            return False
        seen.add(one)
        if one in linked.manifests:
            left += linked.manifests[one].refs
    return True
