"""Opens what `local` is kept in: a bucket, or else the state directory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mirrord.blobs import reserve
from mirrord.blobs.collector import CollectedRepositories, CollectedStore, Collector
from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.repositories import Repositories
from mirrord.blobs.store import BlobStore
from mirrord.blobs.uses import ContentUses, DiskUses
from mirrord.config.load import Configuration
from mirrord.daemon.replica import name_of
from mirrord.events import Events
from mirrord.model.remote import SharedCacheFailed
from mirrord.syncer.values import Services

if TYPE_CHECKING:
    from mirrord.blobs.shared_cache import SharedCache


async def open_local(
    configuration: Configuration, root: Path, events: Events
) -> tuple[BlobStore, Repositories, ContentUses]:
    """Open where `local` is. In the state directory leftovers of a crash are swept."""
    if (address := configuration.bucket) is not None:
        from mirrord.blobs.s3 import S3Store  # noqa: PLC0415 - one machine needs none of these
        from mirrord.blobs.s3_repositories import S3Repositories  # noqa: PLC0415 - only who has a bucket loads it
        from mirrord.blobs.s3_uses import SharedUses  # noqa: PLC0415 - only who has a bucket loads it
        from mirrord.wire.bucket import ObjectBucket  # noqa: PLC0415 - only who has a bucket loads it

        objects = ObjectBucket(address, tell=events.emit)
        store = S3Store(objects, redirect=address.redirect)
        await store.open_()
        uses = SharedUses(objects, await asyncio.to_thread(name_of, root))
        return store, S3Repositories(objects, confirm=store.confirm), uses
    ease = partial(reserve.ease, root)
    blobs, repositories = DiskStore(root / "blobs", ease), DiskRepositories(root / "repositories", ease=ease)
    await asyncio.to_thread(repositories.sweep)
    await asyncio.to_thread(blobs.sweep, await repositories.linked())
    return blobs, repositories, DiskUses(blobs.place)


async def sharing(configuration: Configuration, root: Path, events: Events) -> Callable[[str], SharedCache] | None:
    """Return what opens the shared part of the cache of a kind: in the bucket, below `cache/<kind>`."""
    if (address := configuration.bucket) is None:
        return None
    from mirrord.blobs.shared_cache import SharedCache  # noqa: PLC0415 - only who has a bucket loads it
    from mirrord.wire.bucket import BucketPatience, ObjectBucket  # noqa: PLC0415 - only who has a bucket loads it

    name = await asyncio.to_thread(name_of, root)
    hurried = BucketPatience(stalled=10.0, attempts=2, whole=6.0)  # it can be read from upstream, too

    def failed(message: str) -> None:
        events.emit(SharedCacheFailed(message))

    def opened(kind: str) -> SharedCache:
        below = replace(address, prefix=f"{address.prefix}/cache/{kind}".lstrip("/"))
        return SharedCache(ObjectBucket(below, hurried, tell=events.emit), name, tell=failed)

    return opened


def collector_of(services: Services, *, shared: bool) -> Collector | None:
    """Return what collects the content of `local`: that of `open_local` can be collected.

    Args:
        services: have it.
        shared: whether it is in a bucket, where others may use it, too.
    """
    store, repositories, uses = services.blobs, services.repositories, services.uses
    if store is None or repositories is None or uses is None:
        return None
    some = cast("CollectedStore", store), cast("CollectedRepositories", repositories), uses
    return Collector(*some, services.spools.cache.give_up, shared=shared)
