"""Archives that `local` shows no more, kept for some time: a restore would find them nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from mirrord.blobs.repositories import Repositories, RepositoryState
from mirrord.blobs.store import BlobStore
from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import EARLIER, PROVENANCE, item_of

KEPT: Final = timedelta(days=30)


async def keep_earlier(
    repositories: Repositories,
    store: BlobStore,
    repository: str,
    shown: Mapping[str, Digest],
    *,
    now: float,
    denied: Callable[[str, Digest], object] | None = None,
) -> None:
    """Name the archives that are about to lose their names, with their provenance, and forget those of long ago.

    Args:
        repositories: of `local`.
        store: the content of `local`.
        repository: of the mirror.
        shown: the names that it will have.
        now: Unix time.
        denied: whether an item and the digest of its archive were taken down: that is not kept.

    Raises:
        StorageError: the disk said no.
    """
    old = await repositories.state(repository) or RepositoryState()
    place = f"{repository}/{EARLIER}"
    kept = await repositories.state(place) or RepositoryState()
    oldest = now - KEPT.total_seconds()

    def found() -> tuple[Mapping[str, Digest], Mapping[str, Digest]]:
        fresh: dict[str, Digest] = {}
        for name, digest in old.tags.items():
            if name.endswith(".tgz") and shown.get(name) != digest and not (denied and denied(item_of(name), digest)):
                fresh[f"{digest.hex}.tgz"] = digest
                if (prov := old.tags.get(f"{name}{PROVENANCE}")) is not None:
                    fresh[f"{digest.hex}.tgz{PROVENANCE}"] = prov
        past = {name: one for name, one in kept.tags.items() if kept.tagged.get(name, oldest) < oldest}
        return fresh, {name: one for name, one in past.items() if name not in fresh}

    fresh, past = await asyncio.to_thread(found)
    if not fresh and not past:
        return
    with repositories.lease() as lease:
        await lease.hold(fresh.values())
        missing = await store.missing(fresh.values())
        fresh = {name: digest for name, digest in fresh.items() if digest not in missing}
        links = {digest: old.manifests[digest] for digest in fresh.values()}
        stay = {name: digest for name, digest in kept.tags.items() if name not in past and name not in fresh}
        left, revision = {digest: kept.manifests[digest] for digest in stay.values()}, kept.revision
        if len(stay) < len(kept.tags):  # a name that comes again counts from now: its old time has to go first
            revision = await repositories.publish(place, left, stay, exactly=True, expect=revision)
        await repositories.publish(place, {**left, **links}, {**stay, **fresh}, exactly=True, expect=revision)
