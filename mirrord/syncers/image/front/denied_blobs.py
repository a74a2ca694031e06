"""Blobs in `local` that only images have which were taken down: where the record was lost they are still there."""

from __future__ import annotations

import asyncio
from typing import Final
from weakref import WeakKeyDictionary

from mirrord.blobs.repositories import Repositories, RepositoryState
from mirrord.model.digest import Digest
from mirrord.names.denied import Denied, DeniedEntry

_REMEMBERED: Final = 65536
_FREE: WeakKeyDictionary[Repositories, tuple[Denied, set[str]]] = WeakKeyDictionary()
"""What was denied, and repositories that have nothing of it: no run brings that, so nobody looks again."""


async def denying(name: str, digest: Digest, denied: Denied, repositories: Repositories) -> DeniedEntry | None:
    """Return the entry because of which a repository gives no client a blob that it links, or None.

    A blob is not denied by itself: it is given as soon as one manifest there that is not denied refers to it.
    """
    known, free = _FREE.get(repositories, (None, set[str]()))
    if known is not denied or len(free) >= _REMEMBERED:
        free = set()
        _FREE[repositories] = denied, free
    if name in free or (state := await repositories.state(name)) is None:
        return None
    gone = await asyncio.to_thread(_gone, state, denied)
    if not gone:
        free.add(name)
        return None
    return await asyncio.to_thread(_alone, state, gone, digest)


def _gone(state: RepositoryState, denied: Denied) -> dict[Digest, DeniedEntry]:
    return {digest: entry for digest in state.manifests if (entry := denied.manifest("", digest))}


def _alone(state: RepositoryState, gone: dict[Digest, DeniedEntry], digest: Digest) -> DeniedEntry | None:
    having = [one for one, link in state.manifests.items() if digest in link.refs]
    return gone[having[0]] if having and gone.keys() >= {*having} else None
