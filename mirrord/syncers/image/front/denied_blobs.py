"""Blobs in `local` that only images have which were taken down: where the record was lost they are still there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

from mirrord.blobs.repositories import RepositoryState
from mirrord.keyedlock import KeyedLock
from mirrord.model.digest import Digest
from mirrord.names.denied import Denied, DeniedEntry
from mirrord.syncer.values import Services

_REMEMBERED: Final = 65536


class _Alone(NamedTuple):
    """What a repository has of what is denied, at one revision: nothing at any, where it has no such manifest."""

    revision: str
    blobs: Mapping[Digest, DeniedEntry] | None


class DeniedBlobs:
    """One for all requests: `services.once(DeniedBlobs)`.

    It remembers what repositories have of what is denied. Those that have nothing are not looked at again: no run
    brings it. A look takes a step for each manifest and for all that it refers to, so that not each pull causes one.
    """

    def __init__(self, _: Services) -> None:
        """Know of none."""
        self._denied: Denied | None = None
        self._known = dict[str, _Alone]()
        self._looking = KeyedLock()

    async def denying(self, name: str, digest: Digest, services: Services) -> DeniedEntry | None:
        """Return the entry because of which a repository gives no client a blob that it links, or None.

        A blob is not denied by itself: it is given as soon as one manifest there that is not denied refers to it.
        """
        denied, repositories = services.denied, services.repositories
        if denied is None or repositories is None:
            return None
        if denied is not self._denied or len(self._known) >= _REMEMBERED:
            self._denied, self._known = denied, {}
        known = self._known  # that of `denied`, also when another one comes meanwhile
        found = known.get(name)
        if found is not None and found.blobs is None:
            return None
        if (state := await repositories.state(name)) is None:
            return None
        async with self._looking.hold(name):  # of many clients one looks
            found = known.get(name)
            if found is None or (found.blobs is not None and found.revision != state.revision):
                found = known[name] = _Alone(state.revision, await asyncio.to_thread(_alone, state, denied))
        return found.blobs.get(digest) if found.blobs else None


def _alone(state: RepositoryState, denied: Denied) -> Mapping[Digest, DeniedEntry] | None:
    """Return what only manifests refer to that are denied; None where no manifest is."""
    gone = {digest: entry for digest in state.manifests if (entry := denied.manifest("", digest))}
    if not gone:
        return None
    found = {blob: entry for digest, entry in gone.items() for blob in state.manifests[digest].refs}
    for digest, link in state.manifests.items():
        if digest not in gone:
            for blob in link.refs:
                found.pop(blob, None)
    return found
