"""Blobs in `local` that only images have which were taken down: where the record was lost they are still there."""

from __future__ import annotations

import asyncio
from typing import Final

from mirrord.blobs.repositories import RepositoryState
from mirrord.model.digest import Digest
from mirrord.names.denied import Denied, DeniedEntry
from mirrord.syncer.values import Services

_REMEMBERED: Final = 65536


class DeniedBlobs:
    """One for all requests: `services.once(DeniedBlobs)`.

    It knows repositories that have nothing of what is denied: no run brings that, so nobody looks again.
    """

    def __init__(self, _: Services) -> None:
        """Know of none."""
        self._denied: Denied | None = None
        self._free = set[str]()

    async def denying(self, name: str, digest: Digest, services: Services) -> DeniedEntry | None:
        """Return the entry because of which a repository gives no client a blob that it links, or None.

        A blob is not denied by itself: it is given as soon as one manifest there that is not denied refers to it.
        """
        denied, repositories = services.denied, services.repositories
        if denied is None or repositories is None:
            return None
        if denied is not self._denied or len(self._free) >= _REMEMBERED:
            self._denied, self._free = denied, set()
        free = self._free  # that of `denied`, also when another one comes meanwhile
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
