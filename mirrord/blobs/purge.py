"""Removes names, links and content from a store of ours at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from mirrord.blobs.repositories import Repositories, RepositoryState
from mirrord.blobs.store import BlobStore
from mirrord.errors import ConflictError
from mirrord.model.digest import Digest

_AT_ONCE = 64  # digests in one turn of the loop
Going = Callable[[str, RepositoryState], tuple[Mapping[str, Digest], Collection[Digest]]]
"""Returns the tags and manifests of a repository that go; see `Repositories.drop`. Called in a thread."""


async def purge(
    repositories: Repositories, store: BlobStore, going: Going, give_up: Callable[[Digest], None] = lambda _: None
) -> int:
    """Remove something from all repositories, and content that none of them links any more.

    What a run under way needs stays until it has ended: purge once more then.

    Args:
        repositories: those.
        store: has their content.
        going: says what goes.
        give_up: is told of all content that may have gone, for spools: their name of the same file would keep the
            bytes on the disk.

    Returns:
        The number of tags and manifests that are gone.

    Raises:
        StorageError: the disk failed.
    """
    gone, content = 0, set[Digest]()
    for name in await repositories.names():
        state = await repositories.state(name)
        tags, manifests = await asyncio.to_thread(going, name, state) if state else ({}, ())
        if state is None or not (tags or manifests):
            continue
        with suppress(ConflictError):  # somebody published meanwhile
            names, lost = await repositories.drop(name, tags, manifests)
            content |= lost | {ref for digest in lost for ref in state.manifests[digest].refs}
            gone += len(names) + len(lost)
    if content:
        await let_go(repositories, store, content, give_up)
    return gone


async def let_go(
    repositories: Repositories, store: BlobStore, content: Collection[Digest], give_up: Callable[[Digest], None]
) -> None:
    """Remove content that no repository links, also from spools; see `purge`, also for errors."""
    await repositories.remove_unlinked(store, content, repositories.lease())
    for number, digest in enumerate(content, 1):
        give_up(digest)
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)  # thousands must not block the loop
