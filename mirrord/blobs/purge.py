"""Removes names, links and content from a store of ours at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from mirrord.blobs.repositories import Repositories, RepositoryState
from mirrord.blobs.store import BlobStore
from mirrord.errors import ConflictError
from mirrord.model.digest import Digest

Going = Callable[[str, RepositoryState], tuple[Mapping[str, Digest], Collection[Digest]]]
"""Returns the tags and manifests of a repository that go; see `Repositories.drop`."""


async def purge(repositories: Repositories, store: BlobStore, going: Going) -> int:
    """Remove something from all repositories, and content that none of them links any more.

    What a run under way needs stays until it has ended: purge once more then.

    Returns:
        The number of tags and manifests that are gone.

    Raises:
        StorageError: the disk failed.
    """
    gone, content = 0, set[Digest]()
    for name in await repositories.names():
        state = await repositories.state(name)
        tags, manifests = going(name, state) if state else ({}, ())
        if state is None or not (tags or manifests):
            continue
        with suppress(ConflictError):  # somebody published meanwhile
            names, lost = await repositories.drop(name, tags, manifests)
            content |= lost | {ref for digest in lost for ref in state.manifests[digest].refs}
            gone += len(names) + len(lost)
    if content:
        lease = repositories.lease()
        await repositories.remove_unlinked(store, content, lease)
    return gone
